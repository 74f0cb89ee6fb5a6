#include "engine/shell/http/response_reader.h"

#include <algorithm>
#include <array>
#include <optional>

#include "engine/pure/ascii.h"

namespace postbag {
namespace {

constexpr std::string_view head_end = "\r\n\r\n";
constexpr std::string_view version_prefix = "HTTP/1.";

constexpr std::array<bool, 256> make_token_table() {
  std::array<bool, 256> table{};
  for (char c = 'a'; c <= 'z'; ++c) table[static_cast<unsigned char>(c)] = true;
  for (char c = 'A'; c <= 'Z'; ++c) table[static_cast<unsigned char>(c)] = true;
  for (char c = '0'; c <= '9'; ++c) table[static_cast<unsigned char>(c)] = true;
  for (const char c : std::string_view("!#$%&'*+-.^_`|~"))
    table[static_cast<unsigned char>(c)] = true;
  return table;
}
constexpr std::array<bool, 256> token_table = make_token_table();

bool is_token_char(char c) {
  return token_table[static_cast<unsigned char>(c)];
}

// An object, not a function: algorithms inline it.
constexpr auto is_control = [](char c) {
  const auto byte = static_cast<unsigned char>(c);
  return (byte < 0x20 && byte != '\t') || byte == 0x7f;
};

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

int hex_value(char c) {
  if (is_digit(c)) return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

std::string_view trim(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}

// Calls `visit` with each member of a comma-separated list until it returns false.
template <typename Visit>
bool for_each_member(std::string_view list, Visit visit) {
  while (true) {
    const std::size_t comma = list.find(',');
    if (!visit(trim(list.substr(0, comma)))) return false;
    if (comma == std::string_view::npos) return true;
    list.remove_prefix(comma + 1);
  }
}

std::optional<std::uint64_t> parse_length(std::string_view digits) {
  if (digits.empty() || digits.size() > 18) return std::nullopt;
  std::uint64_t value = 0;
  for (const char c : digits) {
    if (!is_digit(c)) return std::nullopt;
    value = value * 10 + static_cast<std::uint64_t>(c - '0');
  }
  return value;
}

}  // namespace

struct ResponseReader::HeadFacts {
  bool http_1_0 = false;
  bool close = false;
  bool keep_alive = false;
  bool has_transfer_encoding = false;
  bool chunked = false;  // the one and only transfer coding
  std::optional<std::uint64_t> length;
};

void ResponseReader::reset() {
  phase_ = Phase::head;
  body_kind_ = BodyKind::none;
  chunk_state_ = ChunkState::size;
  error_ = Reason::none;
  has_bytes_ = false;
  reusable_ = false;
  body_complete_ = false;
  chunk_size_seen_ = false;
  status_ = 0;
  informational_ = 0;
  informational_bytes_ = 0;
  scanned_ = 0;
  body_seen_ = 0;
  remaining_ = 0;
  error_text_ = "";
  held_.clear();
  headers_.clear();
  excerpt_.clear();
}

ResponseReader::Progress ResponseReader::fail(Reason reason, const char* text) {
  error_ = reason;
  error_text_ = text;
  reusable_ = false;
  return Progress::failed;
}

ResponseReader::Progress ResponseReader::feed(std::string_view bytes) {
  const bool is_first = !has_bytes_;
  if (is_first && !known_.empty() && bytes == known_) {
    has_bytes_ = true;
    status_ = known_status_;
    phase_ = Phase::body;
    body_complete_ = true;
    reusable_ = true;
    return Progress::done;
  }
  const Progress progress = parse(bytes);
  if (is_first && progress == Progress::done && success() && reusable_ &&
      bytes.size() <= response_known_bytes_max) {
    known_.assign(bytes);
    known_status_ = status_;
  }
  return progress;
}

ResponseReader::Progress ResponseReader::parse(std::string_view bytes) {
  if (error_ != Reason::none) return Progress::failed;
  has_bytes_ = has_bytes_ || !bytes.empty();
  if (held_.empty()) return consume(bytes);
  std::string all;
  all.swap(held_);
  all.append(bytes);
  return consume(all);
}

ResponseReader::Progress ResponseReader::finish() {
  if (error_ != Reason::none) return Progress::failed;
  if (phase_ == Phase::head) {
    if (held_.empty()) return fail(Reason::closed_no_response, "closed without a final answer");
    return fail(Reason::truncated_header, "closed inside the response head");
  }
  reusable_ = false;
  return Progress::done;
}

ResponseReader::Progress ResponseReader::consume(std::string_view bytes) {
  while (phase_ == Phase::head) {
    const std::size_t end = bytes.find(head_end, scanned_);
    if (end == std::string_view::npos) return hold(bytes);
    const std::size_t head_bytes = end + head_end.size();
    if (head_bytes > response_head_bytes_max)
      return fail(Reason::header_limit, "response head too large");
    if (!parse_head(bytes.substr(0, head_bytes))) return Progress::failed;
    bytes.remove_prefix(head_bytes);
    scanned_ = 0;
  }
  return consume_body(bytes);
}

// Keeps an incomplete head, after a look at what can be seen to be wrong already: a peer that
// speaks another protocol would otherwise be waited for until the timeout.
ResponseReader::Progress ResponseReader::hold(std::string_view bytes) {
  const std::size_t prefix = std::min(bytes.size(), version_prefix.size());
  if (bytes.substr(0, prefix) != version_prefix.substr(0, prefix)) {
    return fail(Reason::bad_response, "not an HTTP/1.1 answer");
  }
  for (std::size_t i = scanned_; i < bytes.size(); ++i) {
    const char c = bytes[i];
    const bool bare_lf = c == '\n' && (i == 0 || bytes[i - 1] != '\r');
    const bool bare_cr = c != '\n' && i > 0 && bytes[i - 1] == '\r';
    if (bare_lf || bare_cr || (is_control(c) && c != '\r' && c != '\n')) {
      return fail(Reason::bad_framing, "bare line break or control character in the response head");
    }
  }
  if (bytes.size() > response_head_bytes_max)
    return fail(Reason::header_limit, "response head too large");
  scanned_ = bytes.size() < head_end.size() ? 0 : bytes.size() - (head_end.size() - 1);
  held_.assign(bytes);
  return Progress::need_more;
}

// `block` ends with the empty line. Takes an interim answer (1xx) by staying in Phase::head.
bool ResponseReader::parse_head(std::string_view block) {
  HeadFacts facts;
  std::string_view fields = block.substr(0, block.size() - 2);  // every line ends with CRLF
  const std::size_t first_end = fields.find('\n');
  if (!parse_status_line(fields.substr(0, first_end), facts)) return false;
  fields.remove_prefix(first_end + 1);

  std::string_view rest = fields;
  for (int count = 0; !rest.empty(); ++count) {
    if (count == response_fields_max) {
      fail(Reason::header_limit, "too many response header fields");
      return false;
    }
    const std::size_t end = rest.find('\n');
    if (!parse_field(rest.substr(0, end), facts)) return false;
    rest.remove_prefix(end + 1);
  }

  if (status_ == 101) {
    fail(Reason::bad_protocol, "switches protocols unasked");
    return false;
  }
  if (status_ < 200) {
    informational_bytes_ += block.size();
    if (++informational_ > response_informational_max ||
        informational_bytes_ > response_informational_bytes_max) {
      fail(Reason::too_many_1xx, "too many interim answers");
      return false;
    }
    return true;
  }
  if (!decide_framing(facts)) return false;
  phase_ = Phase::body;
  if (!success()) {
    const std::size_t cut = fields.size() <= response_excerpt_bytes_max
                                ? fields.size()
                                : fields.rfind('\n', response_excerpt_bytes_max - 1) + 1;
    headers_.assign(fields.substr(0, cut));
  }
  return true;
}

bool ResponseReader::parse_status_line(std::string_view line, HeadFacts& facts) {
  const bool has_cr = !line.empty() && line.back() == '\r';
  if (has_cr) line.remove_suffix(1);
  const bool shaped = line.size() >= 12 && line.starts_with(version_prefix) && is_digit(line[7]) &&
                      line[8] == ' ' && is_digit(line[9]) && is_digit(line[10]) &&
                      is_digit(line[11]) && (line.size() == 12 || line[12] == ' ');
  if (!shaped) {
    fail(Reason::bad_response, "not an HTTP/1.1 status line");
    return false;
  }
  status_ = (line[9] - '0') * 100 + (line[10] - '0') * 10 + (line[11] - '0');
  if (status_ < 100 || status_ > 599) {
    fail(Reason::bad_response, "status code out of range");
    return false;
  }
  if (!has_cr || std::any_of(line.begin() + 12, line.end(), is_control)) {
    fail(Reason::bad_framing, "bare line break or control character in the status line");
    return false;
  }
  facts.http_1_0 = line[7] == '0';
  return true;
}

bool ResponseReader::parse_field(std::string_view line, HeadFacts& facts) {
  const auto bad = [this](const char* text) {
    fail(Reason::bad_framing, text);
    return false;
  };
  if (line.empty() || line.back() != '\r') return bad("bare line break in the response head");
  line.remove_suffix(1);
  std::size_t colon = 0;
  while (colon < line.size() && is_token_char(line[colon])) ++colon;
  if (colon == 0 || colon == line.size() || line[colon] != ':') {
    return bad("folded or malformed response header field");
  }
  const std::string_view name = line.substr(0, colon);
  const std::string_view raw_value = line.substr(colon + 1);
  if (std::any_of(raw_value.begin(), raw_value.end(), is_control)) {
    return bad("control character in a response header field");
  }
  if (name.size() == 14 && equal_ignoring_case(name, "content-length")) {
    // A list of equal numbers is one number that a proxy has merged (RFC 9110 8.6).
    const bool consistent = for_each_member(trim(raw_value), [&](std::string_view member) {
      const std::optional<std::uint64_t> length = parse_length(member);
      if (!length || (facts.length && *facts.length != *length)) return false;
      facts.length = length;
      return true;
    });
    if (!consistent) return bad("bad or contradictory Content-Length");
  } else if (name.size() == 10 && equal_ignoring_case(name, "connection")) {
    for_each_member(trim(raw_value), [&](std::string_view member) {
      facts.close = facts.close || equal_ignoring_case(member, "close");
      facts.keep_alive = facts.keep_alive || equal_ignoring_case(member, "keep-alive");
      return true;
    });
  } else if (name.size() == 17 && equal_ignoring_case(name, "transfer-encoding")) {
    facts.chunked = !facts.has_transfer_encoding && equal_ignoring_case(trim(raw_value), "chunked");
    facts.has_transfer_encoding = true;
  }
  return true;
}

bool ResponseReader::decide_framing(const HeadFacts& facts) {
  if (facts.has_transfer_encoding && (facts.length || facts.http_1_0)) {
    fail(Reason::bad_framing, "Transfer-Encoding beside Content-Length or in HTTP/1.0");
    return false;
  }
  reusable_ = facts.http_1_0 ? facts.keep_alive && !facts.close : !facts.close;
  if (status_ == 204 || status_ == 304) {
    body_kind_ = BodyKind::none;
    // Who announces a body here may send it, and it must not be taken for the next answer.
    if (facts.has_transfer_encoding || facts.length.value_or(0) > 0) reusable_ = false;
  } else if (facts.chunked) {
    body_kind_ = BodyKind::chunked;
  } else if (facts.length) {
    body_kind_ = BodyKind::length;
    remaining_ = *facts.length;
  } else {
    body_kind_ = BodyKind::until_close;  // codings that we do not know end here too
  }
  if (body_kind_ == BodyKind::until_close || remaining_ > response_body_bytes_max)
    reusable_ = false;
  return true;
}

// The rest of a body is read to keep the connection, or for the excerpt; else the answer ends here
// for us.
bool ResponseReader::worth_reading() const {
  if (body_complete_) return false;
  return reusable_ || (!success() && excerpt_.size() < response_excerpt_bytes_max &&
                       body_seen_ <= response_body_bytes_max);
}

ResponseReader::Progress ResponseReader::consume_body(std::string_view bytes) {
  std::size_t used = 0;
  if (!body_complete_) {
    switch (body_kind_) {
      case BodyKind::none:
        body_complete_ = true;
        break;
      case BodyKind::length:
        used = consume_length(bytes);
        break;
      case BodyKind::chunked:
        used = consume_chunked(bytes);
        break;
      case BodyKind::until_close:
        keep_excerpt(bytes);
        used = bytes.size();
        break;
    }
  }
  body_seen_ += used;
  if (used < bytes.size() || body_seen_ > response_body_bytes_max) reusable_ = false;
  return worth_reading() ? Progress::need_more : Progress::done;
}

std::size_t ResponseReader::consume_length(std::string_view bytes) {
  const std::size_t used =
      static_cast<std::size_t>(std::min<std::uint64_t>(remaining_, bytes.size()));
  keep_excerpt(bytes.substr(0, used));
  remaining_ -= used;
  body_complete_ = remaining_ == 0;
  return used;
}

// Stops in front of the first byte that is wrong; the connection is not used again then.
std::size_t ResponseReader::consume_chunked(std::string_view bytes) {
  std::size_t used = 0;
  while (used < bytes.size() && !body_complete_) {
    if (chunk_state_ == ChunkState::data) {
      const std::size_t run =
          static_cast<std::size_t>(std::min<std::uint64_t>(remaining_, bytes.size() - used));
      keep_excerpt(bytes.substr(used, run));
      remaining_ -= run;
      used += run;
      if (remaining_ == 0) chunk_state_ = ChunkState::data_cr;
      continue;
    }
    if (!chunk_step(bytes[used])) {
      reusable_ = false;
      body_complete_ = true;
      return used;
    }
    ++used;
  }
  return used;
}

bool ResponseReader::chunk_step(char c) {
  const auto expect = [&](char wanted, ChunkState next) {
    chunk_state_ = next;
    return c == wanted;
  };
  switch (chunk_state_) {
    case ChunkState::size:
      if (const int digit = hex_value(c); digit >= 0) {
        if (remaining_ > response_body_bytes_max) return false;  // more than is ever read
        remaining_ = remaining_ * 16 + static_cast<std::uint64_t>(digit);
        chunk_size_seen_ = true;
        return true;
      }
      if (!chunk_size_seen_) return false;
      if (c == '\r') return expect('\r', ChunkState::size_lf);
      chunk_state_ = ChunkState::extension;
      return c == ';' || c == ' ' || c == '\t';
    case ChunkState::extension:
      if (c == '\r') chunk_state_ = ChunkState::size_lf;
      return c == '\r' || !is_control(c);
    case ChunkState::size_lf:
      chunk_size_seen_ = false;
      return expect('\n', remaining_ == 0 ? ChunkState::trailer_start : ChunkState::data);
    case ChunkState::data:
      return false;
    case ChunkState::data_cr:
      return expect('\r', ChunkState::data_lf);
    case ChunkState::data_lf:
      return expect('\n', ChunkState::size);
    case ChunkState::trailer_start:
      if (c == '\r') return expect('\r', ChunkState::end_lf);
      chunk_state_ = ChunkState::trailer;
      return is_token_char(c);
    case ChunkState::trailer:
      if (c == '\r') chunk_state_ = ChunkState::trailer_lf;
      return c == '\r' || !is_control(c);
    case ChunkState::trailer_lf:
      return expect('\n', ChunkState::trailer_start);
    case ChunkState::end_lf:
      body_complete_ = c == '\n';
      return body_complete_;
  }
  return false;
}

void ResponseReader::keep_excerpt(std::string_view bytes) {
  if (success() || excerpt_.size() >= response_excerpt_bytes_max) return;
  excerpt_.append(bytes.substr(0, response_excerpt_bytes_max - excerpt_.size()));
}

}  // namespace postbag

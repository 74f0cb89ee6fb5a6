#include "cli/intake/request_head.h"

#include <array>
#include <cstring>

#include "engine/pure/ascii.h"

namespace postbag {
namespace {

constexpr std::array<bool, 256> make_token_table() {
  std::array<bool, 256> table{};
  for (int c = '0'; c <= '9'; ++c) table[static_cast<std::size_t>(c)] = true;
  for (int c = 'a'; c <= 'z'; ++c) table[static_cast<std::size_t>(c)] = true;
  for (int c = 'A'; c <= 'Z'; ++c) table[static_cast<std::size_t>(c)] = true;
  for (const char c : std::string_view("!#$%&'*+-.^_`|~"))
    table[static_cast<std::size_t>(c)] = true;
  return table;
}
constexpr std::array<bool, 256> token_table = make_token_table();

bool is_token_char(char c) {
  return token_table[static_cast<unsigned char>(c)];
}

bool is_token(std::string_view text) {
  for (const char c : text) {
    if (!is_token_char(c)) return false;
  }
  return !text.empty();
}

std::string_view trim(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}

// HTAB, SP, visible ASCII and obs-text: CR, LF, NUL and all other controls are refused.
bool is_field_value(std::string_view text) {
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if ((byte < 0x20 && byte != '\t') || byte == 0x7f) return false;
  }
  return true;
}

// Takes a line off the front, without its CRLF. Nothing if no CRLF is left.
std::optional<std::string_view> take_line(std::string_view& text) {
  const auto* end = static_cast<const char*>(std::memchr(text.data(), '\n', text.size()));
  if (end == nullptr || end == text.data() || end[-1] != '\r') return {};
  const auto length = static_cast<std::size_t>(end - text.data());
  const std::string_view line = text.substr(0, length - 1);
  text.remove_prefix(length + 1);
  return line;
}

std::optional<HeadError> parse_request_line(std::string_view line, RequestHead& head) {
  const std::size_t first = line.find(' ');
  const std::size_t last = line.rfind(' ');
  if (first == std::string_view::npos || first == last) {
    return HeadError{400, "the request line is not METHOD TARGET VERSION"};
  }
  head.method = line.substr(0, first);
  head.target = line.substr(first + 1, last - first - 1);
  const std::string_view version = line.substr(last + 1);
  if (!is_token(head.method)) return HeadError{400, "the method is not a token"};
  if (head.target.empty() || head.target.front() != '/') {
    return HeadError{400, "the request target does not begin with '/'"};
  }
  for (const char c : head.target) {
    if (c <= 0x20 || c >= 0x7f || c == '#') {
      return HeadError{400, "the request target has a character that it may not have"};
    }
  }
  if (version == "HTTP/1.1") {
    head.minor_version = 1;
  } else if (version == "HTTP/1.0") {
    head.minor_version = 0;
  } else if (version.starts_with("HTTP/") && version.size() == 8) {
    return HeadError{505, "only HTTP/1.1 and HTTP/1.0 are served"};
  } else {
    return HeadError{400, "the request line does not end with an HTTP version"};
  }
  return {};
}

std::optional<HeadError> parse_field(std::string_view line, RequestHead& head) {
  if (line.front() == ' ' || line.front() == '\t') {
    return HeadError{400, "a header is folded over lines"};
  }
  const std::size_t colon = line.find(':');
  if (colon == std::string_view::npos || !is_token(line.substr(0, colon))) {
    return HeadError{400, "a header name is not a token followed by ':'"};
  }
  const std::string_view value = trim(line.substr(colon + 1));
  if (!is_field_value(value)) return HeadError{400, "a header value has a control character"};
  if (head.fields.size() == head_fields_max) return HeadError{431, "too many header fields"};
  head.fields.push_back({line.substr(0, colon), value});
  return {};
}

// Host = uri-host [":" port]; what can only be an attempt to say two things at once is refused.
bool is_host(std::string_view value) {
  for (const char c : value) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte <= 0x20 || byte >= 0x7f) return false;
    if (std::strchr("\"#,/<>?@\\^`{|}", c) != nullptr) return false;
  }
  return true;
}

struct Framing {
  std::size_t hosts = 0, lengths = 0, encodings = 0, expects = 0;
  bool close = false, persist = false;
};

void read_connection_options(std::string_view value, Framing& framing) {
  while (!value.empty()) {
    const std::size_t comma = value.find(',');
    const std::string_view option = trim(value.substr(0, comma));
    if (equal_ignoring_case(option, "close")) framing.close = true;
    if (equal_ignoring_case(option, "keep-alive")) framing.persist = true;
    if (comma == std::string_view::npos) return;
    value.remove_prefix(comma + 1);
  }
}

// 1 to 18 digits, so that no sum overflows.
std::optional<std::uint64_t> parse_length(std::string_view value) {
  if (value.empty() || value.size() > 18) return {};
  std::uint64_t length = 0;
  for (const char c : value) {
    if (c < '0' || c > '9') return {};
    length = length * 10 + static_cast<std::uint64_t>(c - '0');
  }
  return length;
}

std::optional<HeadError> read_field(const HeaderField& field, RequestHead& head, Framing& framing) {
  // The first letter spares most fields the comparisons.
  switch (ascii_lower(field.name.front())) {
    case 'h':
      if (!equal_ignoring_case(field.name, "host")) break;
      ++framing.hosts;
      if (!is_host(field.value)) return HeadError{400, "the Host header is not a host"};
      break;
    case 't':
      if (!equal_ignoring_case(field.name, "transfer-encoding")) break;
      ++framing.encodings;
      if (!equal_ignoring_case(field.value, "chunked")) {
        return HeadError{400, "Transfer-Encoding is not exactly 'chunked'"};
      }
      head.chunked = true;
      break;
    case 'c':
      if (equal_ignoring_case(field.name, "content-length")) {
        ++framing.lengths;
        head.content_length = parse_length(field.value);
        if (!head.content_length) return HeadError{400, "Content-Length is not a number"};
      } else if (equal_ignoring_case(field.name, "content-encoding")) {
        head.content_encoded = true;
      } else if (equal_ignoring_case(field.name, "connection")) {
        read_connection_options(field.value, framing);
      }
      break;
    case 'e':
      if (!equal_ignoring_case(field.name, "expect")) break;
      ++framing.expects;
      if (!equal_ignoring_case(field.value, "100-continue")) {
        return HeadError{417, "Expect is not '100-continue'"};
      }
      head.expect_continue = true;
      break;
    default:
      break;
  }
  return {};
}

std::optional<HeadError> check_framing(RequestHead& head) {
  Framing framing;
  for (const HeaderField& field : head.fields) {
    if (const auto error = read_field(field, head, framing)) return error;
  }
  if (framing.hosts > 1) return HeadError{400, "more than one Host header"};
  if (framing.hosts == 0 && head.minor_version == 1) return HeadError{400, "no Host header"};
  if (framing.lengths > 1) return HeadError{400, "more than one Content-Length"};
  if (framing.encodings > 1) return HeadError{400, "more than one Transfer-Encoding"};
  if (framing.encodings > 0 && framing.lengths > 0) {
    return HeadError{400, "both Transfer-Encoding and Content-Length"};
  }
  if (framing.encodings > 0 && head.minor_version == 0) {
    return HeadError{400, "Transfer-Encoding with HTTP/1.0"};
  }
  if (framing.expects > 0 && head.minor_version == 0) head.expect_continue = false;
  head.keep_alive = !framing.close && (head.minor_version == 1 || framing.persist);
  return {};
}

}  // namespace

HeadEnd find_head_end(std::string_view arrived, std::size_t& scanned) {
  using State = HeadEnd::State;
  if (!arrived.empty() && !is_token_char(arrived.front())) return {State::bad, 0};
  while (scanned < arrived.size()) {
    const char* from = arrived.data() + scanned;
    const auto* end = static_cast<const char*>(std::memchr(from, '\n', arrived.size() - scanned));
    if (end == nullptr) {
      scanned = arrived.size();
      return {};
    }
    const auto at = static_cast<std::size_t>(end - arrived.data());
    if (at == 0 || arrived[at - 1] != '\r') return {State::bad, 0};
    scanned = at + 1;
    if (at >= 3 && arrived[at - 2] == '\n') return {State::complete, at + 1};
  }
  return {};
}

std::optional<std::string_view> RequestHead::find(std::string_view name, std::size_t* count) const {
  std::optional<std::string_view> found;
  std::size_t times = 0;
  for (const HeaderField& field : fields) {
    if (!equal_ignoring_case(field.name, name)) continue;
    ++times;
    if (!found) found = field.value;
  }
  if (count != nullptr) *count = times;
  return found;
}

std::optional<HeadError> check_request_head(std::string_view raw, RequestHead& head) {
  // The vector's memory is kept: a connection parses one head after the other into the same object.
  std::vector<HeaderField> fields = std::move(head.fields);
  fields.clear();
  head = RequestHead{};
  head.fields = std::move(fields);

  if (raw.size() > head_bytes_max) return HeadError{431, "the request head is too large"};
  const auto request_line = take_line(raw);
  if (!request_line) return HeadError{400, "a line of the head does not end with CRLF"};
  if (const auto error = parse_request_line(*request_line, head)) return error;
  for (;;) {
    const auto line = take_line(raw);
    if (!line) return HeadError{400, "a line of the head does not end with CRLF"};
    if (line->empty()) break;
    if (const auto error = parse_field(*line, head)) return error;
  }
  if (!raw.empty()) return HeadError{400, "bytes behind the head"};
  return check_framing(head);
}

}  // namespace postbag

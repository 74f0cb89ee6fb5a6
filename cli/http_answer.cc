#include "cli/http_answer.h"

#include <algorithm>
#include <charconv>
#include <utility>

#include "engine/pure/ascii.h"

namespace postbag {

namespace {

constexpr std::size_t head_bytes_max = 64 << 10;
constexpr std::size_t line_bytes_max = 256;  // of a chunk size or a trailer field
constexpr std::uint64_t length_max = 1ull << 40;

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}

bool parse_number(std::string_view text, std::uint64_t& value, int base) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, base);
  return error == std::errc() && end == text.data() + text.size() && value <= length_max;
}

}  // namespace

bool HttpAnswerDecoder::fail(std::string why) {
  state_ = State::broken;
  error_ = std::move(why);
  return false;
}

bool HttpAnswerDecoder::parse_field(std::string_view line) {
  const std::size_t colon = line.find(':');
  if (colon == std::string_view::npos || colon == 0) return fail("a header field without a name");
  const std::string_view name = line.substr(0, colon), value = trimmed(line.substr(colon + 1));
  if (equal_ignoring_case(name, "content-length")) {
    if (has_length_ || !parse_number(value, left_, 10)) return fail("a bad Content-Length");
    has_length_ = true;
  } else if (equal_ignoring_case(name, "transfer-encoding")) {
    if (!equal_ignoring_case(value, "chunked")) return fail("a bad Transfer-Encoding");
    chunked_ = true;
  } else if (equal_ignoring_case(name, "content-type")) {
    content_type_ = value;
  } else if (equal_ignoring_case(name, "connection")) {
    keep_alive_ = !equal_ignoring_case(value, "close");
  } else if (equal_ignoring_case(name, "retry-after")) {
    std::uint64_t seconds = 0;
    if (parse_number(value, seconds, 10)) {
      retry_after_s_ = static_cast<std::uint32_t>(std::min<std::uint64_t>(seconds, 3600));
    }
  }
  return true;
}

bool HttpAnswerDecoder::parse_head(std::string_view head) {
  std::size_t end = head.find("\r\n");
  const std::string_view line = head.substr(0, end);
  std::uint64_t status = 0;
  if (!line.starts_with("HTTP/1.1 ") || line.size() < 12 ||
      !parse_number(line.substr(9, 3), status, 10) || status < 100 || status > 599 ||
      (line.size() > 12 && line[12] != ' ')) {
    return fail("not an HTTP/1.1 answer");
  }
  status_ = static_cast<int>(status);
  chunked_ = has_length_ = false;
  while (end + 2 < head.size()) {
    const std::size_t start = end + 2;
    end = head.find("\r\n", start);
    if (end == start) break;
    if (!parse_field(head.substr(start, end - start))) return false;
  }
  if (chunked_ && has_length_) return fail("two body lengths");
  if (status_ < 200) {
    state_ = State::head;  // 100 Continue: the answer itself follows
  } else if (status_ == 204 || status_ == 304 || (has_length_ && left_ == 0)) {
    state_ = State::done;
  } else {
    state_ = chunked_ ? State::chunk_size : has_length_ ? State::length : State::until_end;
  }
  return true;
}

// A line of the chunked coding. False: not there yet, or broken.
bool HttpAnswerDecoder::take_line(std::string_view& line) {
  const std::size_t end = buffer_.find("\r\n");
  if (end == std::string::npos) {
    if (buffer_.size() > line_bytes_max) fail("a chunk line that is too long");
    return false;
  }
  line = std::string_view(buffer_).substr(0, end);
  return true;
}

// One step over what is buffered; `more` tells whether another one can follow. False: broken.
bool HttpAnswerDecoder::step(std::string& body, bool& more) {
  std::string_view line;
  more = false;
  switch (state_) {
    case State::head: {
      const std::size_t end = buffer_.find("\r\n\r\n");
      if (end == std::string::npos) {
        return buffer_.size() <= head_bytes_max || fail("a head that is too long");
      }
      const std::string head = buffer_.substr(0, end + 4);
      buffer_.erase(0, end + 4);
      more = true;
      return parse_head(head);
    }
    case State::length:
    case State::chunk_data: {
      const auto take = static_cast<std::size_t>(std::min<std::uint64_t>(left_, buffer_.size()));
      body.append(buffer_, 0, take);
      buffer_.erase(0, take);
      left_ -= take;
      if (left_ > 0) return true;
      state_ = state_ == State::length ? State::done : State::chunk_end;
      more = true;
      return true;
    }
    case State::chunk_size: {
      if (!take_line(line)) return state_ != State::broken;
      const std::string size(trimmed(line.substr(0, line.find(';'))));
      buffer_.erase(0, line.size() + 2);
      if (!parse_number(size, left_, 16)) return fail("a bad chunk size");
      state_ = left_ == 0 ? State::trailer : State::chunk_data;
      more = true;
      return true;
    }
    case State::chunk_end:
      if (buffer_.size() < 2) return true;
      if (!buffer_.starts_with("\r\n")) return fail("a chunk without its end");
      buffer_.erase(0, 2);
      state_ = State::chunk_size;
      more = true;
      return true;
    case State::trailer: {
      if (!take_line(line)) return state_ != State::broken;
      if (line.empty()) state_ = State::done;
      buffer_.erase(0, line.size() + 2);
      more = true;
      return true;
    }
    case State::until_end:
      body += buffer_;
      buffer_.clear();
      return true;
    case State::done:
      return buffer_.empty() || fail("bytes behind the answer");
    case State::broken:
      break;
  }
  return false;
}

bool HttpAnswerDecoder::feed(std::string_view bytes, std::string& body) {
  if (state_ == State::broken) return false;
  buffer_ += bytes;
  for (bool more = true; more;) {
    if (!step(body, more)) return false;
  }
  return true;
}

bool HttpAnswerDecoder::end() {
  if (state_ == State::until_end) state_ = State::done;
  if (state_ == State::done) return true;
  if (state_ != State::broken) fail("the connection ended before the answer did");
  return false;
}

}  // namespace postbag

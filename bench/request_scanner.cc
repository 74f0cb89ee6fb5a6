#include "bench/request_scanner.h"

#include <algorithm>
#include <charconv>

namespace postbag {
namespace {

constexpr std::size_t head_bytes_max = 64 << 10;
constexpr std::uint64_t body_bytes_max = 256ull << 20;

bool same_name(std::string_view a, std::string_view lower) {
  return a.size() == lower.size() && std::equal(a.begin(), a.end(), lower.begin(),
                                                [](char x, char y) { return (x | 0x20) == y; });
}

bool parse_number(std::string_view text, std::uint64_t& out) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), out);
  return error == std::errc() && end == text.data() + text.size();
}

}  // namespace

bool RequestScanner::feed(std::string_view data,
                          const std::function<void(const CountedRequest&)>& done) {
  while (!data.empty()) {
    if (in_body_) {
      const std::size_t take = std::min<std::uint64_t>(body_left_, data.size());
      if (keep_bodies_) body_.append(data.substr(0, take));
      body_left_ -= take;
      data.remove_prefix(take);
      if (body_left_ == 0) finish(done);
      continue;
    }
    std::string_view head;
    if (partial_head_.empty()) {
      const std::size_t end = data.find("\r\n\r\n");
      if (end == data.npos) {
        partial_head_ = data;
        return partial_head_.size() <= head_bytes_max;
      }
      head = data.substr(0, end + 2);
      data.remove_prefix(end + 4);
    } else {
      // The end of the head may be split between the two pieces, so look a little back.
      const std::size_t before = partial_head_.size();
      partial_head_.append(data);
      const std::size_t end = partial_head_.find("\r\n\r\n", before < 3 ? 0 : before - 3);
      if (end == partial_head_.npos) return partial_head_.size() <= head_bytes_max;
      data.remove_prefix(end + 4 - before);
      partial_head_.resize(end + 2);
      head = partial_head_;
    }
    if (!parse_head(head)) return false;
    if (body_left_ == 0) {
      finish(done);
    } else {
      in_body_ = true;
      if (keep_bodies_) body_.reserve(body_left_);
      // The views point into `data`, which may be gone before the body is complete.
      method_ = request_.method;
      path_ = request_.path;
      request_.method = method_;
      request_.path = path_;
      partial_head_.clear();
    }
  }
  return true;
}

bool RequestScanner::parse_head(std::string_view head) {
  request_ = CountedRequest();
  body_left_ = 0;
  const std::size_t line = head.find("\r\n");
  const std::size_t space = head.find(' ');
  const std::size_t second = space == head.npos ? head.npos : head.find(' ', space + 1);
  if (second == head.npos || second > line) return false;
  request_.method = head.substr(0, space);
  request_.path = head.substr(space + 1, second - space - 1);
  head.remove_prefix(line + 2);
  while (!head.empty()) {
    const std::size_t end = head.find("\r\n");
    const std::string_view field = head.substr(0, end);
    const std::size_t colon = field.find(':');
    if (colon == field.npos) return false;
    std::string_view value = field.substr(colon + 1);
    while (!value.empty() && value.front() == ' ') value.remove_prefix(1);
    if (!parse_field(field.substr(0, colon), value)) return false;
    head.remove_prefix(end + 2);
  }
  return body_left_ <= body_bytes_max;
}

bool RequestScanner::parse_field(std::string_view name, std::string_view value) {
  switch (name.size()) {
    case 10:
      if (same_name(name, "connection")) request_.keep_alive = !same_name(value, "close");
      return true;
    case 14:
      if (!same_name(name, "content-length")) return true;
      if (!parse_number(value, body_left_)) return false;
      request_.body_bytes = body_left_;
      return true;
    case 17:
      return !same_name(name, "transfer-encoding");
    case 18:
      return !same_name(name, "postbag-batch-size") || parse_number(value, request_.batch_size);
    default:
      return true;
  }
}

void RequestScanner::finish(const std::function<void(const CountedRequest&)>& done) {
  request_.body = body_;
  in_body_ = false;
  done(request_);
  body_.clear();
  partial_head_.clear();
}

}  // namespace postbag

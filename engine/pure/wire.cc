#include "engine/pure/wire.h"

#include <algorithm>
#include <charconv>
#include <cstring>
#include <utility>
#include <vector>

#include "engine/pure/ascii.h"
#include "engine/pure/header_rules.h"
#include "engine/pure/hook_id.h"
#include "postbag/engine.h"

namespace postbag {
namespace {

void append_number(std::string& out, std::uint64_t number) {
  char digits[20];
  const auto end = std::to_chars(digits, digits + sizeof digits, number);
  out.append(digits, end.ptr);
}

// True if the header lines have one of that name.
bool names_header(std::string_view lines, std::string_view name) {
  bool found = false;
  for_each_header(lines, [&](std::string_view one, std::string_view) {
    found = found || equal_ignoring_case(one, name);
  });
  return found;
}

// What Postbag writes itself: no secret.
constexpr std::string_view own_names[] = {
    "host",           "user-agent",       "accept-encoding",    "content-type",
    "content-length", "postbag-batch-id", "postbag-batch-size", "postbag-attempt",
};

constexpr std::string_view mask = "***";
constexpr std::size_t secret_bytes_min = 4;
static_assert(mask.size() < secret_bytes_min);

struct SentFields {
  std::vector<std::string_view> names;
  std::vector<std::string_view> values;  // the longest first: one may be a part of another
};

// The fields of a request that are not Postbag's own.
SentFields sent_fields(std::string_view request_head) {
  SentFields sent;
  const std::size_t line_end = std::min(request_head.find("\r\n"), request_head.size());
  for_each_header(
      request_head.substr(line_end), [&](std::string_view name, std::string_view value) {
        const auto is_this = [&](std::string_view own) { return equal_ignoring_case(name, own); };
        if (std::any_of(std::begin(own_names), std::end(own_names), is_this)) return;
        sent.names.push_back(name);
        if (value.size() >= secret_bytes_min) sent.values.push_back(value);
        const std::size_t blank = value.find(' ');
        if (blank == std::string_view::npos) return;
        const std::size_t begin = std::min(value.find_first_not_of(' ', blank), value.size());
        const std::string_view behind_scheme = value.substr(begin);
        if (behind_scheme.size() >= secret_bytes_min) sent.values.push_back(behind_scheme);
      });
  std::sort(sent.values.begin(), sent.values.end(),
            [](std::string_view a, std::string_view b) { return a.size() > b.size(); });
  return sent;
}

void mask_values(const SentFields& sent, std::string& text) {
  for (const std::string_view value : sent.values) {
    for (std::size_t at = 0; (at = text.find(value, at)) != std::string::npos; at += mask.size()) {
      text.replace(at, value.size(), mask);
    }
    std::size_t bytes = std::min(value.size() - 1, text.size());
    while (bytes >= secret_bytes_min && !text.ends_with(value.substr(0, bytes))) --bytes;
    if (bytes >= secret_bytes_min) text.replace(text.size() - bytes, bytes, mask);
  }
}

}  // namespace

std::string request_head_start(const Url& url, const DeliveryPolicy& delivery,
                               std::string_view key_headers) {
  std::string head = "POST ";
  head += url.path_and_query;
  head += " HTTP/1.1\r\nHost: ";
  const bool is_v6 = url.literal && !url.literal->is_v4;
  head += is_v6 ? "[" + url.host + "]" : url.host;
  if (url.port != (url.scheme == "https" ? 443 : 80)) {
    head += ':';
    append_number(head, url.port);
  }
  head += "\r\n";
  for (const auto& [name, value] : delivery.headers) {
    if (!names_header(key_headers, name)) head += name + ": " + value + "\r\n";
  }
  head += key_headers;
  head.append("User-Agent: postbag/").append(version()).append("\r\n");
  head += "Accept-Encoding: identity\r\nContent-Type: application/json\r\n";
  return head;
}

void write_request_head(std::string& out, std::string_view start, const RequestHeadFields& fields) {
  // For every request: one append in the end is cheaper than one a field.
  char tail[192];
  char* at = tail;
  const auto put = [&at](std::string_view text) {
    std::memcpy(at, text.data(), text.size());
    at += text.size();
  };
  const auto put_number = [&](std::uint64_t number) {
    at = std::to_chars(at, at + 20, number).ptr;  // no 64-bit number has more
  };
  put("Postbag-Batch-Id: ");
  at = write_text(at, fields.batch_id);
  put("\r\nPostbag-Batch-Size: ");
  put_number(fields.batch_size);
  put("\r\nPostbag-Attempt: ");
  put_number(fields.attempt);
  put("\r\nContent-Length: ");
  put_number(fields.content_length);
  put("\r\n\r\n");
  out.assign(start);
  out.append(tail, at);
}

void mask_sent_values(std::string_view request_head, std::string& response_headers,
                      std::string& response_excerpt) {
  const SentFields sent = sent_fields(request_head);
  if (sent.names.empty()) return;
  mask_values(sent, response_excerpt);
  std::string masked;
  for_each_header(response_headers, [&](std::string_view name, std::string_view value) {
    std::string shown(value);
    mask_values(sent, shown);
    const auto is_this = [&](std::string_view one) { return equal_ignoring_case(name, one); };
    if (std::any_of(sent.names.begin(), sent.names.end(), is_this)) {
      shown = mask.substr(0, value.size());
    }
    // As it came, blanks too.
    masked.append(name.data(), value.data()).append(shown).append("\r\n");
  });
  response_headers = std::move(masked);
}

}  // namespace postbag

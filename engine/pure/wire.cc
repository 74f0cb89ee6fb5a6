#include "engine/pure/wire.h"

#include <algorithm>
#include <charconv>
#include <cstring>

#include "engine/pure/ascii.h"
#include "engine/pure/header_rules.h"
#include "engine/pure/hook_id.h"

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
  head += "User-Agent: postbag/" POSTBAG_VERSION "\r\n";
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

}  // namespace postbag

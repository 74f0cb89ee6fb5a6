#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "engine/pure/url.h"
#include "postbag/hook.h"
#include "postbag/policy.h"

namespace postbag {

// The part of a request head that all requests of a bag share: request line, Host, User-Agent, the
// policy's headers and the bag's own (`key_headers`, "Name: value\r\n"...), which win over the
// policy's of the same name (RFC 9112 3).
std::string request_head_start(const Url& url, const DeliveryPolicy& delivery,
                               std::string_view key_headers);

// What differs from attempt to attempt.
struct RequestHeadFields {
  HookId batch_id;
  std::uint32_t batch_size = 0;
  std::uint32_t attempt = 0;
  std::uint64_t content_length = 0;
};
// Writes the whole head, the empty line included, over `out`.
void write_request_head(std::string& out, std::string_view start, const RequestHeadFields& fields);

// Takes out of an answer what the request told in the header fields that the policy and the hook
// set: a receiver may send back what it got; the answer is kept and shown, and values of headers
// are secrets. "***" takes the place of the value of an answer's field that is named as one of
// theirs, and of each of their values wherever it stands, also cut off by the end, and without its
// scheme ("Bearer TOKEN"). What has under 4 bytes is no secret and stays: it would be found by
// chance. `request_head` is as it was sent. Neither text grows.
void mask_sent_values(std::string_view request_head, std::string& response_headers,
                      std::string& response_excerpt);

}  // namespace postbag

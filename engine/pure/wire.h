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

}  // namespace postbag

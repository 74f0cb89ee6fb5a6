#pragma once

#include <optional>
#include <string_view>

#include "cli/intake/api_error.h"
#include "cli/intake/exchange.h"
#include "cli/intake/hook_parser.h"
#include "cli/intake/request_head.h"

namespace postbag {

// What a request of POST /v1/hooks brings, by its Content-Type: hooks as JSON, or one raw payload
// whose other fields are headers. Pure; views are into the request.

// The type and subtype of a Content-Type, without its parameters (RFC 9110 section 8.3.1).
std::string_view media_type(std::string_view content_type);

// Of the head, before the body is read: 415 where nobody could say what the body is.
std::optional<ApiError> check_content(const RequestHead& head);

// The hooks, or what is wrong with the first that is.
ParsedCall parse_call_body(const Request& request);

}  // namespace postbag

#pragma once

#include <memory>
#include <optional>
#include <string_view>
#include <vector>

#include "cli/intake/api_error.h"
#include "cli/intake/request_body.h"
#include "postbag/hook.h"

namespace postbag {

// The hooks of one POST /v1/hooks. Everything in it points into the body (which `hooks` shares) and
// not one payload is copied. The payloads are validated in full (syntax, UTF-8, depth); what the
// other fields may hold the engine checks.
struct ParsedCall {
  HookList hooks;
  // The ids that the producer gave, one per hook (empty for a hook without); empty if no hook has
  // one.
  std::vector<std::string_view> ids;
  std::optional<ApiError> error;  // then `hooks` is of no use
  std::size_t error_line = 0;     // of NDJSON where a line is to blame, 1-based
};

// {"target", "data", "event", "group", "id", "headers"} or an array of such objects. 400 bad_json:
// not JSON, or a key that is unknown or repeated; 422 bad_hook: a required key is missing or a
// value has the wrong type; 422 empty: no hook at all.
ParsedCall parse_json_hooks(const std::shared_ptr<RequestBody>& body);

// One such object a line. LF or CRLF ends a line, the last one need not end; blank lines are
// skipped and not counted.
ParsedCall parse_ndjson_hooks(const std::shared_ptr<RequestBody>& body);

// What the headers say of a raw payload.
struct RawHookFields {
  std::string_view target, event, group, id, content_type;
};
// The whole body is one payload. 422 not_json if it is not JSON.
ParsedCall parse_raw_hook(const std::shared_ptr<RequestBody>& body, const RawHookFields& fields);

}  // namespace postbag

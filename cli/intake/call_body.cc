#include "cli/intake/call_body.h"

#include <algorithm>
#include <array>
#include <string>
#include <utility>

#include "engine/pure/ascii.h"
#include "engine/pure/header_rules.h"

namespace postbag {
namespace {

// Headers of a raw payload, and the keys that a hook as JSON has for them.
constexpr std::array<std::pair<std::string_view, std::string_view>, 4> raw_only = {
    {{"Postbag-Target", "target"},
     {"Postbag-Event", "event"},
     {"Postbag-Group", "group"},
     {"Idempotency-Key", "id"}}};

// A header that is misspelt, and passed over, is an event, a group or an id lost.
std::optional<ApiError> refuse_unknown_fields(const RequestHead& head) {
  constexpr std::string_view prefix = "postbag-";
  for (const HeaderField& field : head.fields) {
    if (!equal_ignoring_case(field.name.substr(0, prefix.size()), prefix)) continue;
    const auto is_this = [&](const auto& one) {
      return equal_ignoring_case(field.name, one.first);
    };
    if (std::any_of(raw_only.begin(), raw_only.end(), is_this)) continue;
    return ApiError{422, "bad_hook",
                    "a raw payload has an unknown Postbag-* header; known are Postbag-Target, "
                    "Postbag-Event and Postbag-Group, and Idempotency-Key for its id",
                    0};
  }
  return {};
}

std::optional<ApiError> take_raw_fields(const RequestHead& head, RawHookFields& fields) {
  if (auto error = refuse_unknown_fields(head)) return error;
  const auto take = [&](std::string_view name, std::string_view& out) {
    std::size_t count = 0;
    out = head.find(name, &count).value_or("");
    return count < 2;
  };
  if (take("postbag-target", fields.target) && take("postbag-event", fields.event) &&
      take("postbag-group", fields.group) && take("idempotency-key", fields.id)) {
    if (!head.find("idempotency-key")) return {};
    // As "id": "" is: the producer means to repeat the call, and could not.
    if (fields.id.empty()) return ApiError{422, "bad_hook", "Idempotency-Key is empty", 0};
    // Others take a quoted string there.
    if (is_valid_hook_id(fields.id)) return {};
    return ApiError{422, "bad_hook",
                    "Idempotency-Key must be 1 to 64 characters of A-Z a-z 0-9 _ -, without quotes",
                    0};
  }
  return ApiError{422, "bad_hook", "a Postbag-* or Idempotency-Key header stands twice", 0};
}

// Of hooks as JSON these say nothing. To pass over a key would be to deliver twice what the
// producer believes to be told apart by it.
std::optional<ApiError> refuse_raw_fields(const RequestHead& head) {
  for (const HeaderField& field : head.fields) {
    for (const auto& [name, key] : raw_only) {
      if (!equal_ignoring_case(field.name, name)) continue;
      return ApiError{422,
                      "bad_hook",
                      "the header " + std::string(name) +
                          " goes with a raw payload (Content-Type: text/plain, for one); a hook "
                          "as JSON has the key '" +
                          std::string(key) + "' for it",
                      {}};
    }
  }
  return {};
}

}  // namespace

std::string_view media_type(std::string_view content_type) {
  std::string_view type = content_type.substr(0, content_type.find(';'));
  while (!type.empty() && (type.back() == ' ' || type.back() == '\t')) type.remove_suffix(1);
  return type;
}

std::optional<ApiError> check_content(const RequestHead& head) {
  if (head.content_encoded) {
    return ApiError{415, "content_type", "a body with a Content-Encoding is not taken", {}};
  }
  std::size_t count = 0;
  const auto type = head.find("content-type", &count);
  if (count != 1 || media_type(*type).find('/') == std::string_view::npos) {
    return ApiError{415,
                    "content_type",
                    "exactly one Content-Type is needed: application/json, application/x-ndjson, "
                    "or any other for one raw JSON payload",
                    {}};
  }
  return {};
}

ParsedCall parse_call_body(const Request& request) {
  ParsedCall call;
  if (request.body == nullptr) {
    call.error = ApiError{422, "empty", "the body is empty", {}};
    return call;
  }
  const std::string_view type = request.head.find("content-type").value_or("");
  const bool is_json = equal_ignoring_case(media_type(type), "application/json");
  const bool is_ndjson = equal_ignoring_case(media_type(type), "application/x-ndjson");
  if (is_json || is_ndjson) call.error = refuse_raw_fields(request.head);
  if (call.error) return call;
  if (is_json) return parse_json_hooks(request.body);
  if (is_ndjson) {
    call = parse_ndjson_hooks(request.body);
    if (call.error_line > 0) {
      call.error->message += " (line " + std::to_string(call.error_line) + ")";
    }
    return call;
  }
  RawHookFields fields;
  fields.content_type = type;
  call.error = take_raw_fields(request.head, fields);
  return call.error ? std::move(call) : parse_raw_hook(request.body, fields);
}

}  // namespace postbag

#include "cli/intake/hook_parser.h"

#include <array>
#include <cstring>
#include <string>
#include <utility>

#include "cli/intake/json_scan.h"
#include "cli/intake/json_strings.h"
#include "cli/text/utf8.h"
#include "engine/pure/header_rules.h"
#include "postbag/json.h"

namespace postbag {
namespace {

enum Key : unsigned { key_target, key_data, key_event, key_group, key_id, key_headers, key_count };

constexpr std::array<std::string_view, key_count> key_names = {"target", "data", "event",
                                                               "group",  "id",   "headers"};

unsigned find_key(std::string_view name) {
  unsigned key = 0;
  while (key < key_count && key_names[key] != name) ++key;
  return key;
}

bool is_space(char c) {
  return c == ' ' || c == '\n' || c == '\r' || c == '\t';
}

// Parses the wrapper objects by hand, strictly, and hands each payload to the JSON checker: so each
// byte is validated once, and where a payload begins and ends is known without building a document.
class HookParser {
 public:
  HookParser(RequestBody& body, ParsedCall& call) : body_(body), call_(call) {}

  // [p, end) holds one object and blanks. False: call_.error is set.
  bool parse_line(const char* begin, const char* end) {
    p_ = begin;
    end_ = end;
    return parse_object() && expect_end();
  }

  // [begin, end) holds an object or an array of objects, and blanks.
  bool parse_document(const char* begin, const char* end) {
    p_ = begin;
    end_ = end;
    skip_space();
    if (p_ == end_) return fail(422, "empty", "the body is empty");
    if (*p_ == '{') return parse_object() && expect_end();
    if (*p_ != '[') return fail(400, "bad_json", "the body is not a JSON object or array");
    return parse_array() && expect_end();
  }

 private:
  bool fail(int status, ErrorCode code, std::string message) {
    call_.error = ApiError{status, code, std::move(message), index_};
    if (code == "empty") call_.error->index.reset();
    return false;
  }
  bool bad_json(std::string message) { return fail(400, "bad_json", std::move(message)); }
  bool bad_hook(std::string message) { return fail(422, "bad_hook", std::move(message)); }

  void skip_space() {
    while (p_ < end_ && is_space(*p_)) ++p_;
  }
  // Skips blanks, then takes `c` if it stands there.
  bool take(char c) {
    skip_space();
    if (p_ == end_ || *p_ != c) return false;
    ++p_;
    return true;
  }
  bool expect_end() {
    skip_space();
    if (p_ == end_) return true;
    return bad_json("something stands behind the JSON value");
  }

  bool parse_array() {
    ++p_;
    if (take(']')) return fail(422, "empty", "the array is empty");
    do {
      if (!parse_object()) return false;
    } while (take(','));
    if (take(']')) return true;
    return bad_json("',' or ']' is missing behind an element of the array");
  }

  bool parse_string(std::string_view& out) {
    std::string problem;
    p_ = read_json_string(p_, end_, body_, out, problem);
    if (p_ != nullptr) return true;
    return bad_json(std::move(problem));
  }

  // A member that must be a string; p_ is at its value.
  bool parse_text(Key key, std::string_view& out) {
    if (*p_ == '"') return parse_string(out);
    return bad_hook("'" + std::string(key_names[key]) + "' is not a string");
  }

  bool parse_data(HookView& hook) {
    const char* const behind = skip_json_value(p_, end_);
    if (behind == nullptr) return bad_json("the JSON text ends inside 'data'");
    hook.body = {p_, static_cast<std::size_t>(behind - p_)};
    if (auto problem = check_json(hook.body, true)) return bad_json("'data': " + *problem);
    p_ = behind;
    return true;
  }

  bool parse_headers() {
    if (*p_ != '{') return bad_hook("'headers' is not an object");
    ++p_;
    if (take('}')) return true;
    do {
      HeaderView header;
      skip_space();
      if (p_ == end_ || *p_ != '"') return bad_json("a name is missing in 'headers'");
      if (!parse_string(header.name)) return false;
      if (!take(':')) return bad_json("':' is missing in 'headers'");
      skip_space();
      if (p_ == end_) return bad_json("the JSON text ends inside 'headers'");
      if (*p_ != '"') return bad_hook("a value in 'headers' is not a string");
      if (!parse_string(header.value)) return false;
      headers_.push_back(header);
    } while (take(','));
    if (take('}')) return true;
    return bad_json("',' or '}' is missing in 'headers'");
  }

  // p_ is at the value of `key`.
  bool parse_member(Key key, HookView& hook) {
    switch (key) {
      case key_target:
        return parse_text(key, hook.target);
      case key_data:
        return parse_data(hook);
      case key_event:
        return parse_text(key, hook.event);
      case key_group:
        return parse_text(key, hook.group);
      case key_id:
        if (!parse_text(key, hook.id)) return false;
        if (!hook.id.empty()) return true;
        return bad_hook("'id' is empty");
      case key_headers:
        return parse_headers();
      case key_count:
        break;
    }
    return false;
  }

  bool parse_object() {
    HookView hook;
    unsigned seen = 0;
    headers_.clear();
    if (!take('{')) return not_an_object();
    if (!take('}')) {
      do {
        std::string_view name;
        skip_space();
        if (p_ == end_ || *p_ != '"') return bad_json("the name of a member is missing");
        if (!parse_string(name)) return false;
        const unsigned key = find_key(name);
        if (key == key_count)
          return bad_json("a hook has an unknown key; allowed are " + known_keys());
        if ((seen & (1u << key)) != 0) {
          return bad_json("'" + std::string(key_names[key]) + "' stands twice");
        }
        seen |= 1u << key;
        if (!take(':')) return bad_json("':' is missing behind the name of a member");
        skip_space();
        if (p_ == end_) return bad_json("the JSON text ends inside an object");
        if (!parse_member(static_cast<Key>(key), hook)) return false;
      } while (take(','));
      if (!take('}')) return bad_json("',' or '}' is missing behind a member");
    }
    if ((seen & (1u << key_target)) == 0) return bad_hook("'target' is missing");
    if ((seen & (1u << key_data)) == 0) return bad_hook("'data' is missing");
    hook.headers = headers_;
    add(hook);
    return true;
  }

  bool not_an_object() {
    skip_space();
    if (p_ == end_) return bad_json("the JSON text ends where a hook should begin");
    return bad_json("a hook is not a JSON object");
  }

  static std::string known_keys() {
    std::string names;
    for (const std::string_view name : key_names) {
      if (!names.empty()) names += ", ";
      names += name;
    }
    return names;
  }

  void add(const HookView& hook) {
    if (!hook.id.empty()) call_.ids.resize(index_);
    if (!hook.id.empty() || !call_.ids.empty()) call_.ids.push_back(hook.id);
    call_.hooks.add_checked_view(hook);
    ++index_;
  }

  RequestBody& body_;
  ParsedCall& call_;
  const char* p_ = nullptr;
  const char* end_ = nullptr;
  std::size_t index_ = 0;
  std::vector<HeaderView> headers_;
};

// Also the answer to whoever has hooks as JSON and a client that calls them a form.
std::string no_target(std::string_view content_type) {
  std::string text = "with ";
  if (check_content_type(content_type)) {
    text += "this Content-Type";
  } else {
    text.append("Content-Type ").append(content_type);
  }
  return text +
         " the body is one raw payload, which needs the header Postbag-Target; hooks as JSON need "
         "Content-Type application/json or application/x-ndjson";
}

ParsedCall start_call(const std::shared_ptr<RequestBody>& body) {
  ParsedCall call;
  call.hooks.adopt(body);
  return call;
}

}  // namespace

ParsedCall parse_json_hooks(const std::shared_ptr<RequestBody>& body) {
  ParsedCall call = start_call(body);
  const std::string_view text = body->view();
  HookParser(*body, call).parse_document(text.data(), text.data() + text.size());
  return call;
}

ParsedCall parse_ndjson_hooks(const std::shared_ptr<RequestBody>& body) {
  ParsedCall call = start_call(body);
  HookParser parser(*body, call);
  const std::string_view text = body->view();
  const char* const end = text.data() + text.size();
  std::size_t line = 0;
  for (const char* p = text.data(); p < end;) {
    ++line;
    const auto* newline =
        static_cast<const char*>(std::memchr(p, '\n', static_cast<std::size_t>(end - p)));
    const char* const line_end = newline != nullptr ? newline : end;
    const char* begin = p;
    while (begin < line_end && is_space(*begin)) ++begin;
    if (begin < line_end && !parser.parse_line(begin, line_end)) {
      call.error_line = line;
      return call;
    }
    p = line_end + 1;
  }
  if (call.hooks.empty()) call.error = ApiError{422, "empty", "the body holds no hook", {}};
  return call;
}

ParsedCall parse_raw_hook(const std::shared_ptr<RequestBody>& body, const RawHookFields& fields) {
  ParsedCall call = start_call(body);
  const std::string_view payload = body->view();
  if (fields.target.empty()) {
    call.error = ApiError{422, "bad_hook", no_target(fields.content_type), 0};
    return call;
  }
  if (payload.empty()) {
    call.error = ApiError{422, "empty", "the body is empty", {}};
    return call;
  }
  if (auto problem = check_json(payload, true)) {
    call.error = ApiError{422, "not_json", "the payload: " + *problem, 0};
    return call;
  }
  const auto keep = [&](std::string_view text) {
    return text.empty() ? std::string_view() : body->keep(std::string(text));
  };
  HookView hook;
  hook.target = keep(fields.target);
  hook.body = payload;
  hook.event = keep(fields.event);
  hook.group = keep(fields.group);
  hook.id = keep(fields.id);
  hook.content_type = keep(fields.content_type);
  if (!hook.id.empty()) call.ids.push_back(hook.id);
  call.hooks.add_checked_view(hook);
  return call;
}

}  // namespace postbag

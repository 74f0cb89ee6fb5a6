#include "postbag/error.h"

#include <iterator>
#include <string>

namespace postbag {
namespace {

struct Text {
  Errc errc;
  std::string_view token;
  std::string_view message;
};

constexpr Text texts[] = {
    {Errc::ok, "ok", "done"},
    {Errc::bad_hook, "bad_hook",
     "a field of the hook is missing, too long or has characters that it may not have"},
    {Errc::not_json, "not_json", "the payload is not valid JSON"},
    {Errc::empty, "empty", "there is no hook, or its payload is empty"},
    {Errc::too_large, "too_large", "the payload is larger than max_hook"},
    {Errc::url_syntax, "url_syntax", "the target is not a URL that Postbag takes"},
    {Errc::target_forbidden, "target_forbidden", "the network policy does not allow the target"},
    {Errc::header, "header", "a header name or value may not be set"},
    {Errc::id_conflict, "id_conflict", "the id is known with other content"},
    {Errc::full, "full", "a limit in count or bytes is reached; try again later"},
    {Errc::stopping, "stopping", "the engine is stopping"},
    {Errc::disk_low, "disk_low", "the store has no room"},
    {Errc::store_failed, "store_failed", "the store failed; nothing is accepted any more"},
    {Errc::store_busy, "store_busy", "another process has the store open"},
    {Errc::store_corrupt, "store_corrupt", "the store is damaged"},
    {Errc::store_newer, "store_newer", "the store was written by a later version"},
    {Errc::store_cannot_create, "store_cannot_create", "the store cannot be created"},
    {Errc::store_permission, "store_permission", "no permission to open the store"},
    {Errc::store_io, "store_io", "reading or writing the store failed"},
    {Errc::not_found, "not_found", "there is no such thing"},
};

// Few and cold: errors are rare, so a linear search will do.
const Text* find(int value) {
  for (const Text& text : texts) {
    if (static_cast<int>(text.errc) == value) return &text;
  }
  return nullptr;
}

class Category final : public std::error_category {
 public:
  const char* name() const noexcept override { return "postbag"; }
  std::string message(int value) const override {
    const Text* text = find(value);
    return text ? std::string(text->message) : "unknown error " + std::to_string(value);
  }
};

}  // namespace

const std::error_category& postbag_category() {
  static const Category category;
  return category;
}

std::error_code make_error_code(Errc errc) {
  return {static_cast<int>(errc), postbag_category()};
}

std::string_view error_token(Errc errc) {
  const Text* text = find(static_cast<int>(errc));
  return text ? text->token : "unknown";
}

}  // namespace postbag

#pragma once

#include <string_view>
#include <system_error>

namespace postbag {

// Why a call was not accepted, or a command of the engine not carried out. error_token() gives the
// stable name that intake puts in {"error": {"code": ...}}.
enum class Errc {
  ok = 0,
  // The hook is bad: repeating it as it is cannot help.
  bad_hook = 1,      // a field is missing, too long or has characters that it may not have
  not_json,          // the payload is not valid JSON (syntax, UTF-8, depth at most 64)
  empty,             // no hook, or an empty payload
  too_large,         // a payload over max_hook
  url_syntax,        // the target is not a URL that Postbag takes
  target_forbidden,  // the network policy does not allow the target
  header,            // a header name or value that may not be set
  id_conflict,       // the id is known with other content
  // Later may help.
  full = 64,     // a limit in count or bytes is reached
  stopping,      // the engine drains
  disk_low,      // the store has no room
  store_failed,  // the store failed for good; the engine accepts nothing any more
  // Store
  store_busy = 128,  // another process has it open
  store_corrupt,
  store_newer,  // written by a later version
  store_cannot_create,
  store_permission,
  store_io,
  not_found,
};

const std::error_category& postbag_category();
std::error_code make_error_code(Errc errc);
std::string_view error_token(Errc errc);

}  // namespace postbag

template <>
struct std::is_error_code_enum<postbag::Errc> : std::true_type {};

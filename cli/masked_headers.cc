#include "cli/masked_headers.h"

#include <algorithm>
#include <array>

#include "engine/pure/ascii.h"
#include "engine/pure/header_rules.h"

namespace postbag {
namespace {

constexpr std::array<std::string_view, 9> secret_names = {
    "set-cookie",       "set-cookie2",         "cookie",
    "www-authenticate", "proxy-authenticate",  "authentication-info",
    "authorization",    "proxy-authorization", "proxy-authentication-info",
};

}  // namespace

std::string mask_response_headers(std::string_view response, std::string_view sent) {
  std::string shown;
  for_each_header(response, [&](std::string_view name, std::string_view value) {
    const auto is_this = [&](std::string_view other) { return equal_ignoring_case(name, other); };
    bool is_secret = std::any_of(secret_names.begin(), secret_names.end(), is_this);
    for_each_header(sent, [&](std::string_view own, std::string_view) {
      is_secret = is_secret || is_this(own);
    });
    shown.append(name).append(": ").append(is_secret ? masked_header_value : value).append("\r\n");
  });
  return shown;
}

}  // namespace postbag

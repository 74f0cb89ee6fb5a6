#include "cli/intake/routes.h"

#include <array>

namespace postbag {
namespace {

struct RouteEntry {
  std::string_view path;
  std::string_view method;
  Route route;
  bool local_only = false;
};

constexpr std::array route_table = {
    RouteEntry{"/v1/hooks", "POST", Route::submit},
    RouteEntry{"/v1/hooks", "DELETE", Route::cancel},
    RouteEntry{"/v1/status", "GET", Route::status},
    RouteEntry{"/v1/targets", "GET", Route::targets},
    RouteEntry{"/v1/failed", "GET", Route::list_failed},
    RouteEntry{"/v1/failed", "DELETE", Route::purge_failed},
    RouteEntry{"/v1/failed/retry", "POST", Route::retry_failed},
    RouteEntry{"/v1/failed/plan", "POST", Route::plan_retry},
    RouteEntry{"/v1/flush", "POST", Route::flush},
    RouteEntry{"/v1/store/backup", "POST", Route::backup, true},
    RouteEntry{"/healthz/live", "GET", Route::live},
    RouteEntry{"/healthz/ready", "GET", Route::ready},
    RouteEntry{"/metrics", "GET", Route::metrics},
};

}  // namespace

RouteMatch find_route(std::string_view method, std::string_view path, bool local) {
  RouteMatch match;
  if (method == "HEAD") method = "GET";  // the connection leaves the body out
  for (const RouteEntry& entry : route_table) {
    if (entry.path != path || (entry.local_only && !local)) continue;
    if (entry.method == method) return {entry.route, {}};
    match.allow += (match.allow.empty() ? "" : ", ") + std::string(entry.method);
    if (entry.method == "GET") match.allow += ", HEAD";
  }
  if (path.starts_with(hook_prefix) && path.size() > hook_prefix.size()) {
    if (method == "GET") return {Route::show_hook, {}};
    match.allow = "GET, HEAD";
  }
  return match;
}

bool takes_filter(Route route) {
  return route == Route::list_failed || route == Route::purge_failed ||
         route == Route::retry_failed || route == Route::plan_retry;
}

}  // namespace postbag

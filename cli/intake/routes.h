#pragma once

#include <string>
#include <string_view>

namespace postbag {

enum class Route : unsigned {
  unknown,
  submit,
  cancel,
  show_hook,
  status,
  targets,
  list_failed,
  purge_failed,
  retry_failed,
  plan_retry,
  flush,
  backup,
  live,
  ready,
  metrics,
};

// What stands before an id in the path of Route::show_hook.
inline constexpr std::string_view hook_prefix = "/v1/hooks/";

struct RouteMatch {
  Route route = Route::unknown;
  std::string allow;  // methods of the path, where the method is not one of them
};
// `local`: over the Unix socket, which has routes of its own.
RouteMatch find_route(std::string_view method, std::string_view path, bool local);

// Whether it has a filter of failed hooks in its query.
bool takes_filter(Route route);

}  // namespace postbag

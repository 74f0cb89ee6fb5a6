#pragma once

#include <string>
#include <string_view>

#include "cli/arguments.h"
#include "cli/control_client.h"
#include "postbag/store.h"
#include "postbag/time.h"

namespace postbag {

// The typed filter as the store takes it; ages are counted back from `now_ms`. Throws CommandError
// (usage) naming the option. Pure.
FailedFilter to_failed_filter(const FilterArguments& arguments, WallMs now_ms);

// The same as a query of the daemon's routes, without "?"; empty for no filter. `limit` is not part
// of it.
std::string filter_query(const FailedFilter& filter);

// Gives the request its path and query; one that is too long for a head (many ids) goes into the
// body as a form. Keeps a view of `query`.
void set_query(ControlRequest& request, std::string_view path, const std::string& query);

}  // namespace postbag

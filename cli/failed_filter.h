#pragma once

#include <string>

#include "cli/arguments.h"
#include "postbag/store.h"
#include "postbag/time.h"

namespace postbag {

// The typed filter as the store takes it; ages are counted back from `now_ms`. Throws CommandError
// (usage) naming the option. Pure.
FailedFilter to_failed_filter(const FilterArguments& arguments, WallMs now_ms);

// The same as a query of the daemon's routes, without "?"; empty for no filter. `limit` is not part
// of it.
std::string filter_query(const FailedFilter& filter);

}  // namespace postbag

#pragma once

#include <string_view>

namespace postbag {

// The patterns of --target and FailedFilter::target: `*` is any run of characters, `?` one, all
// else itself. An empty pattern matches all. No recursion; at worst pattern size times text size.
bool glob_match(std::string_view pattern, std::string_view text);

}  // namespace postbag

#pragma once

#include <string_view>

namespace postbag {

// `*` any run of characters, `?` one; everything else itself. Linear in practice: no recursion.
// Empty pattern: all.
bool glob_match(std::string_view pattern, std::string_view text);

}  // namespace postbag

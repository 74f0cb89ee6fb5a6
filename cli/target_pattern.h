#pragma once

#include <string>
#include <string_view>

namespace postbag {

// What a user wrote as --target or target=, as it is matched with canonical URLs: a URL, or one
// that ends in `*`, is made canonical ("HTTPS://Example.com" finds what is kept as
// "https://example.com/"); any other pattern stays.
std::string target_pattern(std::string_view text);

}  // namespace postbag

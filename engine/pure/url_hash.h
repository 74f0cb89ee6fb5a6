#pragma once

#include <cstdint>
#include <string_view>

namespace postbag {

// Of a canonical URL: picks the shard (high bits) and the place in a shard's table.
std::uint64_t url_hash(std::string_view url);

}  // namespace postbag

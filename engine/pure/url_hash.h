#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace postbag {

// Of a canonical URL: picks the shard (high bits) and the place in a shard's table.
std::uint64_t url_hash(std::string_view url);

// The shard that a target belongs to. Whoever hands work over asks here: a target in two shards
// would lose its order.
inline std::size_t shard_index(std::uint64_t hash, std::size_t shards) {
  return (hash >> 32) % shards;
}

}  // namespace postbag

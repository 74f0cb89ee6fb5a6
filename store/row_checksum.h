#pragma once

#include <cstdint>
#include <string_view>

#include "postbag/store.h"

namespace postbag {

// Of all that a chunk's row holds: a damaged target must not get the hooks of another.
std::uint32_t chunk_checksum(ChunkNumber number, BatchNumber batch, const BatchKeyView& key,
                             WallMs accepted_ms, std::uint32_t hooks, std::string_view data);

// Of what is sent when a failed hook is delivered later, and where.
std::uint32_t failed_checksum(const BatchKeyView& key, const FailedHookView& hook);

}  // namespace postbag

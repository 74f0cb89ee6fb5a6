#pragma once

#include <cstdint>

namespace postbag {

// Syncs of this process so far, counted by the shared object of slow_sync.cc. Any thread.
std::uint64_t slow_sync_count();

}  // namespace postbag

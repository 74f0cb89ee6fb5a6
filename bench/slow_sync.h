#pragma once

#include <cstdint>

namespace postbag {

// Syncs of this process so far, counted by the shared object of slow_sync.cc. Any thread.
std::uint64_t slow_sync_count();
// Time spent in them, with what was added.
double slow_sync_seconds();
// The longest that ended since the last call.
double slow_sync_longest_s();
// Instead of POSTBAG_SYNC_DELAY_MS; before the first sync that it shall hold for. Any thread.
void set_sync_delay_ms(std::uint64_t delay_ms);

}  // namespace postbag

#pragma once

#include <cstdint>
#include <string>

namespace postbag {

// Fills a new store at `path` through the Store interface, as an engine that was killed would have
// left it. Throws std::runtime_error.

struct PendingSeed {
  std::uint64_t hooks = 0, targets = 100, payload_bytes = 256;
  std::uint32_t batch = 100;  // one chunk a batch
  std::string url_prefix;     // the target's number follows
};
void seed_pending(const std::string& path, const PendingSeed& seed);

// Rows of batches of 100 that were given up.
void seed_failed(const std::string& path, std::uint64_t rows, std::uint64_t payload_bytes);

}  // namespace postbag

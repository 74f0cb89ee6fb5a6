#pragma once

#include <array>
#include <cstddef>

#include "engine/pure/batch.h"

namespace postbag {

// The memory of batches. Some of what was given back is kept, and given out again while it is still
// in the caches: where a batch is one hook, they come and go with every request. Not thread-safe;
// the batches must be gone before the pool.
class BatchPool {
 public:
  BatchPool() = default;
  ~BatchPool();
  BatchPool(const BatchPool&) = delete;
  BatchPool& operator=(const BatchPool&) = delete;

  // Throws std::bad_alloc.
  Batch& make();
  void destroy(Batch& batch) noexcept;

 private:
  // About a round of answers; 20 KiB. None where the sanitizer is to see who uses a freed one.
#ifdef __SANITIZE_ADDRESS__
  static constexpr std::size_t kept_max = 0;
#else
  static constexpr std::size_t kept_max = 64;
#endif
  std::array<void*, kept_max + 1> kept_{};
  std::size_t kept_count_ = 0;
};

}  // namespace postbag

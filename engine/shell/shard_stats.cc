#include "engine/shell/shard_stats.h"

namespace postbag {

void RateMeter::add(TimePoint now, std::uint64_t accepted, std::uint64_t delivered) {
  const auto second =
      std::chrono::duration_cast<std::chrono::seconds>(now.time_since_epoch()).count();
  Bucket& bucket = buckets_[static_cast<std::size_t>(second) % buckets_.size()];
  if (bucket.second.load(std::memory_order_relaxed) != second) {
    bucket.accepted.store(0, std::memory_order_relaxed);
    bucket.delivered.store(0, std::memory_order_relaxed);
    bucket.second.store(second, std::memory_order_relaxed);
  }
  bucket.accepted.fetch_add(accepted, std::memory_order_relaxed);
  bucket.delivered.fetch_add(delivered, std::memory_order_relaxed);
}

void RateMeter::read(TimePoint now, std::uint64_t& accepted, std::uint64_t& delivered) const {
  const auto second =
      std::chrono::duration_cast<std::chrono::seconds>(now.time_since_epoch()).count();
  for (const Bucket& bucket : buckets_) {
    const std::int64_t age = second - bucket.second.load(std::memory_order_relaxed);
    if (age < 1 || age > window_seconds) continue;  // the second that runs is not whole yet
    accepted += bucket.accepted.load(std::memory_order_relaxed);
    delivered += bucket.delivered.load(std::memory_order_relaxed);
  }
}

}  // namespace postbag

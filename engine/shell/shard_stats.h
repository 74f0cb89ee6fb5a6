#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <limits>

#include "engine/pure/shard_core.h"
#include "postbag/engine.h"
#include "postbag/time.h"

namespace postbag {

// What a shard publishes for status(); written by its thread, read by any.
struct ShardStats {
  std::atomic<std::uint64_t> accepted{0}, refused{0}, delivered{0}, given_up{0}, discarded{0};
  std::atomic<std::uint64_t> handed_back{0};
  std::atomic<std::uint64_t> attempts{0}, attempts_failed{0}, batches{0};
  std::atomic<std::uint64_t> cut_by_size{0}, cut_by_bytes{0}, cut_by_time{0}, cut_by_request{0};
  std::atomic<std::uint64_t> memory_bytes{0}, in_flight{0}, retrying{0}, bags{0}, targets{0};
  std::atomic<std::uint64_t> batches_held{0};
  std::atomic<std::uint64_t> connections{0};
  static constexpr WallMs none_waits = std::numeric_limits<WallMs>::max();
  std::atomic<WallMs> oldest_ms{none_waits};  // ShardCore::oldest_ms()
  std::atomic<bool> drained{false}, idle{true};
  std::atomic<bool> telling{false};  // hooks are counted as ended, their listeners still hear of it
};

// A number that only grows, on its way from the core to the status.
struct PublishedCounter {
  std::uint64_t CoreCounters::*counted;
  std::atomic<std::uint64_t> ShardStats::*shown;
  std::uint64_t EngineStatus::*reported;
};
inline constexpr PublishedCounter published_counters[] = {
    {&CoreCounters::accepted, &ShardStats::accepted, &EngineStatus::accepted},
    {&CoreCounters::refused, &ShardStats::refused, &EngineStatus::refused},
    {&CoreCounters::delivered, &ShardStats::delivered, &EngineStatus::delivered},
    {&CoreCounters::given_up, &ShardStats::given_up, &EngineStatus::given_up},
    {&CoreCounters::discarded, &ShardStats::discarded, &EngineStatus::discarded},
    {&CoreCounters::handed_back, &ShardStats::handed_back, &EngineStatus::handed_back},
    {&CoreCounters::attempts, &ShardStats::attempts, &EngineStatus::attempts},
    {&CoreCounters::attempts_failed, &ShardStats::attempts_failed, &EngineStatus::attempts_failed},
    {&CoreCounters::batches, &ShardStats::batches, &EngineStatus::batches},
    {&CoreCounters::cut_by_size, &ShardStats::cut_by_size, &EngineStatus::cut_by_size},
    {&CoreCounters::cut_by_bytes, &ShardStats::cut_by_bytes, &EngineStatus::cut_by_bytes},
    {&CoreCounters::cut_by_time, &ShardStats::cut_by_time, &EngineStatus::cut_by_time},
    {&CoreCounters::cut_by_request, &ShardStats::cut_by_request, &EngineStatus::cut_by_request},
};

// Counts of the last seconds, for rates.
class RateMeter {
 public:
  void add(TimePoint now, std::uint64_t accepted, std::uint64_t delivered);
  void read(TimePoint now, std::uint64_t& accepted, std::uint64_t& delivered) const;
  static constexpr int window_seconds = 10;

 private:
  struct Bucket {
    std::atomic<std::int64_t> second{-1};
    std::atomic<std::uint64_t> accepted{0}, delivered{0};
  };
  std::array<Bucket, 16> buckets_;
};

}  // namespace postbag

#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>

#include "postbag/policy.h"
#include "postbag/time.h"

namespace postbag {

// Both ends are allowed.
template <typename Value>
struct Range {
  Value min;
  Value max;
  constexpr bool contains(Value value) const { return value >= min && value <= max; }
};

// The range of each value of Options. The configuration file and validate_options() both check
// against this table, so that a file and an embedding program are held to the same limits. Names
// are section_key.
struct Limits {
  static constexpr std::uint64_t kib = 1024;
  static constexpr std::uint64_t mib = 1024 * kib;
  static constexpr std::uint64_t gib = 1024 * mib;
  static constexpr std::uint64_t tib = 1024 * gib;
  static constexpr Duration day = std::chrono::hours(24);

  static constexpr Range<std::uint64_t> store_max_bytes{64 * kib, 1024 * tib};
  static constexpr Range<Duration> store_failed_max_age{Duration::zero(), 36'500 * day};
  static constexpr Range<std::uint64_t> store_failed_max_bytes{0, 1024 * tib};

  static constexpr Range<std::uint64_t> intake_max_body{1, gib};
  static constexpr Range<std::uint64_t> intake_max_hook{1, gib};
  static constexpr Range<Duration> intake_id_window{Duration::zero(), 30 * day};

  static constexpr Range<std::uint32_t> batch_size{0, batch_size_max};
  static constexpr Range<Duration> batch_time{Duration::zero(), 366 * day};
  static constexpr Range<std::uint64_t> batch_bytes{1, gib};

  static constexpr Range<std::uint32_t> retry_retries{0, 1'000'000};
  static constexpr Range<Duration> retry_retry_interval{Duration::zero(), 366 * day};
  static constexpr Range<std::uint32_t> retry_max_retrying{1, 1'000'000};
  static constexpr Range<Duration> retry_max_interval{std::chrono::milliseconds(1), 366 * day};
  static constexpr Range<double> retry_jitter{0.0, 1.0};

  static constexpr Range<Duration> delivery_timeout{std::chrono::milliseconds(1), day};
  static constexpr Range<Duration> delivery_connect_timeout{std::chrono::milliseconds(1), day};
  static constexpr Range<std::uint32_t> delivery_in_flight{1, 1024};

  static constexpr Range<std::uint32_t> engine_threads{0, 256};
  static constexpr Range<std::uint64_t> engine_max_memory{64 * kib, 16 * tib};
  static constexpr Range<std::uint32_t> engine_max_connections{1, 1'000'000};
  static constexpr Range<Duration> engine_drain_timeout{Duration::zero(), day};

  static constexpr std::size_t allow_entries_max = 1024;
  static constexpr std::size_t target_blocks_max = 10'000;
};

}  // namespace postbag

#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "postbag/options.h"

namespace postbag {

// One workload of the end-to-end benchmark. Its name says all of it:
//   unbatched|batchN _targetsN [_inflightN] [_tls] [_os|_fsync] [_failing]
// Without `_inflightN` batched cases have 16 batches of a target in flight; unbatched ones have
// what makes 64 requests in flight over all targets (at most 16 a target), as the raw client has
// 64 connections then.
struct DeliveryCase {
  std::string name;
  std::uint32_t batch = 1;
  std::uint64_t targets = 1;
  std::uint32_t in_flight = 1;
  bool tls = false;
  Durability durability = Durability::memory;
  std::uint32_t fail_per_mille = 0;  // of the requests, answered with 503
  std::uint64_t hooks = 0;           // enough for one to two seconds, and a full bag per target

  std::uint32_t raw_connections() const { return batch == 1 ? 64 : 16; }
};

// Nothing: not the name of a case.
std::optional<DeliveryCase> parse_delivery_case(std::string_view name);

// "quick": what the goals speak of, about two minutes with three rounds. "plots": what bench/plot
// draws. "full": the whole matrix. Empty for other sets.
std::vector<DeliveryCase> delivery_case_set(std::string_view set);

// The case of that name, in a set or not; or those of the set that match the pattern.
std::vector<DeliveryCase> find_delivery_cases(std::string_view set, const std::string& glob);

}  // namespace postbag

#pragma once

#include <string>
#include <vector>

#include "bench/delivery_run.h"

namespace postbag {

// All runs of one case, the engine's and the raw client's of the same round side by side.
struct DeliveryRuns {
  DeliveryCase what;
  std::vector<DeliveryMeasure> engine, raw;  // raw: none where it was not wanted
  std::uint64_t checked = 0;                 // hooks of the run in which each payload was verified
  std::uint64_t checked_wrong = 0;           // of those
  bool ok = true;
};

// A table for people, or a line of JSON a case. Figures are medians; ratios are medians of the
// ratios of each round, so that a slow minute of the machine cancels out.
void report_deliveries(const std::vector<DeliveryRuns>& cases, bool json);

// The last run, for the line of progress.
std::string describe_run(const DeliveryRuns& runs);

}  // namespace postbag

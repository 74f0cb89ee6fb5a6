#pragma once

#include <cstdint>

#include "bench/delivery_case.h"

namespace postbag {

struct DeliverySetting {
  bool pin = false;    // engine on core 0, feeder and receiver on core 1
  bool check = false;  // the receiver verifies every payload's place in its target's sequence
  bool soak = false;   // resident memory at every hundredth of the way, to standard error
  std::uint32_t threads = 1;
  std::uint64_t max_memory = 256ull << 20;
  std::uint64_t backlog = 0;
};

// One run, of the engine or of the raw client.
struct DeliveryMeasure {
  bool ok = false;  // complete, nothing wrong
  // From the first submit() to the last hook received; in the durable modes until all are settled.
  double seconds = 0;
  double engine_cpu_s = 0;  // all threads of the engine, which is all but the feeder
  double feeder_cpu_s = 0;
  double receiver_cpu_s = 0;
  double peak_rss_mb = 0;     // of engine and feeder, which are one process
  double soak_growth_mb = 0;  // resident memory, from a tenth of the way to the end
  std::uint64_t hooks = 0, requests = 0, refused = 0, connections = 0, full_answers = 0;
  // Hooks missing, too many, not delivered by the engine's count, or (checked) not as expected; any
  // deviation of the bytes received counts as one.
  std::uint64_t wrong = 0;

  double hooks_per_s() const { return seconds > 0 ? static_cast<double>(hooks) / seconds : 0; }
};

// Each in a process of its own, the receiver in another. Throws std::system_error.
DeliveryMeasure measure_delivery(const DeliveryCase& what, const DeliverySetting& setting);
// The raw epoll client doing the same requests over plain HTTP with a constant body.
DeliveryMeasure measure_raw(const DeliveryCase& what, const DeliverySetting& setting);

}  // namespace postbag

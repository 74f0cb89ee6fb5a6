#include "engine/pure/retry_schedule.h"

#include <algorithm>
#include <cmath>

namespace postbag {

Duration retry_delay(const RetryPolicy& policy, std::uint32_t attempts, double random) {
  Duration delay = policy.retry_interval;
  if (policy.backoff == Backoff::exponential) {
    // The cap holds the doubling, never the interval that the operator asked for.
    const Duration cap = std::max(policy.max_interval, policy.retry_interval);
    for (std::uint32_t doubled = 1; doubled < attempts && delay < cap; ++doubled) {
      delay = delay > cap / 2 ? cap : delay * 2;
    }
  }
  if (policy.jitter > 0) {
    delay += Duration(static_cast<Duration::rep>(
        std::llround(static_cast<double>(delay.count()) * policy.jitter * random)));
  }
  return delay;
}

}  // namespace postbag

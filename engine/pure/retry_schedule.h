#pragma once

#include <cstdint>

#include "postbag/policy.h"

namespace postbag {

// How long a batch waits after its `attempts`-th attempt failed. `random` is uniform in [0, 1);
// jitter only lengthens.
Duration retry_delay(const RetryPolicy& policy, std::uint32_t attempts, double random);

// True if a batch that has made `attempts` attempts gets no further one.
inline bool attempts_used_up(std::uint32_t retries, std::uint32_t attempts) {
  return attempts > retries;
}

}  // namespace postbag

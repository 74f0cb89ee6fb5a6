#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "postbag/time.h"

namespace postbag {

using HeaderList = std::vector<std::pair<std::string, std::string>>;

// [batch]: when a bag is cut. size and time both 0 is refused (a bag would wait for ever).
struct BatchPolicy {
  std::uint32_t size = 100;  // hooks; 0 = no limit by count (batch_size_max still holds)
  Duration time = std::chrono::seconds(1);  // from the hand-over of the first hook; 0 = no timer
  std::uint64_t bytes = 1 << 20;            // of the request body, brackets and commas included
  bool operator==(const BatchPolicy&) const = default;
};

// Most hooks that one batch can hold; the index of a hook in its id has 14 bits, one value is
// reserved.
inline constexpr std::uint32_t batch_size_max = 16'000;

enum class Backoff : std::uint8_t { fixed, exponential };

// [retry]: total attempts = 1 + retries.
struct RetryPolicy {
  std::uint32_t retries = 5;
  // End of a failed attempt to start of the next.
  Duration retry_interval = std::chrono::seconds(5);
  std::uint32_t max_retrying = 16;                // batches of a target that wait for a retry
  Backoff backoff = Backoff::fixed;               // exponential: interval doubles per attempt
  Duration max_interval = std::chrono::hours(1);  // cap of the exponential interval
  double jitter = 0;  // 0 to 1: lengthens each interval by up to this share of it, never shortens
  bool operator==(const RetryPolicy&) const = default;
};

// [delivery]: how a batch is sent.
struct DeliveryPolicy {
  Duration timeout = std::chrono::seconds(30);         // a whole attempt
  Duration connect_timeout = std::chrono::seconds(5);  // resolve, TCP and TLS together
  std::uint32_t in_flight = 1;                         // batches of a target on the wire at once
  // One batch of a bag at a time, the next after the outcome of the one before.
  bool ordered = false;
  HeaderList headers;  // sent with every request to the target; values are secrets
  bool operator==(const DeliveryPolicy&) const = default;
};

// [network]: which targets beside public HTTPS ones are allowed.
struct NetworkPolicy {
  bool allow_http = false;
  // Each an address, a network or a host name, with or without a port.
  std::vector<std::string> allow;
  bool operator==(const NetworkPolicy&) const = default;
};

// [tls]: trust in addition to the system's.
struct TlsPolicy {
  std::string ca_file;
  bool operator==(const TlsPolicy&) const = default;
};

// A target's policy is one value.
struct TargetPolicy {
  BatchPolicy batch;
  RetryPolicy retry;
  DeliveryPolicy delivery;
  NetworkPolicy network;
  TlsPolicy tls;
  bool operator==(const TargetPolicy&) const = default;
};

// A [[target]] block: `url` is canonical, or a prefix if `prefix` (written with a `*` at its end).
// Of several that match the longest url wins. `policy` is complete: the block's keys over the
// defaults.
struct TargetBlock {
  std::string url;
  bool prefix = false;
  TargetPolicy policy;
};

}  // namespace postbag

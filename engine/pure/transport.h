#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "postbag/outcome.h"
#include "postbag/policy.h"
#include "postbag/time.h"

namespace postbag {

// The seam to the network: one instance per shard, used by the shard's thread alone.

// Where a target's requests go; made once per target and policy generation, shared by its requests.
// `pool_key` names what may share a connection: scheme, host, port, TLS identity, network policy.
struct Destination {
  std::string scheme;  // "http" or "https"
  std::string host;    // canonical; an IPv6 literal without brackets
  std::uint16_t port = 0;
  NetworkPolicy network;
  TlsPolicy tls;
  Duration timeout{};
  Duration connect_timeout{};
  std::string pool_key;
};

// One request. Every view stays valid until attempt_done() was called for it (also when it is
// aborted).
struct AttemptRequest {
  std::shared_ptr<const Destination> destination;
  std::string_view head;  // request line and all header fields, with the empty line
  std::span<const std::string_view> body;  // pieces, in order
  std::uint64_t body_bytes = 0;
  // Its timeout counts from here, so that requests started together share one reading of the clock.
  // Zero: counts from start().
  TimePoint begin{};
};

// What one attempt ended with. `status` is 0 where no complete response head came.
struct AttemptResult {
  Reason reason = Reason::none;
  int status = 0;
  // At most 1 KiB each, only for failures; without the values that were sent (mask_sent_values).
  std::string response_headers;  // as received ("Name: value\r\n"...)
  std::string response_excerpt;  // of the body
  std::string detail;            // for logs: an error text without secrets
  bool counted = true;           // false: does not use up one of the attempts (local_resource)
  // true: no further attempt can help (a forbidden address): given up at once.
  bool final = false;

  bool delivered() const { return reason == Reason::none; }
};

// Identifies an attempt to whoever started it.
using AttemptToken = void*;

class AttemptSink {
 public:
  virtual ~AttemptSink() = default;
  // Called once per start(), on the shard's thread, never from inside start().
  virtual void attempt_done(AttemptToken token, AttemptResult&& result) = 0;
};

struct TransportStats {
  std::uint64_t connections_open = 0, connections_idle = 0;
  std::uint64_t connects = 0, reused = 0, resent = 0, bytes_sent = 0;  // for tests
};

class Transport {
 public:
  // Waits for nothing that is in flight; must be destroyed on the shard's thread or after it ended.
  virtual ~Transport() = default;

  // Starts one HTTP attempt: resolve, check the addresses against the policy, connect, TLS, send,
  // read the head of the answer; all within the destination's timeouts. A kept-alive connection
  // that the peer dropped before a byte of the answer came is replaced at once, once, without
  // counting as an attempt.
  virtual void start(AttemptToken token, AttemptRequest request) = 0;

  // Ends every attempt in flight with `reason`; their attempt_done() follows.
  virtual void abort_all(Reason reason) = 0;
  // Closes idle connections, and the busy ones after their request: a new policy holds from the
  // next connect on.
  virtual void forget_connections() = 0;

  // The shard has one timer; the transport tells it when it wants to be called next.
  virtual TimePoint next_deadline() const = 0;
  virtual void on_deadline(TimePoint now) = 0;

  // Asked in every turn of a shard: costs the same however many connections there are.
  virtual TransportStats stats() const = 0;
};

}  // namespace postbag

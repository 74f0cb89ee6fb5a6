#pragma once

#include <boost/asio/io_context.hpp>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "engine/pure/transport.h"
#include "postbag/logger.h"

namespace postbag {

class Resolver;

// What the transports of all shards share. Thread-safe. Owns the resolver's threads and the TLS
// contexts.
class HttpShared {
 public:
  HttpShared(std::size_t resolver_threads, std::vector<std::string> own_addresses, Logger logger);
  ~HttpShared();
  struct State;
  State& state() { return *state_; }

 private:
  std::unique_ptr<State> state_;
};

struct HttpTransportOptions {
  std::size_t max_connections = 1024;  // of this shard, idle ones included
};

// One per shard. `sink` outlives the transport. `wake` is called when next_deadline() became
// earlier outside of a call from the shard (from a completion handler). `clock` gives the steady
// time.
std::unique_ptr<Transport> make_http_transport(boost::asio::io_context& io, HttpShared& shared,
                                               AttemptSink& sink, HttpTransportOptions options,
                                               std::function<TimePoint()> clock,
                                               std::function<void()> wake);

}  // namespace postbag

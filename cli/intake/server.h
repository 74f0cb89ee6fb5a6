#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "cli/intake/backend.h"
#include "cli/intake/limits.h"
#include "engine/shell/clock.h"
#include "postbag/logger.h"
#include "postbag/options.h"

namespace postbag {

struct IntakeServerOptions {
  std::string listen = "127.0.0.1:8420";  // [intake] listen; empty: no TCP
  std::string unix_socket;                // path; empty: none
  std::uint64_t max_body = 8 << 20;       // [intake] max_body
  // The lines of token_file. Nothing: no token is asked for. A list without any token is refused:
  // it would lock out all.
  std::optional<std::vector<std::string>> tokens;
  Durability durability = Durability::memory;  // of the engine; stands in answers
  // Bodies that are being read or parsed, over all connections; at least two of the largest fit.
  std::uint64_t bodies_bytes_max = 64 << 20;
  std::uint32_t connections_max = 1024;  // over TCP; the Unix socket has 64 of its own

  ConnectionLimits limits;
  Duration sweep_interval = std::chrono::milliseconds(500);  // how exactly the timeouts are kept
  // How often it is looked whether the Unix socket still stands under its path; one that does not
  // is bound anew.
  Duration socket_check_interval = std::chrono::seconds(10);
  // What they are measured by; steady, called on intake's thread. Tests have one of their own.
  std::function<TimePoint()> clock = steady_now;
};

// The daemon's HTTP interface: one thread of its own for all connections, and a few for engine
// calls that block. Speaks HTTP/1.1 on TCP and, for the command line, on a Unix socket (mode 0600,
// no token). The backend must outlive stop(). start(), stop_accepting() and stop() are for one
// controlling thread; the rest may be called from any.
class IntakeServer {
 public:
  IntakeServer(IntakeBackend& backend, IntakeServerOptions options, Logger logger = {});
  ~IntakeServer();  // stop()
  IntakeServer(const IntakeServer&) = delete;
  IntakeServer& operator=(const IntakeServer&) = delete;

  // Binds and begins to serve. Throws std::invalid_argument for options that cannot be used and
  // std::system_error where a socket cannot be bound; what() names the key, the address and what is
  // wrong.
  void start();
  std::uint16_t port() const;   // of TCP, after start(); 0 without
  std::string address() const;  // "127.0.0.1:8420", for Options::own_addresses; empty without TCP

  // Other tokens than those of the options, from the return on and also on connections that are
  // open. After start(). Throws std::invalid_argument for a list without any token, and
  // std::bad_alloc; the old ones stay then.
  void set_tokens(const std::optional<std::vector<std::string>>& lines);
  // While the engine drains: what would change anything is answered 503 `stopping`, connections end
  // with their answer, /healthz/ready says 503. Reading goes on.
  void stop_accepting();
  // Answers what can be answered (waiting calls as at their timeout), closes all connections and
  // ends the threads. Waits for engine calls under way, so drain the engine first. Idempotent.
  void stop();

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace postbag

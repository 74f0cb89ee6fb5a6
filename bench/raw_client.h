#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace postbag {

// The ceiling that an engine is measured against: an epoll client that sends one constant, prepared
// request over and over, one at a time on each connection, and looks at no more of the answer than
// its status and length.
struct RawClientOptions {
  std::uint16_t port = 0;  // on 127.0.0.1
  std::uint32_t connections = 64;
  std::uint64_t requests = 100'000;  // to be answered with a 2xx; one answered with 503 is repeated
  std::string request;               // head and body
};

struct RawClientResult {
  double seconds = 0;
  double cpu_s = 0;
  std::uint64_t answered = 0;  // with a 2xx
  std::uint64_t refused = 0;   // with 503
};

// Throws std::system_error if a connection cannot be made or breaks, std::runtime_error on any
// other answer.
RawClientResult run_raw_client(const RawClientOptions& options);

// Sends one request and reads the answer up to the end of the connection; so ask for `Connection:
// close`.
std::string exchange(std::uint16_t port, std::string_view request);

// Whether a GET of `path` is answered with 200; false also where nobody listens.
bool is_ok(std::uint16_t port, const std::string& path);

// A port of 127.0.0.1 that was free a moment ago: for a daemon that has to be told one that we
// know.
std::uint16_t unused_port();

// A POST as Postbag writes it, with its header fields.
std::string prepared_request(std::uint16_t port, std::string_view body, std::uint64_t batch_size);

// A blocking connection to 127.0.0.1:port, made non-blocking once it stands. Throws
// std::system_error.
int connect_local(std::uint16_t port);

}  // namespace postbag

#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tests/support/test_ca.h"

namespace postbag {

// One request as the receiver got it.
struct FaultRequest {
  std::string method;
  std::string path;  // with the query
  std::vector<std::pair<std::string, std::string>> headers;
  std::string body;
  std::size_t index = 0;       // of all requests, in order of arrival
  std::size_t connection = 0;  // of all accepted connections
  bool tls_resumed = false;
  std::string tls_suite;
  std::string server_name;  // SNI

  // The first value of a field, names compared without case; empty if there is none.
  std::string header(std::string_view name) const;
};

// What a connection does, step by step. Without a close at its end the connection stays open for
// the next request.
//   - FaultReply::status(503, "busy")
//   - FaultReply::reset()
//   - FaultReply::raw("HTTP/1.1 20").then_close()
//   - FaultReply::hang().then(FaultReply::status(200)), sent when release() is called
struct FaultReply {
  struct Step {
    enum class Kind : std::uint8_t {
      send,          // `bytes`, in one go
      drip,          // `bytes`, one system call a byte
      wait,          // until FaultReceiver::release()
      close,         // the socket, without a word
      close_notify,  // TLS's goodbye; for an orderly end before `close`
      reset,         // closes with RST
    };
    Kind kind;
    std::string bytes;
  };
  std::vector<Step> steps;

  using Headers = std::vector<std::pair<std::string, std::string>>;
  // With Content-Length, except for 1xx, 204 and 304.
  static FaultReply status(int code, std::string_view body = {}, const Headers& headers = {});
  static FaultReply chunked(int code, const std::vector<std::string>& chunks);
  static FaultReply raw(std::string bytes);
  static FaultReply drip(std::string bytes);
  static FaultReply close();
  static FaultReply reset();
  static FaultReply hang();

  FaultReply then(const FaultReply& more) const;
  FaultReply then_close() const { return then(close()); }
};

struct ReceiverTls {
  TestCertificate certificate;
  int max_version = 0;  // 0: what OpenSSL has; else TLS1_1_VERSION, TLS1_2_VERSION
  bool require_client_certificate = false;
  std::string alpn;          // what it selects, offered or not; empty: ignores ALPN
  bool late_ticket = false;  // TLS 1.3: with each answer instead of behind the handshake
};

struct ReceiverOptions {
  // Every request that no queued reply is for; default: 200 with no body.
  std::function<FaultReply(const FaultRequest&)> reply;
  // Called when the head is there and the body is not read yet. A reply is played at once; the body
  // is never read unless the reply leaves the connection open. The request counts as received then.
  std::function<std::optional<FaultReply>(const FaultRequest&)> early;
  // Played when a connection is accepted, before TLS and before anything is read.
  std::optional<FaultReply> greeting;
  std::optional<ReceiverTls> tls;
  int receive_buffer_bytes = 0;  // SO_RCVBUF of the connections; 0: the system's
};

// An HTTP/1.1 server that misbehaves on request, on 127.0.0.1 and a port of its own, with threads
// of its own. Every member function may be called from any thread; waiting functions end after 20 s
// with false, so a test fails instead of hanging.
class FaultReceiver {
 public:
  explicit FaultReceiver(ReceiverOptions options = {});
  // Ends all connections.
  ~FaultReceiver();
  FaultReceiver(const FaultReceiver&) = delete;
  FaultReceiver& operator=(const FaultReceiver&) = delete;

  std::uint16_t port() const;
  // "http://127.0.0.1:PORT" + path, or https.
  std::string url(std::string_view path = "/") const;

  // Used for the next requests, one each, before ReceiverOptions::reply is asked.
  void push(FaultReply reply);
  // Ends every FaultReply::hang(), now and later.
  void release();
  // Closes every open connection as an idle server does (FIN), or with RST.
  void close_connections(bool with_reset = false);
  // Accepts no more; what is open stays open.
  void stop_accepting();

  std::vector<FaultRequest> requests() const;
  std::size_t request_count() const;
  std::size_t connection_count() const;  // accepted so far
  std::size_t ended_count() const;       // of those, ended by either side
  bool wait_for_requests(std::size_t count) const;
  bool wait_for_connections(std::size_t count) const;
  bool wait_for_ended(std::size_t count) const;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace postbag

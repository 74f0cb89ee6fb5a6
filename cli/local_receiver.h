#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

namespace postbag {

// What a receiver got, and what it answers.
struct ReceivedRequest {
  std::uint64_t number = 0;  // 1-based, over all connections
  std::string method, path;
  std::string batch_id, batch_size, attempt;  // the Postbag-* fields, empty if missing
  std::string_view body;
};

struct ReceiverAnswer {
  int status = 200;
  std::uint32_t delay_ms = 0;  // before the answer
  bool hang = false;           // no answer until the peer goes away
  bool drop = false;           // the connection is closed without an answer
};

// A small HTTP/1.1 server to try things with (`listen`, `demo`): plain HTTP on 127.0.0.1, a thread
// per connection, keep-alive, bodies with Content-Length up to 64 MiB. Not made for load or for
// strangers.
class LocalReceiver {
 public:
  // Called on a connection's thread, one call at a time.
  using Handler = std::function<ReceiverAnswer(const ReceivedRequest&)>;

  // Listens at once; port 0: any free one. Throws std::system_error.
  LocalReceiver(std::uint16_t port, Handler handler);
  ~LocalReceiver();  // stop()
  LocalReceiver(const LocalReceiver&) = delete;
  LocalReceiver& operator=(const LocalReceiver&) = delete;

  std::uint16_t port() const { return port_; }
  void stop();

  static constexpr std::size_t connections_max = 256;
  static constexpr std::size_t body_bytes_max = 64u << 20;

 private:
  struct Connection;
  void accept_loop();
  void serve(Connection& connection);
  bool serve_request(Connection& connection, std::string& buffer);
  bool answer(Connection& connection, const ReceiverAnswer& answer);
  void reap(bool all);

  Handler handler_;
  std::uint16_t port_ = 0;
  int listen_fd_ = -1, quit_fd_ = -1;
  std::atomic<bool> stopping_{false};
  std::thread accept_thread_;
  std::mutex handler_mutex_;
  std::uint64_t requests_ = 0;
  std::mutex connections_mutex_;
  std::vector<std::unique_ptr<Connection>> connections_;
};

}  // namespace postbag

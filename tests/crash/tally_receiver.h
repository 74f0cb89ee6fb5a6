#pragma once

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <unordered_map>

#include "tests/crash/kill_oracle.h"

namespace postbag::test {

struct TallyAnswer {
  int status = 200;
  bool drop = false;           // close without an answer
  std::uint32_t delay_ms = 0;  // before the answer
};

// All targets of a crash run on one port, `/t<number>`: one thread and an epoll, keep-alive,
// requests with Content-Length. Everything that its peer wrote before it died is read, so that
// after drained() what comes next is of the next peer.
class TallyReceiver {
 public:
  // Called on the receiver's thread for each whole request; says what to answer.
  using Handler = std::function<TallyAnswer(const ArrivedBatch&)>;

  explicit TallyReceiver(Handler handler);
  ~TallyReceiver();
  TallyReceiver(const TallyReceiver&) = delete;
  TallyReceiver& operator=(const TallyReceiver&) = delete;

  std::uint16_t port() const { return port_; }
  // Once the peer has ended: waits until all of its connections are read to the end. False: they
  // did not end within half a minute.
  bool drained();

 private:
  struct Connection {
    std::string in, out;
    bool writing = false, closing = false;
  };

  void loop();
  void accept_all();
  void on_event(int fd, std::uint32_t events);
  bool read_all(int fd, Connection& connection);
  bool take_requests(int fd, Connection& connection);
  bool flush(int fd, Connection& connection);
  void close_connection(int fd);
  void answer_due();
  int next_timeout_ms() const;

  Handler handler_;
  int listen_fd_ = -1, epoll_fd_ = -1, wake_fd_ = -1;
  std::uint16_t port_ = 0;
  std::unordered_map<int, std::pair<std::uint64_t, Connection>> connections_;  // with its serial
  std::uint64_t serials_ = 0;
  struct Due {
    int fd;
    std::uint64_t serial;
    std::string answer;
  };
  std::multimap<std::int64_t, Due> due_;

  std::mutex mutex_;
  std::condition_variable wake_;
  bool stop_ = false, wants_drained_ = false;
  std::thread thread_;
};

}  // namespace postbag::test

#pragma once

#include <sys/epoll.h>

#include <array>
#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/basic_stream_descriptor.hpp>
#include <cstdint>
#include <functional>
#include <memory>
#include <utility>

namespace postbag {

// Told what its socket is ready for.
class PollerClient {
 public:
  // `readable`: bytes, the end of the stream or an error wait to be read.
  virtual void ready(bool readable, bool writable) = 0;

 protected:
  ~PollerClient() = default;
};

// The readiness of a transport's sockets: an epoll of its own, level-triggered, which the shard's
// io_context watches as one descriptor. So an answer costs one recv() and nothing more: no read
// that finds nothing, no handler, no call to wait again. One thread.
class Poller : public std::enable_shared_from_this<Poller> {
 public:
  // Throws std::system_error: no descriptor left.
  static std::shared_ptr<Poller> make(boost::asio::io_context& io);
  Poller(const Poller&) = delete;
  Poller& operator=(const Poller&) = delete;

  // Watches for reading until remove(), which comes before the descriptor is closed; `client` lives
  // until then. False: the kernel has no room; errno says why.
  bool add(int descriptor, PollerClient& client);
  void watch_writing(int descriptor, PollerClient& client, bool wanted);
  void remove(int descriptor, PollerClient& client);
  // Of those in which events are handed out: its number while one is under way, else 0.
  std::uint64_t round() const { return count_ > 0 ? rounds_ : 0; }
  // Called after the events of a round were handed out.
  void set_round_end(std::function<void()> round_end) { round_end_ = std::move(round_end); }
  // Nothing is called afterwards.
  void stop();

 private:
  using Descriptor =
      boost::asio::posix::basic_stream_descriptor<boost::asio::io_context::executor_type>;

  Poller(boost::asio::io_context& io, int epoll) : epoll_(io, epoll) {}
  void wait();
  void dispatch();

  // Few enough that the requests which follow from a round are not kept waiting by it.
  static constexpr int events_max = 32;

  Descriptor epoll_;
  bool stopped_ = false;
  int next_ = 0;  // of events_, while they are handed out
  int count_ = 0;
  std::uint64_t rounds_ = 0;
  std::function<void()> round_end_;
  std::array<epoll_event, events_max> events_;
};

}  // namespace postbag

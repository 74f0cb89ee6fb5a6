#pragma once

#include <sys/uio.h>

#include <array>
#include <boost/asio/io_context.hpp>
#include <boost/smart_ptr/intrusive_ptr.hpp>
#include <cstdint>
#include <deque>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "engine/shell/http/connection.h"
#include "engine/shell/http/deadlines.h"
#include "engine/shell/http/http_transport.h"
#include "engine/shell/http/poller.h"
#include "engine/shell/http/shared_state.h"

namespace postbag {

inline constexpr Duration idle_limit = std::chrono::seconds(30);
inline constexpr Duration drain_limit = std::chrono::seconds(2);  // for a body, after its head
inline constexpr Duration write_stall_limit = std::chrono::seconds(10);  // without a byte taken
inline constexpr std::size_t addresses_dialled_max = 16;

class HttpTransport final : public Transport {
 public:
  HttpTransport(boost::asio::io_context& io, HttpShared& shared, AttemptSink& sink,
                HttpTransportOptions options, std::function<TimePoint()> clock,
                std::function<void()> wake);
  ~HttpTransport() override;

  void start(AttemptToken token, AttemptRequest request) override;
  void abort_all(Reason reason) override;
  void forget_connections() override;
  TimePoint next_deadline() const override { return deadlines_.next(); }
  void on_deadline(TimePoint now) override;
  TransportStats stats() const override;

  // For Connection. Everything below is called on the shard's thread.
  boost::asio::io_context& io() { return io_; }
  Poller& poller() { return *poller_; }
  HttpShared::State& state() { return state_; }
  void arm(AttemptDeadline& node, Duration delay);
  TimePoint read_now();

  // The answer, or nothing: Connection::resolved() follows unless the connection closes before.
  ResolveResultPtr resolve(const std::string& host, Connection& connection);

  void became_idle(Connection& connection);
  void closed(Connection& connection);
  void complete(Attempt& attempt, AttemptResult&& result);
  // The connection, of any origin, that is idle for the longest time. False if none is.
  bool close_longest_idle();
  // Sends the attempt again on a new connection.
  void resend(Attempt& attempt);

  TransportStats counters;
  // Scratch for one system call or one TLS record; nothing stays in it across a return to the loop.
  std::array<iovec, 64> pieces;
  std::array<char, 16 * 1024> input;
  std::array<char, 16 * 1024> record;
  // Memory for what is encrypted, while no connection needs it: warm, and not one for each of them.
  std::string tls_output;

 private:
  using IdleOrder = boost::intrusive::list<
      Connection,
      boost::intrusive::member_hook<Connection, Connection::IdleLink, &Connection::idle_link>,
      boost::intrusive::constant_time_size<false>>;

  // What other threads may still hold when the transport is gone.
  struct Mailbox {
    std::mutex mutex;
    boost::asio::io_context* io = nullptr;  // nothing once the transport is gone
    HttpTransport* transport = nullptr;     // read and written on the shard's thread
    bool posted = false;
    std::vector<std::pair<std::uint64_t, ResolveResultPtr>> results;
  };
  // While one stands nothing calls the sink: results are posted.
  class Deferring;

  static void deliver(const std::shared_ptr<Mailbox>& mailbox, std::uint64_t lookup,
                      ResolveResultPtr result);
  static void collect(const std::shared_ptr<Mailbox>& mailbox);
  void read_clock();
  void post_results();
  void tell_sink(AttemptToken token, AttemptResult&& result);
  static void hand_over_results(const std::shared_ptr<Mailbox>& mailbox);
  Attempt& take_attempt();
  bool place(Attempt& attempt);
  void open_connection(Attempt& attempt);
  void serve_waiting();
  void release_pool(Pool& pool);

  boost::asio::io_context& io_;
  HttpShared::State& state_;
  AttemptSink& sink_;
  const HttpTransportOptions options_;
  const std::function<TimePoint()> clock_;
  const std::function<void()> wake_;
  const std::shared_ptr<Mailbox> mailbox_;
  const std::shared_ptr<Poller> poller_;

  Deadlines deadlines_;
  TimePoint now_{};    // the latest reading
  TimePoint begin_{};  // AttemptRequest::begin, while its deadline is armed
  std::uint64_t round_of_now_ = 0;
  std::deque<Attempt> attempts_;
  std::vector<Attempt*> free_attempts_;
  std::list<Attempt*> waiting_;
  std::unordered_map<std::string, Pool> pools_;
  std::deque<std::string> parked_;  // pools kept for their TLS session alone, oldest first
  std::vector<boost::intrusive_ptr<Connection>> connections_;
  IdleOrder idle_order_;  // the longest idle first
  std::unordered_map<std::uint64_t, Connection*> lookups_;
  std::uint64_t last_lookup_ = 0;
  // To be handed over at the end of the round or by a posted handler.
  std::vector<std::pair<AttemptToken, AttemptResult>> results_;
  bool results_posted_ = false;
  bool deferring_ = false;
  bool in_sink_ = false;
  bool quiet_ = false;  // inside a call from the shard, which asks for next_deadline() afterwards
  bool serving_ = false;
};

}  // namespace postbag

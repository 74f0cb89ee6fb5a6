#pragma once

#include <gtest/gtest.h>

#include <boost/asio/io_context.hpp>
#include <chrono>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "engine/shell/http/http_transport.h"
#include "engine/shell/http/shared_state.h"
#include "tests/support/fault_receiver.h"

namespace postbag {

// One attempt as the test started it; owns the bytes that the request refers to.
struct TestAttempt {
  std::string head;
  std::vector<std::string> pieces;
  std::vector<std::string_view> views;
  bool done = false;
  AttemptResult result;
};

// A transport on a real io_context with real sockets, and a clock that moves only when the test
// says so: waiting means running the io_context until an event is there, timeouts are reached by
// advance().
class TransportHarness : public AttemptSink {
 public:
  explicit TransportHarness(HttpTransportOptions options = {}, Resolver::Lookup lookup = {},
                            std::vector<std::string> own_addresses = {})
      : shared_(std::make_unique<HttpShared>(2, std::move(own_addresses), Logger{})) {
    if (lookup)
      shared_->state().resolver = std::make_shared<Resolver>(ResolverOptions{}, std::move(lookup));
    transport_ = make_http_transport(
        io_, *shared_, *this, options, [this] { return now_; }, [this] { ++wakes_; });
  }

  // Loopback over http allowed, 30 s and 5 s.
  static std::shared_ptr<Destination> destination(const FaultReceiver& receiver,
                                                  const std::string& host = "127.0.0.1") {
    auto made = std::make_shared<Destination>();
    const bool tls = receiver.url().starts_with("https");
    made->scheme = tls ? "https" : "http";
    made->host = host;
    made->port = receiver.port();
    made->network.allow_http = true;
    made->network.allow = {"127.0.0.0/8", "localhost", host};
    made->timeout = std::chrono::seconds(30);
    made->connect_timeout = std::chrono::seconds(5);
    made->pool_key = made->scheme + "://" + host + ":" + std::to_string(made->port);
    return made;
  }

  TestAttempt& start(const std::shared_ptr<const Destination>& destination,
                     std::vector<std::string> pieces = {"[1]"}) {
    TestAttempt& attempt = attempts_.emplace_back();
    attempt.pieces = std::move(pieces);
    std::size_t bytes = 0;
    for (const std::string& piece : attempt.pieces) {
      attempt.views.push_back(piece);
      bytes += piece.size();
    }
    attempt.head = "POST /hook HTTP/1.1\r\nHost: test\r\nContent-Length: " + std::to_string(bytes) +
                   "\r\n\r\n";
    AttemptRequest request;
    request.destination = destination;
    request.head = attempt.head;
    request.body = attempt.views;
    request.body_bytes = bytes;
    request.begin = begin;
    starting_ = true;
    transport_->start(&attempt, std::move(request));
    starting_ = false;
    return attempt;
  }

  // Runs handlers until the condition holds; a test that waits in vain fails after 20 s.
  template <typename Condition>
  bool run_until(Condition condition) {
    const auto give_up = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    while (!condition()) {
      if (std::chrono::steady_clock::now() > give_up) {
        ADD_FAILURE() << "waited in vain";
        return false;
      }
      if (io_.stopped()) io_.restart();
      io_.run_one_for(std::chrono::milliseconds(10));
    }
    return true;
  }
  const AttemptResult& wait(TestAttempt& attempt) {
    run_until([&] { return attempt.done; });
    return attempt.result;
  }
  const AttemptResult& deliver(const std::shared_ptr<const Destination>& destination,
                               std::vector<std::string> pieces = {"[1]"}) {
    return wait(start(destination, std::move(pieces)));
  }

  void advance(Duration by) {
    now_ += by;
    transport_->on_deadline(now_);
  }
  // Until the transport wants to be called that long from now. (next_deadline() may be too early
  // until it was called.)
  bool run_until_deadline_in(Duration delay) {
    return run_until([&] {
      transport_->on_deadline(now_);
      return transport_->next_deadline() == now_ + delay;
    });
  }

  void attempt_done(AttemptToken token, AttemptResult&& result) override {
    EXPECT_FALSE(starting_) << "attempt_done() from inside start()";
    auto& attempt = *static_cast<TestAttempt*>(token);
    EXPECT_FALSE(attempt.done) << "attempt_done() twice";
    attempt.done = true;
    attempt.result = std::move(result);
    if (on_done) on_done(attempt);
  }

  Transport& transport() { return *transport_; }
  TransportStats stats() const { return transport_->stats(); }
  void destroy_transport() { transport_.reset(); }
  void destroy_shared() { shared_.reset(); }
  int wakes() const { return wakes_; }
  TimePoint now() const { return now_; }

  std::function<void(TestAttempt&)> on_done;
  TimePoint begin{};  // of the attempts that are started

 private:
  boost::asio::io_context io_{1};
  std::unique_ptr<HttpShared> shared_;
  TimePoint now_{std::chrono::hours(1)};
  int wakes_ = 0;
  bool starting_ = false;
  std::deque<TestAttempt> attempts_;
  std::unique_ptr<Transport> transport_;
};

inline std::string token_of(const AttemptResult& result) {
  return reason_token(result.reason, result.status);
}

}  // namespace postbag

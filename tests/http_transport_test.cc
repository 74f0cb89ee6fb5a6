// The HTTP transport on real sockets, without TLS.
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <string>
#include <vector>

#include "tests/support/fault_receiver.h"
#include "tests/support/transport_harness.h"

namespace postbag {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr std::size_t large_bytes = 16 << 20;  // more than socket buffers take

std::uint16_t closed_port() {
  FaultReceiver receiver;
  return receiver.port();
}

TEST(HttpTransport, DeliversBytesAsTheyAreAndKeepsTheConnection) {
  FaultReceiver receiver;
  TransportHarness harness;
  const auto destination = TransportHarness::destination(receiver);
  EXPECT_TRUE(harness.deliver(destination, {"[", "", "{\"a\":1}", ",2", "]", ""}).delivered());
  std::vector<std::string> many(300, "x");
  many.emplace_back(5000, '\0');
  std::string expected;
  for (const std::string& piece : many) expected += piece;
  EXPECT_EQ(harness.deliver(destination, many).status, 200);
  const auto requests = receiver.requests();
  ASSERT_EQ(requests.size(), 2u);
  EXPECT_EQ(requests[0].body, "[{\"a\":1},2]");
  EXPECT_EQ(requests[0].method + requests[0].path + requests[0].header("host"), "POST/hooktest");
  EXPECT_EQ(requests[1].body, expected);
  EXPECT_EQ(receiver.connection_count(), 1u);
  const TransportStats stats = harness.stats();
  EXPECT_EQ(stats.connects, 1u);
  EXPECT_EQ(stats.reused, 1u);
  EXPECT_EQ(stats.connections_open, 1u);
  EXPECT_EQ(stats.connections_idle, 1u);
  EXPECT_GT(stats.bytes_sent, expected.size());
}

// Small requests are copied into one piece, larger ones gathered: the limit is passed here.
TEST(HttpTransport, DeliversRequestsOfEverySizeAroundTheLimitOfCopying) {
  FaultReceiver receiver;
  TransportHarness harness;
  const auto destination = TransportHarness::destination(receiver);
  std::vector<std::string> bodies;
  for (std::size_t size = 1900; size < 2100; size += 7) {
    const std::vector<std::string> pieces = {"[\"", std::string(size, 'a'), "", "b\"", "]"};
    ASSERT_TRUE(harness.deliver(destination, pieces).delivered());
    bodies.push_back("[\"" + std::string(size, 'a') + "b\"]");
  }
  const auto requests = receiver.requests();
  ASSERT_EQ(requests.size(), bodies.size());
  for (std::size_t i = 0; i < bodies.size(); ++i) EXPECT_EQ(requests[i].body, bodies[i]);
  EXPECT_EQ(receiver.connection_count(), 1u);
}

TEST(HttpTransport, DeliversABodyLargerThanTheSocketBuffers) {
  FaultReceiver receiver;
  TransportHarness harness;
  std::string first(large_bytes / 2, 'a');
  std::string second(large_bytes / 2 + 1, 'b');
  EXPECT_TRUE(
      harness.deliver(TransportHarness::destination(receiver), {first, second}).delivered());
  ASSERT_EQ(receiver.request_count(), 1u);
  EXPECT_TRUE(receiver.requests()[0].body == first + second);
}

TEST(HttpTransport, TheNextRequestMayStartInsideAttemptDone) {
  FaultReceiver receiver;
  TransportHarness harness;
  const auto destination = TransportHarness::destination(receiver);
  int left = 50;
  harness.on_done = [&](TestAttempt& attempt) {
    EXPECT_TRUE(attempt.result.delivered());
    if (--left > 0) harness.start(destination);
  };
  harness.start(destination);
  harness.run_until([&] { return left == 0; });
  EXPECT_EQ(receiver.request_count(), 50u);
  EXPECT_EQ(receiver.connection_count(), 1u);
}

TEST(HttpTransport, ParallelRequestsHaveConnectionsOfTheirOwn) {
  ReceiverOptions options;
  options.reply = [](const FaultRequest&) {
    return FaultReply::hang().then(FaultReply::status(200));
  };
  FaultReceiver receiver(options);
  TransportHarness harness;
  const auto destination = TransportHarness::destination(receiver);
  std::vector<TestAttempt*> attempts;
  for (int i = 0; i < 10; ++i) attempts.push_back(&harness.start(destination));
  harness.run_until([&] { return receiver.request_count() == 10; });
  receiver.release();
  for (TestAttempt* attempt : attempts) EXPECT_TRUE(harness.wait(*attempt).delivered());
  EXPECT_EQ(receiver.connection_count(), 10u);
}

TEST(HttpTransport, ConnectionRefused) {
  FaultReceiver receiver;
  TransportHarness harness;
  auto destination = TransportHarness::destination(receiver);
  destination->port = closed_port();
  const AttemptResult& result = harness.deliver(destination);
  EXPECT_EQ(token_of(result), "connect_refused");
  EXPECT_TRUE(result.counted);
  EXPECT_FALSE(result.final);
  EXPECT_EQ(harness.stats().connections_open, 0u);
}

// The next vetted address is tried.
TEST(HttpTransport, TriesTheNextAddress) {
  FaultReceiver receiver;
  TransportHarness harness({}, [](const std::string&) {
    ResolveResult result;
    result.addresses = {*parse_ipv4("127.0.0.2"), *parse_ipv4("127.0.0.1")};
    return result;
  });
  EXPECT_TRUE(harness.deliver(TransportHarness::destination(receiver, "two.test")).delivered());
}

// Dropped while idle, before we noticed: sent again at once, once, on a new connection.
TEST(HttpTransport, AStaleConnectionIsReplacedAtOnce) {
  for (const bool with_reset : {false, true}) {
    FaultReceiver receiver;
    TransportHarness harness;
    const auto destination = TransportHarness::destination(receiver);
    ASSERT_TRUE(harness.deliver(destination).delivered());
    receiver.close_connections(with_reset);
    ASSERT_TRUE(receiver.wait_for_ended(1));
    EXPECT_TRUE(harness.deliver(destination, {"second"}).delivered());
    EXPECT_EQ(harness.stats().resent, 1u);
    ASSERT_EQ(receiver.request_count(), 2u);
    EXPECT_EQ(receiver.requests()[1].body, "second");
    EXPECT_EQ(receiver.requests()[1].connection, 1u);
  }
}

// The second time counts.
TEST(HttpTransport, AResentRequestIsNotResentAgain) {
  for (const FaultReply& ending : {FaultReply::close(), FaultReply::reset()}) {
    FaultReceiver receiver;
    TransportHarness harness;
    const auto destination = TransportHarness::destination(receiver);
    ASSERT_TRUE(harness.deliver(destination).delivered());
    receiver.push(ending);
    receiver.push(ending);
    receiver.push(ending);
    EXPECT_EQ(token_of(harness.deliver(destination)), "closed_no_response");
    EXPECT_EQ(harness.stats().resent, 1u);
    EXPECT_EQ(receiver.request_count(), 3u);
  }
}

// After a byte of the answer nothing is resent.
TEST(HttpTransport, APartialAnswerOnAReusedConnectionIsAFailure) {
  FaultReceiver receiver;
  TransportHarness harness;
  const auto destination = TransportHarness::destination(receiver);
  ASSERT_TRUE(harness.deliver(destination).delivered());
  receiver.push(FaultReply::raw("H").then_close());
  EXPECT_EQ(token_of(harness.deliver(destination)), "truncated_header");
  EXPECT_EQ(harness.stats().resent, 0u);
}

TEST(HttpTransport, NoticesThatAnIdleConnectionIsClosed) {
  FaultReceiver receiver;
  TransportHarness harness;
  ASSERT_TRUE(harness.deliver(TransportHarness::destination(receiver)).delivered());
  EXPECT_EQ(harness.stats().connections_open, 1u);
  receiver.close_connections();
  EXPECT_TRUE(harness.run_until([&] { return harness.stats().connections_open == 0; }));
}

TEST(HttpTransport, BytesOnAnIdleConnectionEndIt) {
  FaultReceiver receiver;
  TransportHarness harness;
  const auto destination = TransportHarness::destination(receiver);
  receiver.push(FaultReply::status(200).then(FaultReply::hang()).then(FaultReply::status(500)));
  ASSERT_TRUE(harness.deliver(destination).delivered());
  receiver.release();
  EXPECT_TRUE(harness.run_until([&] { return harness.stats().connections_open == 0; }));
  EXPECT_TRUE(harness.deliver(destination).delivered());
}

TEST(HttpTransport, AnIdleConnectionIsClosedAfterAWhile) {
  FaultReceiver receiver;
  TransportHarness harness;
  ASSERT_TRUE(harness.deliver(TransportHarness::destination(receiver)).delivered());
  harness.advance(seconds(29));
  EXPECT_EQ(harness.stats().connections_idle, 1u);
  harness.advance(seconds(1));
  EXPECT_EQ(harness.stats().connections_open, 0u);
  EXPECT_TRUE(receiver.wait_for_ended(1));
  EXPECT_EQ(harness.transport().next_deadline(), time_point_never);
}

// Its timer stays where the first request left it, which neither ends a later request nor makes the
// connection idle for longer or shorter.
TEST(HttpTransport, AConnectionThatIsUsedAgainIsIdleFromThenOn) {
  FaultReceiver receiver;
  TransportHarness harness;
  const auto destination = TransportHarness::destination(receiver);
  destination->timeout = seconds(100);
  ASSERT_TRUE(harness.deliver(destination).delivered());
  harness.advance(seconds(20));
  ASSERT_TRUE(harness.deliver(destination).delivered());
  harness.advance(seconds(10));  // the timer of the first
  EXPECT_EQ(harness.stats().connections_idle, 1u);
  receiver.push(FaultReply::hang().then(FaultReply::status(200)));
  TestAttempt& attempt = harness.start(destination);
  ASSERT_TRUE(harness.run_until([&] { return receiver.request_count() == 3; }));
  harness.advance(seconds(25));  // and that of the second
  EXPECT_FALSE(attempt.done);
  receiver.release();
  EXPECT_TRUE(harness.wait(attempt).delivered());
  harness.advance(seconds(15));
  ASSERT_TRUE(harness.deliver(destination).delivered());
  EXPECT_EQ(harness.stats().connects, 1u);
  harness.advance(seconds(29));
  EXPECT_EQ(harness.stats().connections_idle, 1u);
  harness.advance(seconds(1));
  EXPECT_EQ(harness.stats().connections_open, 0u);
  EXPECT_EQ(harness.transport().next_deadline(), time_point_never);
}

// An orderly close without an answer.
TEST(HttpTransport, AFreshConnectionThatEndsWithoutAnAnswer) {
  FaultReceiver receiver;
  TransportHarness harness;
  const auto destination = TransportHarness::destination(receiver);
  receiver.push(FaultReply::reset());
  EXPECT_EQ(token_of(harness.deliver(destination)), "reset");
  receiver.push(FaultReply::close());
  EXPECT_EQ(token_of(harness.deliver(destination)), "closed_no_response");
  EXPECT_EQ(harness.stats().resent, 0u);
}

TEST(HttpTransport, AReceiverThatStopsReading) {
  ReceiverOptions options;
  options.receive_buffer_bytes = 4096;
  options.early = [](const FaultRequest&) { return FaultReply::hang().then_close(); };
  FaultReceiver receiver(options);
  TransportHarness harness;
  TestAttempt& attempt =
      harness.start(TransportHarness::destination(receiver), {std::string(large_bytes, 'x')});
  ASSERT_TRUE(harness.run_until([&] { return receiver.request_count() == 1; }));
  ASSERT_TRUE(harness.run_until_deadline_in(seconds(10)));
  harness.advance(seconds(10));
  EXPECT_EQ(token_of(harness.wait(attempt)), "write_timeout");
}

// The deadline is absolute, bytes do not move it.
TEST(HttpTransport, TheWholeAttemptHasADeadline) {
  FaultReceiver receiver;
  TransportHarness harness;
  const auto destination = TransportHarness::destination(receiver);
  receiver.push(
      FaultReply::raw("HTTP/1.1 100 C\r\n\r\nHTTP/1.1 200 OK\r\nA").then(FaultReply::hang()));
  TestAttempt& attempt = harness.start(destination);
  ASSERT_TRUE(harness.run_until([&] { return receiver.request_count() == 1; }));
  harness.advance(seconds(29));
  EXPECT_FALSE(attempt.done);
  harness.advance(seconds(1));
  EXPECT_EQ(token_of(harness.wait(attempt)), "timeout");
  EXPECT_EQ(attempt.result.status, 0);
  EXPECT_EQ(harness.stats().connections_open, 0u);
}

TEST(HttpTransport, TheDeadlineCountsFromTheBeginThatIsGiven) {
  FaultReceiver receiver;
  TransportHarness harness;
  const auto destination = TransportHarness::destination(receiver);
  receiver.push(FaultReply::hang());
  receiver.push(FaultReply::hang());
  harness.begin = harness.now() - seconds(1);
  TestAttempt& earlier = harness.start(destination);
  EXPECT_EQ(harness.transport().next_deadline(), harness.now() + seconds(5));  // of the connect
  harness.begin = {};
  TestAttempt& later = harness.start(destination);
  ASSERT_TRUE(harness.run_until([&] { return receiver.request_count() == 2; }));
  harness.advance(seconds(29));
  EXPECT_EQ(token_of(harness.wait(earlier)), "timeout");
  EXPECT_FALSE(later.done);
  harness.advance(seconds(1));
  EXPECT_EQ(token_of(harness.wait(later)), "timeout");
}

TEST(HttpTransport, AnAnswerByteByByte) {
  FaultReceiver receiver;
  TransportHarness harness;
  receiver.push(FaultReply::drip("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc"));
  EXPECT_TRUE(harness.deliver(TransportHarness::destination(receiver)).delivered());
  EXPECT_EQ(harness.stats().connections_idle, 1u);
}

TEST(HttpTransport, CutInsideTheHead) {
  FaultReceiver receiver;
  TransportHarness harness;
  receiver.push(FaultReply::raw("HTTP/1.1 200 OK\r\nContent-Le").then_close());
  EXPECT_EQ(token_of(harness.deliver(TransportHarness::destination(receiver))), "truncated_header");
}

TEST(HttpTransport, NoDescriptorLeftIsNotTheReceiversFault) {
#ifdef __SANITIZE_ADDRESS__
  GTEST_SKIP() << "the sanitizer's vptr check opens a pipe, which this test makes impossible";
#endif
  FaultReceiver receiver;
  TransportHarness harness;
  const auto destination = TransportHarness::destination(receiver);
  ASSERT_TRUE(harness.deliver(destination).delivered());
  harness.transport().forget_connections();
  rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
  // No descriptor from 3 on may be made; the ones that are open stay usable.
  rlimit none = before;
  none.rlim_cur = 3;
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &none), 0);
  TestAttempt& attempt = harness.start(destination);
  setrlimit(RLIMIT_NOFILE, &before);
  const AttemptResult& result = harness.wait(attempt);
  EXPECT_EQ(token_of(result), "local_resource");
  EXPECT_FALSE(result.counted);
  EXPECT_TRUE(harness.deliver(destination).delivered());
}

// A connection that is kept for later must not hold the last descriptor.
TEST(HttpTransport, NoDescriptorLeftCostsTheLongestIdleConnection) {
#ifdef __SANITIZE_ADDRESS__
  GTEST_SKIP() << "the sanitizer's vptr check opens a pipe, which this test makes impossible";
#endif
  FaultReceiver first;
  FaultReceiver second;
  TransportHarness harness;
  ASSERT_TRUE(harness.deliver(TransportHarness::destination(first)).delivered());
  const auto destination = TransportHarness::destination(second);
  rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
  const int free = dup(0);
  ASSERT_GE(free, 0);
  close(free);
  // Only descriptors that are in use now may be made, once they are free.
  rlimit none = before;
  none.rlim_cur = static_cast<rlim_t>(free);
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &none), 0);
  TestAttempt& attempt = harness.start(destination);
  setrlimit(RLIMIT_NOFILE, &before);
  EXPECT_EQ(token_of(harness.wait(attempt)), "delivered");
  EXPECT_TRUE(first.wait_for_ended(1));
}

TEST(HttpTransport, TheStatusDecides) {
  FaultReceiver receiver;
  TransportHarness harness;
  const auto destination = TransportHarness::destination(receiver);
  for (const int status : {200, 201, 202, 204, 299}) {
    receiver.push(FaultReply::status(status));
    const AttemptResult& result = harness.deliver(destination);
    EXPECT_TRUE(result.delivered()) << status;
    EXPECT_EQ(result.status, status);
  }
  for (const int status : {300, 301, 304, 307, 400, 404, 410, 413, 429, 500, 503, 599}) {
    receiver.push(
        FaultReply::status(status, status == 304 ? "" : "why", {{"Location", "/elsewhere"}}));
    const AttemptResult& result = harness.deliver(destination);
    EXPECT_EQ(token_of(result), "status_" + std::to_string(status));
    EXPECT_TRUE(result.response_headers.starts_with("Location: /elsewhere\r\n"));
    EXPECT_EQ(result.response_excerpt, status == 304 ? "" : "why");
    EXPECT_TRUE(result.counted);
    EXPECT_FALSE(result.final);
  }
  EXPECT_EQ(receiver.connection_count(), 1u) << "a failure is no reason to close";
}

TEST(HttpTransport, AnswersThatAreNoAnswers) {
  std::string flood;
  for (int i = 0; i < 9; ++i) flood += "HTTP/1.1 100 Continue\r\n\r\n";
  const std::vector<std::pair<std::string, std::string>> cases = {
      {flood, "too_many_1xx"},
      {"HTTP/1.1 101 Switching\r\n\r\n", "bad_protocol"},
      {"HTTP/1.1 200 OK\r\nA: " + std::string(20'000, 'x') + "\r\n\r\n", "header_limit"},
      {"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", "bad_framing"},
      {"SSH-2.0-OpenSSH_9.2\r\n", "bad_response"},
      {"HTTP/2.0 200 OK\r\n\r\n", "bad_response"},
  };
  FaultReceiver receiver;
  TransportHarness harness;
  const auto destination = TransportHarness::destination(receiver);
  for (const auto& [bytes, token] : cases) {
    receiver.push(FaultReply::raw(bytes));
    const AttemptResult& result = harness.deliver(destination);
    EXPECT_EQ(token_of(result), token);
    EXPECT_EQ(result.status, 0);
    EXPECT_EQ(harness.stats().connections_open, 0u);
  }
  receiver.push(
      FaultReply::raw("HTTP/1.1 103 Early\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"));
  EXPECT_TRUE(harness.deliver(destination).delivered());
}

TEST(HttpTransport, ABodyIsReadForALittleWhileOnly) {
  for (const int status : {200, 500}) {
    FaultReceiver receiver;
    TransportHarness harness;
    const std::string head =
        "HTTP/1.1 " + std::to_string(status) + " X\r\nContent-Length: 10\r\n\r\nabc";
    receiver.push(FaultReply::raw(head).then(FaultReply::hang()));
    TestAttempt& attempt = harness.start(TransportHarness::destination(receiver));
    const int wakes = harness.wakes();
    ASSERT_TRUE(harness.run_until_deadline_in(seconds(2)));
    EXPECT_GT(harness.wakes(), wakes) << "a deadline that came closer is told";
    EXPECT_FALSE(attempt.done);
    harness.advance(seconds(2));
    EXPECT_EQ(harness.wait(attempt).status, status);
    EXPECT_EQ(attempt.result.delivered(), status == 200);
    EXPECT_EQ(attempt.result.response_excerpt, status == 200 ? "" : "abc");
    EXPECT_EQ(harness.stats().connections_open, 0u);
  }
}

TEST(HttpTransport, ALargeBodyEndsTheConnection) {
  FaultReceiver receiver;
  TransportHarness harness;
  const auto destination = TransportHarness::destination(receiver);
  receiver.push(FaultReply::status(200, std::string(100'000, 'x')));
  EXPECT_TRUE(harness.deliver(destination).delivered());
  EXPECT_EQ(harness.stats().connections_open, 0u);
  receiver.push(FaultReply::status(500, std::string(100'000, 'y')));
  EXPECT_EQ(harness.deliver(destination).response_excerpt, std::string(1024, 'y'));
  EXPECT_EQ(harness.stats().connections_open, 0u);
  receiver.push(FaultReply::status(200, std::string(16 * 1024, 'z')));
  EXPECT_TRUE(harness.deliver(destination).delivered());
  EXPECT_EQ(harness.stats().connections_idle, 1u);
}

TEST(HttpTransport, ChunkedAndCloseDelimitedAnswers) {
  FaultReceiver receiver;
  TransportHarness harness;
  const auto destination = TransportHarness::destination(receiver);
  receiver.push(FaultReply::chunked(200, {"a", "bc"}));
  EXPECT_TRUE(harness.deliver(destination).delivered());
  receiver.push(FaultReply::chunked(500, {"w", "hy"}));
  EXPECT_EQ(harness.deliver(destination).response_excerpt, "why");
  EXPECT_EQ(harness.stats().connections_idle, 1u);
  receiver.push(FaultReply::raw("HTTP/1.1 500 X\r\n\r\nuntil the end").then_close());
  EXPECT_EQ(harness.deliver(destination).response_excerpt, "until the end");
  receiver.push(
      FaultReply::raw("HTTP/1.1 200 X\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"));
  EXPECT_TRUE(harness.deliver(destination).delivered());
  EXPECT_EQ(harness.stats().connections_open, 0u);
}

TEST(HttpTransport, AnEarlyRefusalIsRead) {
  ReceiverOptions options;
  options.receive_buffer_bytes = 4096;
  options.early = [](const FaultRequest&) {
    return FaultReply::status(413, "too large").then(FaultReply::hang()).then_close();
  };
  FaultReceiver receiver(options);
  TransportHarness harness;
  const AttemptResult& result =
      harness.deliver(TransportHarness::destination(receiver), {std::string(large_bytes, 'x')});
  EXPECT_EQ(token_of(result), "status_413");
  EXPECT_EQ(result.response_excerpt, "too large");
  EXPECT_EQ(harness.stats().connections_open, 0u);
}

TEST(HttpTransport, AnEarlySuccessIsNotBelieved) {
  ReceiverOptions options;
  options.receive_buffer_bytes = 4096;
  options.early = [](const FaultRequest&) {
    return FaultReply::status(200).then(FaultReply::hang()).then_close();
  };
  FaultReceiver receiver(options);
  TransportHarness harness;
  const AttemptResult& result =
      harness.deliver(TransportHarness::destination(receiver), {std::string(large_bytes, 'x')});
  EXPECT_EQ(token_of(result), "early_success");
  EXPECT_EQ(result.status, 200);
  EXPECT_EQ(harness.stats().connections_open, 0u);
}

TEST(HttpTransport, BytesBehindAnAnswerEndTheConnection) {
  FaultReceiver receiver;
  TransportHarness harness;
  const auto destination = TransportHarness::destination(receiver);
  for (const std::string bytes :
       {"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nHTTP/1.1 500 X\r\n\r\n",
        "HTTP/1.1 204 N\r\n\r\nbody"}) {
    receiver.push(FaultReply::raw(bytes));
    EXPECT_TRUE(harness.deliver(destination).delivered());
    EXPECT_EQ(harness.stats().connections_open, 0u);
  }
}

// Limits of connections.
TEST(HttpTransport, MakesRoomForANewConnectionAtTheCostOfTheLongestIdle) {
  FaultReceiver first;
  FaultReceiver second;
  FaultReceiver third;
  TransportHarness harness({.max_connections = 2});
  ASSERT_TRUE(harness.deliver(TransportHarness::destination(first)).delivered());
  ASSERT_TRUE(harness.deliver(TransportHarness::destination(second)).delivered());
  ASSERT_TRUE(harness.deliver(TransportHarness::destination(first)).delivered());
  ASSERT_TRUE(harness.deliver(TransportHarness::destination(third)).delivered());
  EXPECT_TRUE(second.wait_for_ended(1));
  EXPECT_EQ(first.ended_count(), 0u);
  EXPECT_EQ(harness.stats().connections_open, 2u);
}

TEST(HttpTransport, WaitsForABusyConnectionInOrder) {
  ReceiverOptions options;
  options.reply = [](const FaultRequest&) {
    return FaultReply::hang().then(FaultReply::status(200));
  };
  FaultReceiver receiver(options);
  FaultReceiver other;
  TransportHarness harness({.max_connections = 1});
  const auto destination = TransportHarness::destination(receiver);
  std::vector<TestAttempt*> attempts;
  for (const char* body : {"0", "1", "2"}) attempts.push_back(&harness.start(destination, {body}));
  attempts.push_back(&harness.start(TransportHarness::destination(other)));
  harness.run_until([&] { return receiver.request_count() == 1; });
  receiver.release();
  for (TestAttempt* attempt : attempts) EXPECT_TRUE(harness.wait(*attempt).delivered());
  const auto requests = receiver.requests();
  ASSERT_EQ(requests.size(), 3u);
  for (std::size_t i = 0; i < 3; ++i) EXPECT_EQ(requests[i].body, std::to_string(i));
  EXPECT_EQ(receiver.connection_count(), 1u);
  EXPECT_EQ(harness.stats().connections_open, 1u);
}

TEST(HttpTransport, WaitingInVainForAConnectionIsNotCounted) {
  FaultReceiver receiver;
  TransportHarness harness({.max_connections = 1});
  const auto slow = TransportHarness::destination(receiver);
  auto hasty = std::make_shared<Destination>(*slow);
  hasty->timeout = seconds(3);
  receiver.push(FaultReply::hang().then(FaultReply::status(200)));
  TestAttempt& first = harness.start(slow);
  TestAttempt& second = harness.start(hasty);
  harness.run_until([&] { return receiver.request_count() == 1; });
  harness.advance(seconds(3));
  EXPECT_EQ(token_of(harness.wait(second)), "local_resource");
  EXPECT_FALSE(second.result.counted);
  receiver.release();
  EXPECT_TRUE(harness.wait(first).delivered());
}

// The shard's other calls.
TEST(HttpTransport, AbortEndsEveryAttemptWithTheReason) {
  FaultReceiver receiver;
  TransportHarness harness({.max_connections = 2});
  const auto destination = TransportHarness::destination(receiver);
  receiver.push(FaultReply::hang());
  receiver.push(
      FaultReply::raw("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n").then(FaultReply::hang()));
  TestAttempt& hanging = harness.start(destination);
  ASSERT_TRUE(harness.run_until([&] { return receiver.request_count() == 1; }));
  TestAttempt& answered = harness.start(destination);
  TestAttempt& waiting = harness.start(destination);
  ASSERT_TRUE(harness.run_until_deadline_in(seconds(2)));
  harness.transport().abort_all(Reason::shutdown);
  EXPECT_EQ(token_of(harness.wait(hanging)), "shutdown");
  EXPECT_EQ(token_of(harness.wait(waiting)), "shutdown");
  EXPECT_TRUE(harness.wait(answered).delivered()) << "its answer had come";
  EXPECT_EQ(receiver.request_count(), 2u);
  EXPECT_TRUE(harness.deliver(destination).delivered()) << "the transport can be used afterwards";
}

TEST(HttpTransport, ForgettingClosesConnectionsAfterTheirRequest) {
  FaultReceiver receiver;
  TransportHarness harness;
  const auto destination = TransportHarness::destination(receiver);
  receiver.push(FaultReply::hang().then(FaultReply::status(200)));
  TestAttempt& busy = harness.start(destination);
  harness.run_until([&] { return receiver.request_count() == 1; });
  ASSERT_TRUE(harness.deliver(destination).delivered());
  EXPECT_EQ(harness.stats().connections_idle, 1u);
  harness.transport().forget_connections();
  EXPECT_EQ(harness.stats().connections_open, 1u);
  receiver.release();
  EXPECT_TRUE(harness.wait(busy).delivered());
  EXPECT_EQ(harness.stats().connections_open, 0u);
  EXPECT_TRUE(harness.deliver(destination).delivered());
}

TEST(HttpTransport, MayBeDestroyedWithEverythingInFlight) {
  FaultReceiver receiver;
  TransportHarness harness({.max_connections = 3});
  const auto destination = TransportHarness::destination(receiver);
  receiver.push(FaultReply::hang());
  TestAttempt& busy = harness.start(destination);
  harness.run_until([&] { return receiver.request_count() == 1; });
  ASSERT_TRUE(harness.deliver(destination).delivered());
  TestAttempt& connecting = harness.start(destination, {std::string(large_bytes, 'x')});
  harness.start(destination);
  harness.start(destination);
  harness.destroy_transport();
  EXPECT_TRUE(receiver.wait_for_ended(2));
  bool ran = false;
  harness.run_until([&] { return std::exchange(ran, true); });
  EXPECT_FALSE(busy.done);
  EXPECT_FALSE(connecting.done);
}

// Policy.
TEST(HttpTransport, AForbiddenLiteralIsNotDialled) {
  FaultReceiver receiver;
  TransportHarness harness;
  auto destination = TransportHarness::destination(receiver);
  destination->network.allow = {"127.0.0.9"};
  const AttemptResult& result = harness.deliver(destination);
  EXPECT_EQ(token_of(result), "ssrf_denied");
  EXPECT_TRUE(result.final);
  EXPECT_FALSE(result.detail.empty());
  EXPECT_EQ(receiver.connection_count(), 0u);
}

TEST(HttpTransport, OneForbiddenAddressForbidsThemAll) {
  FaultReceiver receiver;
  TransportHarness harness({}, [](const std::string&) {
    ResolveResult result;
    result.addresses = {*parse_ipv4("127.0.0.1"), *parse_ipv4("169.254.169.254")};
    return result;
  });
  auto destination = TransportHarness::destination(receiver, "mixed.test");
  destination->network.allow = {"127.0.0.1"};
  const AttemptResult& result = harness.deliver(destination);
  EXPECT_EQ(token_of(result), "ssrf_denied");
  EXPECT_TRUE(result.final);
  EXPECT_EQ(receiver.connection_count(), 0u);
}

TEST(HttpTransport, TheOwnAddressIsNeverATarget) {
  FaultReceiver receiver;
  TransportHarness harness({}, {}, {"127.0.0.1:" + std::to_string(receiver.port())});
  EXPECT_EQ(token_of(harness.deliver(TransportHarness::destination(receiver))), "ssrf_denied");
  EXPECT_EQ(receiver.connection_count(), 0u);
}

// Names.
TEST(HttpTransport, ResolvesNames) {
  FaultReceiver receiver;
  TransportHarness harness;
  auto destination = TransportHarness::destination(receiver, "localhost");
  destination->network.allow = {"127.0.0.0/8", "::1", "localhost"};
  EXPECT_TRUE(harness.deliver(destination).delivered());
}

TEST(HttpTransport, NamesThatCannotBeResolved) {
  for (const Reason reason : {Reason::dns_not_found, Reason::dns_failed}) {
    FaultReceiver receiver;
    TransportHarness harness({}, [reason](const std::string&) {
      ResolveResult result;
      result.reason = reason;
      return result;
    });
    const AttemptResult& result =
        harness.deliver(TransportHarness::destination(receiver, "no.test"));
    EXPECT_EQ(result.reason, reason);
    EXPECT_TRUE(result.counted);
  }
}

}  // namespace
}  // namespace postbag

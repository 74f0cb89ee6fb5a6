// The HTTP transport over TLS.
#include <gtest/gtest.h>
#include <openssl/ssl.h>

#include <atomic>
#include <future>
#include <string>
#include <vector>

#include "tests/support/fault_receiver.h"
#include "tests/support/test_ca.h"
#include "tests/support/transport_harness.h"

namespace postbag {
namespace {

using std::chrono::seconds;

const TestCa& ca() {
  static const TestCa made;
  return made;
}

ReceiverOptions tls_options(const TestCertificate& certificate) {
  ReceiverOptions options;
  options.tls.emplace();
  options.tls->certificate = certificate;
  return options;
}

std::shared_ptr<Destination> trusting(const FaultReceiver& receiver,
                                      const std::string& host = "127.0.0.1") {
  auto destination = TransportHarness::destination(receiver, host);
  destination->tls.ca_file = ca().ca_file();
  return destination;
}

// An https destination whose receiver knows nothing of TLS.
std::shared_ptr<Destination> over_tls(const FaultReceiver& receiver) {
  auto destination = trusting(receiver);
  destination->scheme = "https";
  return destination;
}

Resolver::Lookup to_loopback() {
  return [](const std::string&) {
    ResolveResult result;
    result.addresses = {*parse_ipv4("127.0.0.1")};
    return result;
  };
}

TEST(HttpTransportTls, DeliversAndKeepsTheConnection) {
  FaultReceiver receiver(tls_options(ca().good()));
  TransportHarness harness;
  const auto destination = trusting(receiver);
  std::string large(3 << 20, 'x');
  large[large.size() / 2] = '\0';
  EXPECT_EQ(token_of(harness.deliver(destination, {"[", "1", "", "]"})), "delivered");
  EXPECT_EQ(token_of(harness.deliver(destination, {"[", large, "]"})), "delivered");
  receiver.push(FaultReply::chunked(500, {"why"}));
  EXPECT_EQ(harness.deliver(destination).response_excerpt, "why");
  const auto requests = receiver.requests();
  ASSERT_EQ(requests.size(), 3u);
  EXPECT_EQ(requests[0].body, "[1]");
  EXPECT_TRUE(requests[1].body == "[" + large + "]");
  EXPECT_EQ(receiver.connection_count(), 1u);
  EXPECT_EQ(harness.stats().reused, 2u);
}

TEST(HttpTransportTls, SendsTheNameButNeverAnAddressAsServerName) {
  FaultReceiver receiver(tls_options(ca().good()));
  TransportHarness harness({}, to_loopback());
  EXPECT_TRUE(harness.deliver(trusting(receiver)).delivered());
  EXPECT_TRUE(harness.deliver(trusting(receiver, "localhost")).delivered());
  const auto requests = receiver.requests();
  ASSERT_EQ(requests.size(), 2u);
  EXPECT_EQ(requests[0].server_name, "");
  EXPECT_EQ(requests[1].server_name, "localhost");
}

// The receiver takes what is offered first.
TEST(HttpTransportTls, OffersAesOf128BitsFirst) {
  FaultReceiver receiver(tls_options(ca().good()));
  TransportHarness harness;
  EXPECT_TRUE(harness.deliver(trusting(receiver)).delivered());
  ASSERT_EQ(receiver.requests().size(), 1u);
  EXPECT_EQ(receiver.requests()[0].tls_suite, "TLS_AES_128_GCM_SHA256");
}

TEST(HttpTransportTls, ResumesSessions) {
  for (const int version : {0, TLS1_2_VERSION}) {
    ReceiverOptions options = tls_options(ca().good());
    options.tls->max_version = version;
    options.reply = [](const FaultRequest&) {
      return FaultReply::raw("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
    };
    FaultReceiver receiver(options);
    TransportHarness harness;
    const auto destination = trusting(receiver);
    for (int i = 0; i < 3; ++i) EXPECT_TRUE(harness.deliver(destination).delivered());
    const auto requests = receiver.requests();
    ASSERT_EQ(requests.size(), 3u);
    EXPECT_FALSE(requests[0].tls_resumed);
    EXPECT_TRUE(requests[1].tls_resumed);
    EXPECT_TRUE(requests[2].tls_resumed);
    harness.transport().forget_connections();
    EXPECT_TRUE(harness.deliver(destination).delivered());
    EXPECT_FALSE(receiver.requests()[3].tls_resumed) << "sessions are forgotten too";
  }
}

// The next connection would not have looked at the chain.
TEST(HttpTransportTls, ATicketThatComesAfterAReloadIsNotKept) {
  ReceiverOptions options = tls_options(ca().good());
  options.tls->late_ticket = true;
  std::promise<void> arrived, reloaded;
  std::atomic<int> requests{0};
  options.reply = [&](const FaultRequest&) {
    if (++requests == 2) {
      arrived.set_value();
      reloaded.get_future().wait_for(std::chrono::seconds(20));
    }
    return FaultReply::raw("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
  };
  FaultReceiver receiver(options);
  TransportHarness harness;
  const auto destination = trusting(receiver);
  EXPECT_TRUE(harness.deliver(destination).delivered());
  TestAttempt& attempt = harness.start(destination);
  std::future<void> has_arrived = arrived.get_future();
  harness.run_until(
      [&] { return has_arrived.wait_for(std::chrono::seconds(0)) == std::future_status::ready; });
  harness.transport().forget_connections();
  reloaded.set_value();
  EXPECT_TRUE(harness.wait(attempt).delivered());
  EXPECT_TRUE(harness.deliver(destination).delivered());
  EXPECT_TRUE(harness.deliver(destination).delivered());
  const auto seen = receiver.requests();
  ASSERT_EQ(seen.size(), 4u);
  EXPECT_TRUE(seen[1].tls_resumed);
  EXPECT_FALSE(seen[2].tls_resumed);
  EXPECT_TRUE(seen[3].tls_resumed);
}

TEST(HttpTransportTls, ACertificateThatCannotBeTrusted) {
  for (const TestCertificate& certificate :
       {ca().expired(), ca().not_yet_valid(), ca().self_signed()}) {
    FaultReceiver receiver(tls_options(certificate));
    TransportHarness harness;
    const AttemptResult& result = harness.deliver(trusting(receiver));
    EXPECT_EQ(token_of(result), "tls_cert");
    EXPECT_FALSE(result.detail.empty());
    EXPECT_FALSE(result.final);
    EXPECT_TRUE(receiver.wait_for_ended(1));
    EXPECT_EQ(receiver.request_count(), 0u);
  }
  FaultReceiver unknown(tls_options(ca().good()));
  TransportHarness harness;
  EXPECT_EQ(token_of(harness.deliver(TransportHarness::destination(unknown))), "tls_cert");
  EXPECT_EQ(unknown.request_count(), 0u);
}

TEST(HttpTransportTls, AMissingCaFileIsNoReasonToTrust) {
  FaultReceiver receiver(tls_options(ca().good()));
  TransportHarness harness;
  auto destination = trusting(receiver);
  destination->tls.ca_file = "/nonexistent/ca.pem";
  EXPECT_EQ(token_of(harness.deliver(destination)), "tls_cert");
  EXPECT_EQ(receiver.request_count(), 0u);
}

TEST(HttpTransportTls, ACertificateForAnotherName) {
  CertificateSpec partial;
  partial.dns_names = {"f*.hooks.test"};
  CertificateSpec common_name_only;
  common_name_only.common_name = "foo.hooks.test";
  CertificateSpec address_as_name;
  address_as_name.dns_names = {"127.0.0.1"};
  const std::vector<std::pair<TestCertificate, std::string>> cases = {
      {ca().wrong_name(), "localhost"},           {ca().wrong_name(), "127.0.0.1"},
      {ca().issue(partial), "foo.hooks.test"},    {ca().issue(common_name_only), "foo.hooks.test"},
      {ca().issue(address_as_name), "127.0.0.1"},
  };
  for (const auto& [certificate, host] : cases) {
    FaultReceiver receiver(tls_options(certificate));
    TransportHarness harness({}, to_loopback());
    EXPECT_EQ(token_of(harness.deliver(trusting(receiver, host))), "tls_name") << host;
    EXPECT_TRUE(receiver.wait_for_ended(1));
    EXPECT_EQ(receiver.request_count(), 0u);
  }
  CertificateSpec wildcard;
  wildcard.dns_names = {"*.hooks.test"};
  FaultReceiver receiver(tls_options(ca().issue(wildcard)));
  TransportHarness harness({}, to_loopback());
  EXPECT_TRUE(harness.deliver(trusting(receiver, "foo.hooks.test")).delivered());
}

TEST(HttpTransportTls, OldVersionsAreRefused) {
  ReceiverOptions options = tls_options(ca().good());
  options.tls->max_version = TLS1_1_VERSION;
  FaultReceiver receiver(options);
  TransportHarness harness;
  EXPECT_EQ(token_of(harness.deliver(trusting(receiver))), "tls_version");
}

TEST(HttpTransportTls, HandshakesThatDoNotHappen) {
  const std::vector<std::pair<FaultReply, std::string>> cases = {
      {FaultReply::close(), "tls_eof"},
      {FaultReply::raw("HTTP/1.1 400 Bad Request\r\n\r\n").then(FaultReply::hang()),
       "tls_protocol"},
  };
  for (const auto& [greeting, token] : cases) {
    ReceiverOptions options;
    options.greeting = greeting;
    FaultReceiver receiver(options);
    TransportHarness harness;
    EXPECT_EQ(token_of(harness.deliver(over_tls(receiver))), token);
    EXPECT_EQ(harness.stats().connections_open, 0u);
  }
}

TEST(HttpTransportTls, AHandshakeThatIsReset) {
  FaultReceiver receiver;  // waits for the end of a request head, which a ClientHello is not
  TransportHarness harness;
  TestAttempt& attempt = harness.start(over_tls(receiver));
  ASSERT_TRUE(harness.run_until([&] { return harness.stats().bytes_sent > 0; }));
  ASSERT_TRUE(receiver.wait_for_connections(1));
  receiver.close_connections(true);
  EXPECT_EQ(token_of(harness.wait(attempt)), "tls_eof");
}

TEST(HttpTransportTls, AHandshakeThatStalls) {
  ReceiverOptions options;
  options.greeting = FaultReply::hang();
  FaultReceiver receiver(options);
  TransportHarness harness;
  TestAttempt& attempt = harness.start(over_tls(receiver));
  ASSERT_TRUE(harness.run_until([&] { return harness.stats().bytes_sent > 0; }));
  harness.advance(seconds(5));
  EXPECT_EQ(token_of(harness.wait(attempt)), "tls_timeout");
}

TEST(HttpTransportTls, AClientCertificateIsDemanded) {
  for (const int version : {0, TLS1_2_VERSION}) {
    ReceiverOptions options = tls_options(ca().good());
    options.tls->max_version = version;
    options.tls->require_client_certificate = true;
    FaultReceiver receiver(options);
    TransportHarness harness;
    EXPECT_EQ(token_of(harness.deliver(trusting(receiver))), "tls_client_cert") << version;
    EXPECT_EQ(receiver.request_count(), 0u);
  }
}

TEST(HttpTransportTls, AMissingGoodbyeAfterTheMessageIsNoFault) {
  FaultReceiver receiver(tls_options(ca().good()));
  TransportHarness harness;
  const auto destination = trusting(receiver);
  receiver.push(FaultReply::status(200, "ok").then_close());
  EXPECT_TRUE(harness.deliver(destination).delivered());
  EXPECT_TRUE(harness.run_until([&] { return harness.stats().connections_open == 0; }));
  receiver.push(FaultReply::raw("HTTP/1.1 500 X\r\n\r\ncut").then_close());
  const AttemptResult& failure = harness.deliver(destination);
  EXPECT_EQ(token_of(failure), "status_500");
  EXPECT_EQ(failure.response_excerpt, "cut");
  receiver.push(FaultReply::raw("HTTP/1.1 200 X\r\nContent-Length: 9\r\n\r\ncut").then_close());
  EXPECT_TRUE(harness.deliver(destination).delivered());
}

TEST(HttpTransportTls, AProtocolThatWasNotOffered) {
  ReceiverOptions options = tls_options(ca().good());
  options.tls->alpn = "h2";
  FaultReceiver other(options);
  TransportHarness harness;
  const AttemptResult& result = harness.deliver(trusting(other));
  EXPECT_EQ(token_of(result), "tls_alpn") << result.detail;
  EXPECT_EQ(other.request_count(), 0u);
  options.tls->alpn = "http/1.1";
  FaultReceiver same(options);
  EXPECT_TRUE(harness.deliver(trusting(same)).delivered());
}

// With and without a goodbye.
TEST(HttpTransportTls, AStaleConnectionIsReplacedAtOnce) {
  for (const bool goodbye : {false, true}) {
    FaultReceiver receiver(tls_options(ca().good()));
    TransportHarness harness;
    const auto destination = trusting(receiver);
    FaultReply first = FaultReply::status(200);
    if (goodbye) first.steps.push_back({FaultReply::Step::Kind::close_notify, {}});
    receiver.push(first.then(FaultReply::hang()).then_close());
    ASSERT_TRUE(harness.deliver(destination).delivered());
    receiver.release();
    ASSERT_TRUE(receiver.wait_for_ended(1));
    EXPECT_TRUE(harness.deliver(destination, {"second"}).delivered());
    EXPECT_EQ(receiver.requests().back().body, "second");
    EXPECT_EQ(receiver.request_count(), 2u);
  }
}

TEST(HttpTransportTls, NoticesTheEndOfAnIdleConnection) {
  FaultReceiver receiver(tls_options(ca().good()));
  TransportHarness harness;
  FaultReply first = FaultReply::status(200).then(FaultReply::hang());
  first.steps.push_back({FaultReply::Step::Kind::close_notify, {}});
  receiver.push(first.then(FaultReply::hang()));
  ASSERT_TRUE(harness.deliver(trusting(receiver)).delivered());
  EXPECT_EQ(harness.stats().connections_idle, 1u);
  receiver.release();
  EXPECT_TRUE(harness.run_until([&] { return harness.stats().connections_open == 0; }));
}

TEST(HttpTransportTls, AnEarlyRefusalIsRead) {
  ReceiverOptions options = tls_options(ca().good());
  options.receive_buffer_bytes = 4096;
  options.early = [](const FaultRequest&) {
    return FaultReply::status(413).then(FaultReply::hang()).then_close();
  };
  FaultReceiver receiver(options);
  TransportHarness harness;
  EXPECT_EQ(token_of(harness.deliver(trusting(receiver), {std::string(16 << 20, 'x')})),
            "status_413");
}

}  // namespace
}  // namespace postbag

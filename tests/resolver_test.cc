// Names that take long.
#include "engine/shell/http/resolver.h"

#include <gtest/gtest.h>

#include <atomic>
#include <condition_variable>
#include <future>
#include <mutex>
#include <new>
#include <string>

#include "tests/support/fault_receiver.h"
#include "tests/support/transport_harness.h"

namespace postbag {
namespace {

using std::chrono::seconds;

// A lookup that waits for the test. Shared with the resolver's threads, which may outlive the
// test's body.
class Gate {
 public:
  void open() {
    const std::lock_guard lock(mutex_);
    open_ = true;
    changed_.notify_all();
  }
  void pass() {
    std::unique_lock lock(mutex_);
    ++arrived_;
    changed_.notify_all();
    changed_.wait(lock, [this] { return open_; });
    ++passed_;
    changed_.notify_all();
  }
  bool wait_for_arrived(int count) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, seconds(20), [&] { return arrived_ >= count; });
  }
  bool wait_for_passed(int count) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, seconds(20), [&] { return passed_ >= count; });
  }
  int arrived() {
    const std::lock_guard lock(mutex_);
    return arrived_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool open_ = false;
  int arrived_ = 0;
  int passed_ = 0;
};

ResolveResult loopback() {
  ResolveResult result;
  result.addresses = {*parse_ipv4("127.0.0.1")};
  return result;
}

Resolver::Lookup gated(const std::shared_ptr<Gate>& gate) {
  return [gate](const std::string& host) {
    if (host == "slow.test") gate->pass();
    return loopback();
  };
}

TEST(ResolverInTransport, ASlowNameHoldsUpNobodyElse) {
  const auto gate = std::make_shared<Gate>();
  FaultReceiver receiver;
  TransportHarness harness({}, gated(gate));
  TestAttempt& slow = harness.start(TransportHarness::destination(receiver, "slow.test"));
  ASSERT_TRUE(gate->wait_for_arrived(1));
  EXPECT_TRUE(harness.deliver(TransportHarness::destination(receiver, "fast.test")).delivered());
  EXPECT_FALSE(slow.done);
  gate->open();
  EXPECT_TRUE(harness.wait(slow).delivered());
}

TEST(ResolverInTransport, EqualNamesShareOneLookup) {
  const auto gate = std::make_shared<Gate>();
  FaultReceiver receiver;
  TransportHarness harness({}, gated(gate));
  const auto destination = TransportHarness::destination(receiver, "slow.test");
  TestAttempt& first = harness.start(destination);
  TestAttempt& second = harness.start(destination);
  ASSERT_TRUE(gate->wait_for_arrived(1));
  gate->open();
  EXPECT_TRUE(harness.wait(first).delivered());
  EXPECT_TRUE(harness.wait(second).delivered());
  EXPECT_EQ(gate->arrived(), 1);
}

TEST(ResolverInTransport, ALookupIsBoundedByTheConnectTimeoutAndALateAnswerIsDropped) {
  const auto gate = std::make_shared<Gate>();
  FaultReceiver receiver;
  TransportHarness harness({}, gated(gate));
  const auto destination = TransportHarness::destination(receiver, "slow.test");
  TestAttempt& attempt = harness.start(destination);
  ASSERT_TRUE(gate->wait_for_arrived(1));
  harness.advance(seconds(5));
  EXPECT_EQ(token_of(harness.wait(attempt)), "dns_timeout");
  EXPECT_EQ(harness.stats().connections_open, 0u);
  TestAttempt& next = harness.start(destination);  // joins the lookup that still runs
  gate->open();
  EXPECT_TRUE(harness.wait(next).delivered());
  EXPECT_EQ(receiver.connection_count(), 1u);
}

TEST(ResolverInTransport, TransportAndResolverMayEndDuringALookup) {
  const auto gate = std::make_shared<Gate>();
  FaultReceiver receiver;
  TransportHarness harness({}, gated(gate));
  TestAttempt& attempt = harness.start(TransportHarness::destination(receiver, "slow.test"));
  ASSERT_TRUE(gate->wait_for_arrived(1));
  harness.destroy_transport();
  harness.destroy_shared();  // does not wait for the lookup
  gate->open();
  ASSERT_TRUE(gate->wait_for_passed(1));
  EXPECT_FALSE(attempt.done);
}

TEST(Resolver, RefusesBeyondItsLimit) {
  const auto gate = std::make_shared<Gate>();
  ResolverOptions options;
  options.names_max = 1;
  Resolver resolver(options, gated(gate));
  const auto ignore = [](ResolveResultPtr) {};
  EXPECT_EQ(resolver.resolve("slow.test", ignore), nullptr);
  EXPECT_EQ(resolver.resolve("slow.test", ignore), nullptr) << "waits for the same lookup";
  const ResolveResultPtr refused = resolver.resolve("other.test", ignore);
  ASSERT_NE(refused, nullptr);
  EXPECT_EQ(refused->reason, Reason::local_resource);
  gate->open();
}

TEST(Resolver, RemembersAnswersForAWhile) {
  std::atomic<int> lookups{0};
  std::mutex mutex;
  std::condition_variable changed;
  int answers = 0;
  ResolverOptions options;
  options.positive_ttl = std::chrono::hours(1);
  options.negative_ttl = Duration::zero();
  Resolver resolver(options, [&](const std::string& host) {
    ++lookups;
    ResolveResult result = loopback();
    if (host == "no.test") result.reason = Reason::dns_not_found;
    return result;
  });
  const auto ask = [&](const std::string& host) {
    const int before = [&] {
      const std::lock_guard lock(mutex);
      return answers;
    }();
    const ResolveResultPtr known = resolver.resolve(host, [&](ResolveResultPtr) {
      const std::lock_guard lock(mutex);
      ++answers;
      changed.notify_all();
    });
    if (known) return;
    std::unique_lock lock(mutex);
    EXPECT_TRUE(changed.wait_for(lock, seconds(20), [&] { return answers > before; }));
  };
  ask("yes.test");
  ask("yes.test");
  EXPECT_EQ(lookups, 1);
  ask("no.test");
  ask("no.test");
  EXPECT_EQ(lookups, 3);
}

// Both ended the process.
TEST(Resolver, WantOfMemoryOnItsThreadsIsAnAnswerOrATimeout) {
  const auto gate = std::make_shared<Gate>();
  Resolver resolver({}, [gate](const std::string& host) {
    gate->pass();
    if (host == "big.test") throw std::bad_alloc();
    return loopback();
  });
  std::promise<ResolveResultPtr> small, big;
  const auto throws = [](ResolveResultPtr) { throw std::bad_alloc(); };
  resolver.resolve("small.test", throws);
  resolver.resolve("small.test", [&](ResolveResultPtr result) { small.set_value(result); });
  resolver.resolve("big.test", throws);
  resolver.resolve("big.test", [&](ResolveResultPtr result) { big.set_value(result); });
  gate->open();
  const auto answer = [](std::promise<ResolveResultPtr>& promise) -> ResolveResultPtr {
    std::future<ResolveResultPtr> future = promise.get_future();
    if (future.wait_for(seconds(20)) != std::future_status::ready) return nullptr;
    return future.get();
  };
  const ResolveResultPtr found = answer(small);
  ASSERT_NE(found, nullptr);
  EXPECT_EQ(found->reason, Reason::none);
  const ResolveResultPtr not_found = answer(big);
  ASSERT_NE(not_found, nullptr);
  EXPECT_EQ(not_found->reason, Reason::local_resource);
}

TEST(Resolver, AsksTheSystem) {
  const ResolveResult localhost = Resolver::system_lookup("localhost");
  EXPECT_EQ(localhost.reason, Reason::none);
  EXPECT_FALSE(localhost.addresses.empty());
  const ResolveResult invalid = Resolver::system_lookup("name.invalid");
  EXPECT_TRUE(invalid.reason == Reason::dns_not_found || invalid.reason == Reason::dns_failed);
  EXPECT_FALSE(invalid.detail.empty());
}

}  // namespace
}  // namespace postbag

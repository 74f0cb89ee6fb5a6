// Cutting, turns, retries, flush, cancel, reload, drain and looking, in memory mode. What the store
// adds is in shard_core_store_test.cc.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/pure/hook_id.h"
#include "tests/support/core_fixture.h"

namespace postbag::test {
namespace {

using std::chrono::hours;
using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

class ShardCoreTest : public CoreFixture {
 protected:
  void make(const TargetPolicy& policy) {
    config_.options.defaults = policy;
    make_world();
  }

  std::shared_ptr<WorldCall> give(const std::string& body, const std::string& group = "",
                                  const std::string& url = url_a) {
    WorldHook hook;
    hook.target = url;
    hook.body = body;
    hook.group = group;
    return world_->submit({hook});
  }
  void in_turn(std::vector<Reply> replies) {
    world_->network = [replies, next = std::size_t{0}](const WorldRequest&) mutable {
      return replies[std::min(next++, replies.size() - 1)];
    };
  }
  TargetStatus status_of(const std::string& url) {
    std::vector<TargetStatus> all;
    world_->core().collect_targets(all);
    for (TargetStatus& status : all) {
      if (status.url == url) return status;
    }
    return {};
  }
};

// --- Cutting

TEST_F(ShardCoreTest, CutsByBytesWithBracketsAndCommas) {
  TargetPolicy policy = plain(100);
  policy.batch.bytes = 10;
  make(policy);
  for (const char* body : {"11", "22", "3333", "4"}) give(body);
  world_->run_idle();
  // "[11,22" and the closing bracket are 7 bytes; with ",3333" 12. "[3333,4]" is 8 and waits for
  // its time.
  EXPECT_THAT(bodies(), ElementsAre("[11,22]", "[3333,4]"));
  EXPECT_EQ(at(0), Duration::zero());
  EXPECT_EQ(at(1), seconds(10));
}

TEST_F(ShardCoreTest, ABodyOfExactlyTheLimitIsCutAtOnce) {
  TargetPolicy policy = plain(100);
  policy.batch.bytes = 10;
  make(policy);
  give("1111");
  EXPECT_THAT(bodies(), IsEmpty());
  give("222");  // [1111,222] is 10 bytes
  EXPECT_THAT(bodies(), ElementsAre("[1111,222]"));
}

TEST_F(ShardCoreTest, AHookLargerThanBytesGoesAlone) {
  TargetPolicy policy = plain(100);
  policy.batch.bytes = 20;
  make(policy);
  const std::string large(200'000, '7');
  give("1");
  give(large);
  give("2");
  world_->run_idle();
  EXPECT_THAT(bodies(), ElementsAre("[1]", "[" + large + "]", "[2]"));
  EXPECT_EQ(world_->core().counters().cut_by_bytes, 2u);
  EXPECT_EQ(world_->core().counters().cut_by_time, 1u);
}

TEST_F(ShardCoreTest, SizeAndTimeDueAtOnceIsOneBatch) {
  make(plain(2));
  give("1");
  world_->after(seconds(10), [&] { give("2"); });
  world_->run_idle();
  EXPECT_THAT(bodies(), ElementsAre("[1,2]"));
}

TEST_F(ShardCoreTest, ATimerRunsFromTheFirstHookOnly) {
  make(plain(100));
  give("1");
  for (int hook = 2; hook < 6; ++hook) {
    world_->run_for(seconds(2));
    give(std::to_string(hook));
  }
  world_->run_idle();
  EXPECT_THAT(bodies(), ElementsAre("[1,2,3,4,5]"));
  EXPECT_EQ(at(0), seconds(10));
}

TEST_F(ShardCoreTest, NoSizeStillEndsAtTheLargestBatch) {
  make(plain(0));
  std::vector<WorldHook> hooks(batch_size_max + 1);
  for (WorldHook& hook : hooks) {
    hook.target = url_a;
    hook.body = "1";
  }
  world_->submit(hooks);
  ASSERT_EQ(world_->requests().size(), 1u);
  EXPECT_EQ(world_->requests()[0].size, batch_size_max);
}

TEST_F(ShardCoreTest, GroupsAndHeadersNeverShareABatch) {
  make(plain(2));
  WorldHook hook;
  hook.target = url_a;
  hook.body = "1";
  world_->submit({hook});
  hook.headers = {{"X-Tenant", "7"}};
  hook.body = "2";
  world_->submit({hook});
  hook.group = "g";
  hook.body = "3";
  world_->submit({hook});
  hook.headers = {{"X-Tenant", "8"}};
  hook.body = "4";
  world_->submit({hook});
  EXPECT_THAT(bodies(), IsEmpty());
  EXPECT_EQ(world_->core().batches_held(), 4u);
  world_->run_idle();
  EXPECT_THAT(bodies(), ElementsAre("[1]", "[2]", "[3]", "[4]"));
  EXPECT_THAT(world_->requests()[0].head, Not(HasSubstr("X-Tenant")));
  EXPECT_THAT(world_->requests()[1].head, HasSubstr("\r\nX-Tenant: 7\r\n"));
  EXPECT_THAT(world_->requests()[3].head, HasSubstr("\r\nX-Tenant: 8\r\n"));
}

// --- Turns

TEST_F(ShardCoreTest, OneInFlightByDefault) {
  make(plain(1));
  always(answer(200, seconds(1)));
  for (int hook = 0; hook < 4; ++hook) give(std::to_string(hook));
  world_->run_idle();
  EXPECT_THAT(bodies(), ElementsAre("[0]", "[1]", "[2]", "[3]"));
  EXPECT_EQ(at(3), seconds(3));
}

TEST_F(ShardCoreTest, InFlightIsABound) {
  TargetPolicy policy = plain(1);
  policy.delivery.in_flight = 3;
  make(policy);
  always(answer(200, seconds(1)));
  for (int hook = 0; hook < 7; ++hook) give(std::to_string(hook));
  EXPECT_EQ(world_->requests().size(), 3u);
  EXPECT_EQ(status_of(url_a).in_flight, 3u);
  EXPECT_EQ(status_of(url_a).waiting, 4u);
  world_->run_idle();
  EXPECT_EQ(at(6), seconds(2));
}

TEST_F(ShardCoreTest, GroupsAreServedInTurn) {
  make(plain(1));
  always(answer(200, seconds(1)));
  for (int hook = 0; hook < 3; ++hook) give("\"a" + std::to_string(hook) + "\"", "a");
  for (int hook = 0; hook < 2; ++hook) give("\"b" + std::to_string(hook) + "\"", "b");
  give("\"c0\"", "c");
  world_->run_idle();
  EXPECT_THAT(bodies(),
              ElementsAre("[\"a0\"]", "[\"a1\"]", "[\"b0\"]", "[\"c0\"]", "[\"a2\"]", "[\"b1\"]"));
}

TEST_F(ShardCoreTest, ADueRetryGoesBeforeANewBatch) {
  make(plain(1));
  in_turn({answer(500), answer(200, seconds(10)), answer(200)});
  give("1");
  world_->run_for(milliseconds(100));
  give("2");  // on the wire until after the retry of the first is due
  give("3");
  world_->run_idle();
  EXPECT_THAT(bodies(), ElementsAre("[1]", "[2]", "[1]", "[3]"));
}

TEST_F(ShardCoreTest, AWaitingRetryTakesNoPlaceInFlight) {
  make(plain(1));
  in_turn({answer(500), answer(200)});
  give("1");
  give("2");
  world_->run_idle();
  EXPECT_THAT(bodies(), ElementsAre("[1]", "[2]", "[1]"));
  EXPECT_EQ(at(1), milliseconds(1));
  EXPECT_EQ(at(2), milliseconds(5001));
}

TEST_F(ShardCoreTest, MaxRetryingHoldsNewerOnesBack) {
  TargetPolicy policy = plain(1);
  policy.retry.max_retrying = 2;
  make(policy);
  always(answer(500));
  for (int hook = 0; hook < 5; ++hook) give(std::to_string(hook));
  world_->run_for(seconds(1));
  EXPECT_THAT(bodies(), ElementsAre("[0]", "[1]"));
  EXPECT_EQ(status_of(url_a).retrying, 2u);
  EXPECT_EQ(status_of(url_a).waiting, 3u);
  always(answer(200));
  world_->run_idle();
  // One place is free as soon as [0] is through, a moment before the retry of [1] is due.
  EXPECT_THAT(bodies(), ElementsAre("[0]", "[1]", "[0]", "[2]", "[1]", "[3]", "[4]"));
}

TEST_F(ShardCoreTest, MaxRetryingCountsWhatIsOnTheWire) {
  TargetPolicy policy = plain(1);
  policy.retry.max_retrying = 3;
  policy.delivery.in_flight = 2;
  make(policy);
  always(answer(500, milliseconds(10)));
  for (int hook = 0; hook < 9; ++hook) give(std::to_string(hook));
  world_->run_for(seconds(1));
  EXPECT_EQ(world_->requests().size(), 3u);
  EXPECT_EQ(world_->core().batches_retrying(), 3u);
}

TEST_F(ShardCoreTest, OrderedSendsTheNextOnlyAfterTheOutcome) {
  TargetPolicy policy = plain(1);
  policy.delivery.ordered = true;
  policy.delivery.in_flight = 4;
  policy.retry.retries = 1;
  make(policy);
  world_->network = [](const WorldRequest& request) {
    return request.body == "[0]" ? answer(500) : answer(200, seconds(1));
  };
  for (int hook = 0; hook < 3; ++hook) give(std::to_string(hook));
  give("9", "other");
  world_->run_idle();
  // The other group is a bag of its own. [0] is given up, which counts as its outcome.
  EXPECT_THAT(bodies(), ElementsAre("[0]", "[9]", "[0]", "[1]", "[2]"));
  EXPECT_EQ(at(2), milliseconds(5001));
  EXPECT_EQ(at(3), milliseconds(5002));
  EXPECT_EQ(at(4), milliseconds(6002));
  EXPECT_THAT(failed_bodies(), ElementsAre("0"));
}

TEST_F(ShardCoreTest, MaxConnectionsBoundsAllTargets) {
  config_.max_connections = 2;
  make(plain(1));
  always(answer(200, seconds(1)));
  for (int target = 0; target < 5; ++target) {
    give("1", "", "https://t" + std::to_string(target) + ".example/");
  }
  EXPECT_EQ(world_->requests().size(), 2u);
  EXPECT_EQ(world_->core().batches_in_flight(), 2u);
  world_->run_idle();
  EXPECT_EQ(world_->requests().size(), 5u);
  EXPECT_EQ(at(4), seconds(2));
}

TEST_F(ShardCoreTest, ATargetWithManyBatchesDoesNotStarveOthersOfConnections) {
  config_.max_connections = 1;
  make(plain(1));
  always(answer(200, seconds(1)));
  for (int hook = 0; hook < 10; ++hook) give("1");
  give("2", "", url_b);
  world_->run_idle();
  std::size_t place = 0;
  while (world_->requests()[place].target != url_b) ++place;
  EXPECT_LE(place, 2u);
}

// --- Retries

TEST_F(ShardCoreTest, ExponentialBackoffWithCap) {
  TargetPolicy policy = plain(1);
  policy.retry.retries = 5;
  policy.retry.backoff = Backoff::exponential;
  policy.retry.retry_interval = seconds(2);
  policy.retry.max_interval = seconds(10);
  make(policy);
  always(answer(500, Duration::zero()));
  give("1");
  world_->run_idle();
  std::vector<Duration> times;
  for (std::size_t request = 0; request < 6; ++request) times.push_back(at(request));
  EXPECT_THAT(times, ElementsAre(seconds(0), seconds(2), seconds(6), seconds(14), seconds(24),
                                 seconds(34)));
}

TEST_F(ShardCoreTest, JitterOnlyLengthens) {
  TargetPolicy policy = plain(1);
  policy.retry.retries = 200;
  policy.retry.jitter = 0.5;
  make(policy);
  always(answer(500));
  give("1");
  world_->run_idle();
  std::set<Duration> gaps;
  for (std::size_t request = 1; request < world_->requests().size(); ++request) {
    gaps.insert(world_->requests()[request].started - world_->requests()[request - 1].ended);
  }
  EXPECT_GE(*gaps.begin(), seconds(5));
  EXPECT_LE(*gaps.rbegin(), milliseconds(7500));
  EXPECT_GT(*gaps.rbegin(), milliseconds(7000));
  EXPECT_GT(gaps.size(), 100u);
}

TEST_F(ShardCoreTest, AnUncountedFailureUsesNoAttempt) {
  TargetPolicy policy = plain(1);
  policy.retry.retries = 1;
  make(policy);
  Reply local = broken(Reason::local_resource);
  local.result.counted = false;
  in_turn({local, local, local, answer(500)});
  give("1");
  world_->run_idle();
  EXPECT_EQ(world_->requests().size(), 5u);
  EXPECT_EQ(world_->requests()[3].attempt, 1u);
  EXPECT_EQ(world_->requests()[4].attempt, 2u);
  EXPECT_EQ(world_->durable().failed.begin()->second.attempts, 2u);
}

// With retry_interval = 0 it was tried again in the same turn, for ever.
TEST_F(ShardCoreTest, AnUncountedFailureIsNotTriedAgainAtOnce) {
  TargetPolicy policy = plain(1);
  policy.retry.retries = 1;
  policy.retry.retry_interval = Duration::zero();
  make(policy);
  Reply local = broken(Reason::local_resource);
  local.result.counted = false;
  in_turn({local, local, answer(200)});
  give("1");
  world_->run_idle();
  ASSERT_EQ(world_->requests().size(), 3u);
  EXPECT_GE(at(1) - at(0), milliseconds(250));
  EXPECT_GE(at(2) - at(1), milliseconds(250));
}

TEST_F(ShardCoreTest, WhatIsNoLongerOrderedWaitsForNoOutcome) {
  TargetPolicy policy = plain(1);
  policy.delivery.ordered = true;
  policy.retry.retries = 1;
  policy.retry.retry_interval = seconds(3600);
  make(policy);
  world_->network = [](const WorldRequest& request) {
    return request.body == "[0]" ? answer(500) : answer(200);
  };
  give("0");
  give("1");
  world_->run_for(seconds(1));
  EXPECT_THAT(bodies(), ElementsAre("[0]"));
  config_.options.defaults.delivery.ordered = false;
  world_->reload(config_.options);
  world_->run_for(seconds(1));
  EXPECT_THAT(bodies(), ElementsAre("[0]", "[1]"));
}

TEST_F(ShardCoreTest, AFinalFailureIsGivenUpAtOnce) {
  make(plain(1));
  Reply denied = broken(Reason::ssrf_denied);
  denied.result.final = true;
  always(denied);
  give("1");
  world_->run_idle();
  EXPECT_EQ(world_->requests().size(), 1u);
  EXPECT_EQ(world_->durable().failed.begin()->second.reason, Reason::ssrf_denied);
}

TEST_F(ShardCoreTest, KeepFailedOffDiscardsAndCounts) {
  config_.options.store.keep_failed = false;
  TargetPolicy policy = plain(2);
  policy.retry.retries = 0;
  make(policy);
  always(answer(500));
  give("1");
  give("2");
  world_->run_idle();
  EXPECT_THAT(failed_bodies(), IsEmpty());
  EXPECT_EQ(world_->core().counters().given_up, 2u);
  EXPECT_EQ(world_->core().counters().discarded, 2u);
  EXPECT_EQ(world_->hooks_held(), 0u);
}

class Listener : public OutcomeListener {
 public:
  bool hook_done(std::size_t index, const HookOutcome& outcome) override {
    outcomes[index] = outcome;
    return takes_over;
  }
  std::map<std::size_t, HookOutcome> outcomes;
  bool takes_over = true;
};

TEST_F(ShardCoreTest, AListenerTakesItsFailedHooksOver) {
  TargetPolicy policy = plain(3);
  policy.retry.retries = 0;
  make(policy);
  always(answer(503));
  give("1");
  const auto listener = std::make_shared<Listener>();
  WorldHook hook;
  hook.target = url_a;
  hook.body = "2";
  world_->submit({hook}, listener);
  give("3");
  world_->run_idle();
  EXPECT_THAT(failed_bodies(), ElementsAre("1", "3"));
  ASSERT_EQ(listener->outcomes.size(), 1u);
  EXPECT_FALSE(listener->outcomes[0].delivered);
  EXPECT_EQ(listener->outcomes[0].status, 503);
}

// A repeated call watches hooks that are here already: out of order, and one hook twice.
TEST_F(ShardCoreTest, WatchersThatCameLaterTakeNothingElseOver) {
  TargetPolicy policy = plain(3);
  policy.retry.retries = 0;
  make(policy);
  always(answer(503));
  const auto first = give("1");
  give("2");
  const HookLocation place = locate(first->ids[0]);
  const auto listener = std::make_shared<Listener>();
  EXPECT_TRUE(world_->core().watch(place.chunk, 1, 0, listener));
  EXPECT_TRUE(world_->core().watch(place.chunk, 0, 1, listener));
  EXPECT_TRUE(world_->core().watch(place.chunk, 0, 2, listener));
  EXPECT_FALSE(world_->core().watch(place.chunk, 2, 3, listener));
  give("3");
  world_->run_idle();
  EXPECT_EQ(listener->outcomes.size(), 3u);
  EXPECT_THAT(failed_bodies(), ElementsAre("3"));
}

// Calls that are repeated while their hook is stuck left one each.
TEST_F(ShardCoreTest, WatchersThatAreGoneDoNotGather) {
  struct Gone : Listener {
    bool is_gone() override { return true; }
  };
  make(plain(3));
  const HookLocation place = locate(give("1")->ids[0]);
  const auto stays = std::make_shared<Listener>();
  std::vector<std::weak_ptr<Listener>> gone;
  for (int repeat = 0; repeat < 1000; ++repeat) {
    const auto listener = std::make_shared<Gone>();
    gone.push_back(listener);
    ASSERT_TRUE(world_->core().watch(place.chunk, 0, 0, listener));
    if (repeat % 100 == 50) {
      ASSERT_TRUE(world_->core().watch(place.chunk, 0, static_cast<std::uint32_t>(repeat), stays));
    }
  }
  const auto kept = std::count_if(gone.begin(), gone.end(),
                                  [](const auto& listener) { return !listener.expired(); });
  EXPECT_LE(kept, 20);
  world_->run_idle();
  EXPECT_EQ(stays->outcomes.size(), 10u);
}

TEST_F(ShardCoreTest, AListenerThatIsGoneLeavesThemInTheStore) {
  TargetPolicy policy = plain(1);
  policy.retry.retries = 0;
  make(policy);
  in_turn({answer(503), answer(200)});
  const auto listener = std::make_shared<Listener>();
  listener->takes_over = false;
  WorldHook hook;
  hook.target = url_a;
  hook.body = "1";
  world_->submit({hook, hook}, listener);
  world_->run_idle();
  EXPECT_THAT(failed_bodies(), ElementsAre("1"));
  EXPECT_TRUE(listener->outcomes[1].delivered);
}

// --- Operators

TEST_F(ShardCoreTest, FlushCutsEveryBagOrOneTarget) {
  make(plain(10));
  give("1");
  give("2", "g");
  give("3", "", url_b);
  EXPECT_EQ(world_->flush("https://nobody.example/"), 0u);
  EXPECT_EQ(world_->flush(url_b), 1u);
  EXPECT_THAT(bodies(), ElementsAre("[3]"));
  EXPECT_EQ(world_->flush(), 2u);
  EXPECT_EQ(world_->flush(), 0u);
  EXPECT_TRUE(world_->run_idle());
  EXPECT_EQ(world_->requests().size(), 3u);
}

TEST_F(ShardCoreTest, CancelTakesWhatIsNotOnTheWire) {
  TargetPolicy policy = plain(1);
  policy.retry.max_retrying = 1;
  make(policy);
  in_turn({answer(500), answer(200, seconds(100))});
  give("0");
  world_->run_for(seconds(1));  // [0] waits for its retry
  give("1", "", url_b);         // on the wire
  give("2", "", url_b);         // waits
  give("3");                    // waits
  EXPECT_EQ(world_->cancel("https://nobody*"), 0u);
  EXPECT_EQ(world_->cancel("https://?.example/*"), 3u);
  world_->run_idle();
  EXPECT_THAT(bodies(), ElementsAre("[0]", "[1]"));
  EXPECT_THAT(failed_bodies(), ElementsAre("0", "2", "3"));
  EXPECT_EQ(world_->durable().failed.begin()->second.reason, Reason::cancelled);
  EXPECT_EQ(world_->durable().failed.begin()->second.attempts, 1u);
  EXPECT_EQ(world_->hooks_held(), 0u);
}

// The bag stood in its target's turn when it was emptied; the target then went idle with it.
TEST_F(ShardCoreTest, CancelOfTheNextInTurnLeavesNoTrace) {
  make(plain(1));
  always(answer(200, seconds(1)));
  for (const char* group : {"", "g"}) {
    give("1", group);
    give("2", group);
    give("3", "h");
    world_->run_for(milliseconds(100));
    EXPECT_EQ(world_->cancel("*"), 2u);
    world_->run_idle();
    give("4", group);
    world_->run_idle();
  }
  EXPECT_THAT(bodies(), ElementsAre("[1]", "[4]", "[1]", "[4]"));
  EXPECT_EQ(world_->core().batches_held(), 0u);
}

TEST_F(ShardCoreTest, ReloadHoldsForOpenBags) {
  make(plain(10));
  for (const char* body : {"1", "2", "3"}) give(body);
  world_->run_for(seconds(2));
  config_.options.defaults.batch.size = 2;
  world_->reload(config_.options);  // more are there already
  EXPECT_THAT(bodies(), ElementsAre("[1,2,3]"));
  give("4");
  world_->run_for(seconds(1));
  config_.options.defaults.batch.time = seconds(4);
  world_->reload(config_.options);
  world_->run_idle();
  EXPECT_THAT(bodies(), ElementsAre("[1,2,3]", "[4]"));
  EXPECT_EQ(at(1), seconds(6));  // 4 s after its first hook at 2 s
}

TEST_F(ShardCoreTest, ReloadCanGiveABagItsFirstTimer) {
  make(plain(10, Duration::zero()));
  give("1");
  EXPECT_TRUE(world_->run_idle(hours(1)));
  config_.options.defaults.batch.time = seconds(1);
  world_->reload(config_.options);
  world_->run_idle();
  EXPECT_THAT(bodies(), ElementsAre("[1]"));
  // And take it away.
  give("2");
  config_.options.defaults.batch.time = Duration::zero();
  world_->reload(config_.options);
  EXPECT_TRUE(world_->run_idle(hours(1)));
  EXPECT_EQ(world_->requests().size(), 1u);
}

TEST_F(ShardCoreTest, ReloadRenewsHeadsAndRetries) {
  make(plain(1));
  always(answer(500));
  give("1");
  world_->run_for(seconds(1));
  config_.options.defaults.delivery.headers = {{"X-New", "1"}};
  config_.options.defaults.retry.retries = 1;
  world_->reload(config_.options);
  world_->run_idle();
  ASSERT_EQ(world_->requests().size(), 2u);
  EXPECT_THAT(world_->requests()[0].head, Not(HasSubstr("X-New")));
  EXPECT_THAT(world_->requests()[1].head, HasSubstr("\r\nX-New: 1\r\n"));
}

TEST_F(ShardCoreTest, DrainGivesEachUnattemptedBatchOneAttemptAndNoRetry) {
  make(plain(2));
  world_->network = [](const WorldRequest& request) {
    return request.target == url_a ? answer(500) : answer(200);
  };
  give("1");
  give("2");  // attempted, waits for its retry
  world_->run_for(seconds(1));
  give("3");  // in an open bag
  give("4", "", url_b);
  world_->drain();
  world_->run_for(seconds(1));
  EXPECT_THAT(bodies(), testing::UnorderedElementsAre("[1,2]", "[3]", "[4]"));
  EXPECT_TRUE(world_->drained());
  // What is left in memory mode is stored as failed.
  const auto [left, failed] = world_->abandon();
  EXPECT_EQ(left, 0u);
  EXPECT_EQ(failed, 3u);
  world_->run_idle();
  EXPECT_THAT(failed_bodies(), ElementsAre("1", "2", "3"));
  for (const auto& [key, row] : world_->durable().failed) EXPECT_EQ(row.reason, Reason::shutdown);
  EXPECT_EQ(world_->hooks_held(), 0u);
  EXPECT_TRUE(world_->core().idle());
}

TEST_F(ShardCoreTest, DrainIgnoresMaxRetrying) {
  TargetPolicy policy = plain(1);
  policy.retry.max_retrying = 1;
  make(policy);
  always(answer(500));
  for (int hook = 0; hook < 4; ++hook) give(std::to_string(hook));
  world_->drain();
  world_->run_for(seconds(60));
  EXPECT_THAT(bodies(), ElementsAre("[0]", "[1]", "[2]", "[3]"));
  EXPECT_TRUE(world_->drained());
}

TEST_F(ShardCoreTest, WhatComesInAfterTheDrainBeganIsCutAtOnce) {
  make(plain(10));
  world_->drain();
  give("1");  // was in the inbox
  EXPECT_THAT(bodies(), ElementsAre("[1]"));
}

// --- Looking and bounds

TEST_F(ShardCoreTest, FindHookTellsEveryState) {
  TargetPolicy policy = plain(2);
  policy.retry.retries = 1;
  make(policy);
  in_turn({answer(500, seconds(1)), answer(200, seconds(1))});
  const auto call = give("1");
  const HookLocation place = locate(call->ids[0]);
  const auto state = [&] {
    const auto found = world_->core().find_hook(place.chunk, place.index, std::nullopt);
    return found ? found->state : "none";
  };
  EXPECT_EQ(state(), "waiting");
  give("2");
  EXPECT_EQ(state(), "in_flight");
  world_->run_for(seconds(2));
  EXPECT_EQ(state(), "retrying");
  EXPECT_EQ(world_->core().find_hook(place.chunk, 0, std::nullopt)->reason, "status_500");
  world_->run_idle();
  EXPECT_EQ(state(), "delivered");
  EXPECT_FALSE(world_->core().find_hook(place.chunk, 2, std::nullopt).has_value());
  EXPECT_FALSE(world_->core().find_hook(place.chunk + 1000, 0, std::nullopt).has_value());
}

TEST_F(ShardCoreTest, MemoryReturnsToNothing) {
  make(plain(7, milliseconds(50)));
  world_->network = [](const WorldRequest& request) {
    return request.batch % 3 == 0 ? answer(500) : answer(200);
  };
  for (int hook = 0; hook < 3000; ++hook) {
    give("\"" + std::string(static_cast<std::size_t>(hook % 700), 'x') + "\"",
         hook % 5 == 0 ? "g" + std::to_string(hook % 40) : "");
    if (hook % 10 == 0) world_->run_for(milliseconds(20));
  }
  world_->run_idle();
  EXPECT_EQ(world_->core().batches_held(), 0u);
  EXPECT_EQ(world_->core().targets(), 1u);
  EXPECT_LE(world_->memory_bytes(), sizeof(TargetState) + 200);
}

TEST_F(ShardCoreTest, IdleTargetsAreForgotten) {
  make(plain(1));
  for (int target = 0; target < 10'000; ++target) {
    give("1", "", "https://t" + std::to_string(target) + ".example/");
    world_->run_idle();
  }
  EXPECT_EQ(world_->requests().size(), 10'000u);
  EXPECT_LE(world_->core().targets(), 4096u);
  EXPECT_LE(world_->memory_bytes(), 4096 * (sizeof(TargetState) + 200));
  EXPECT_EQ(status_of("https://t9999.example/").delivered, 1u);
  EXPECT_EQ(status_of("https://t1.example/").url, "");
}

TEST_F(ShardCoreTest, ASmallHookInABagCostsLittle) {
  make(plain(100));
  give("1");
  const std::uint64_t before = world_->memory_bytes();
  constexpr std::uint64_t targets = 1000;
  for (std::uint64_t target = 0; target < targets; ++target) {
    give("{\"a\":1}", "", "https://t" + std::to_string(target) + ".example/");
  }
  EXPECT_LT((world_->memory_bytes() - before) / targets, 1024u);
  const std::uint64_t with_targets = world_->memory_bytes();
  for (int hook = 0; hook < 90; ++hook) give("\"" + std::string(300, 'x') + "\"");
  EXPECT_LT((world_->memory_bytes() - with_targets) / 90, 302u + 100u);
}

}  // namespace
}  // namespace postbag::test

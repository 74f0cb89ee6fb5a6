// What is on disk only comes back in its turn: read by itself or ahead of it, damaged, not just
// now, while it is cancelled.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/core_fixture.h"

namespace postbag::test {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::ElementsAre;
using testing::IsEmpty;

class ShardCoreLoadTest : public BacklogFixture {
 protected:
  ShardCoreLoadTest() {
    config_.durable = true;
    config_.commit_time = milliseconds(10);
  }
  void make(const TargetPolicy& policy) {
    config_.options.defaults = policy;
    make_world();
  }
  using BacklogFixture::give;
  void give(const std::string& body) { world_->submit(url_a, body); }
  // Batches of one hook, found by a new life; the first is on its way.
  void recover_singles(int hooks, const TargetPolicy& policy) {
    make_waiting(policy);
    give(0, hooks);
    world_->run_for(seconds(1));  // all of it is committed
    let_go();
    world_->crash();
  }
};

TEST_F(ShardCoreLoadTest, BatchesOnDiskBehindEachOtherAreReadTogether) {
  recover_singles(1000, plain(1));
  const std::size_t before = world_->requests().size();
  world_->run_idle();
  std::vector<std::string> after = bodies();
  after.erase(after.begin(), after.begin() + static_cast<std::ptrdiff_t>(before));
  EXPECT_EQ(after, singles(0, 1000));
  EXPECT_GT(world_->loads(), 10u);
  EXPECT_LT(world_->loads(), 20u);
  expect_all_gone();
}

// Its turn may come while it is being read.
TEST_F(ShardCoreLoadTest, WhatIsBeingReadAheadIsNotReadTwice) {
  config_.load_time = seconds(1);
  TargetPolicy policy = plain(1);
  policy.delivery.in_flight = 8;
  recover_singles(100, policy);
  world_->run_idle();
  EXPECT_LT(world_->loads(), 8u);
  std::set<std::string> sent;
  for (const WorldRequest& request : world_->requests()) sent.insert(request.body);
  EXPECT_EQ(sent.size(), 100u);
  EXPECT_EQ(world_->requests().size(), 108u);  // eight were on the wire in the first life
  expect_all_gone();
}

TEST_F(ShardCoreLoadTest, WhatCannotBeReadAheadIsReadByItself) {
  recover_singles(200, plain(1));
  world_->ahead_fault = [] { return make_error_code(Errc::store_io); };
  world_->run_idle();
  EXPECT_EQ(world_->loads(), 200u);
  EXPECT_EQ(world_->requests().size(), 201u);
  EXPECT_THAT(failed_bodies(), IsEmpty());
  expect_all_gone();
}

TEST_F(ShardCoreLoadTest, WhatIsReadAheadAndDamagedIsNeverSent) {
  recover_singles(200, plain(1));
  world_->damage_loads = true;
  world_->run_idle();
  EXPECT_EQ(world_->requests().size(), 1u);
  ASSERT_EQ(world_->durable().failed.size(), 200u);
  for (const auto& [key, row] : world_->durable().failed) {
    EXPECT_EQ(row.reason, Reason::corrupt_payload);
  }
  expect_all_gone();
}

TEST_F(ShardCoreLoadTest, WhatIsReadAheadIsCountedAndGivenUpWhenMemoryIsShort) {
  recover_singles(500, plain(1));
  hold();
  world_->run_for(seconds(1));
  const std::uint64_t before = world_->memory_bytes();
  const std::uint64_t given_up = world_->shed(1 << 30);
  EXPECT_GT(given_up, 64u * 50);
  EXPECT_LT(given_up, 64u * 400);
  EXPECT_EQ(world_->memory_bytes(), before - given_up);
  let_go();
  world_->run_for(seconds(200));
  // Nothing is read ahead for a while.
  EXPECT_EQ(world_->loads(), 500u);
  EXPECT_EQ(world_->requests().size(), 501u);
  expect_all_gone();
}

TEST_F(ShardCoreLoadTest, ACancelLeavesNothingThatWasReadAhead) {
  recover_singles(500, plain(1));
  hold();
  world_->run_for(seconds(1));
  EXPECT_EQ(world_->cancel("*"), 499u);
  world_->run_idle();
  EXPECT_EQ(world_->requests().size(), 2u);
  EXPECT_EQ(world_->durable().failed.size(), 499u);
  expect_all_gone();
}

TEST_F(ShardCoreLoadTest, DamagedChunksFailAndAreNeverSent) {
  make(plain(2));
  always(answer(200, seconds(10)));
  give("1");
  give("2");
  world_->run_for(milliseconds(30));
  ASSERT_EQ(world_->requests().size(), 1u);
  world_->crash();
  world_->damage_loads = true;
  world_->run_idle();
  EXPECT_EQ(world_->requests().size(), 1u);
  ASSERT_EQ(world_->durable().failed.size(), 2u);
  EXPECT_EQ(world_->durable().failed.begin()->second.reason, Reason::corrupt_payload);
  EXPECT_THAT(world_->durable().chunks, IsEmpty());
  EXPECT_EQ(world_->hooks_held(), 0u);
}

// A start found so many large batches of slow targets, and read one for each connection.
TEST_F(ShardCoreLoadTest, WhatIsReadBackIsBoundedInBytes) {
  constexpr std::uint64_t body_bytes = 100'000;
  constexpr int targets = 200;
  config_.read_bytes_max = 10 * body_bytes;
  TargetPolicy policy = plain(1);
  policy.batch.bytes = body_bytes + 10;
  make_waiting(policy);
  const auto url = [](int target) { return "https://t" + std::to_string(target) + ".example/"; };
  for (int target = 0; target < targets; ++target) {
    give(target, target + 1, url(target), {}, std::string(body_bytes - 10, '0'));
  }
  world_->run_for(seconds(1));
  world_->requests().clear();
  const std::uint64_t objects = targets * (sizeof(TargetState) + sizeof(Batch) + 300);
  // All hang, are refused and wait for their retry, are cancelled: only so much is in memory.
  world_->crash();
  world_->run_for(seconds(50));
  EXPECT_EQ(world_->requests().size(), 10u);
  EXPECT_LE(world_->memory_bytes(), 10 * body_bytes + objects);
  EXPECT_EQ(world_->cancel("https://t19*"), 11u);
  world_->run_for(seconds(1));
  EXPECT_LE(world_->memory_bytes(), 10 * body_bytes + objects);
  let_go();
  world_->run_idle();
  EXPECT_EQ(world_->requests().size(), 189u);
  EXPECT_EQ(world_->durable().failed.size(), 11u);
  expect_all_gone();
}

// Each was reserved as the `bytes` of its target, and so all were read at once.
TEST_F(ShardCoreLoadTest, HooksLargerThanBytesAreReadWithinTheBoundToo) {
  constexpr std::uint64_t body_bytes = 100'000;
  constexpr int targets = 100;
  config_.read_bytes_max = 10 * body_bytes;
  TargetPolicy policy = plain(1);
  policy.batch.bytes = 10;
  const std::uint64_t objects = targets * (sizeof(TargetState) + sizeof(Batch) + 300);
  for (const bool is_found_at_start : {true, false}) {
    make_waiting(policy);
    if (!is_found_at_start) always(answer(503));
    for (int target = 0; target < targets; ++target) {
      give(target, target + 1, "https://t" + std::to_string(target) + ".example/", {},
           std::string(body_bytes - 10, '0'));
    }
    hold();
    if (is_found_at_start) {
      world_->crash();
    } else {  // all wait for their retry
      EXPECT_GT(world_->shed(1 << 30), 90 * body_bytes);
    }
    world_->requests().clear();
    world_->run_for(seconds(50));
    EXPECT_EQ(world_->requests().size(), 10u) << is_found_at_start;
    EXPECT_LE(world_->memory_bytes(), 10 * body_bytes + objects) << is_found_at_start;
    let_go();
    world_->run_idle();
    expect_all_gone();
  }
}

// Where such a one could not be read just then, or a drain came, it was given up without its hooks:
// the process ended by a check that they are there.
TEST_F(ShardCoreLoadTest, WhatHasHadMoreAttemptsThanThereAreNowIsNotGivenUpUnread) {
  make(plain(1));
  always(answer(500));
  give("1");
  world_->run_for(seconds(11));  // three attempts of four
  ASSERT_EQ(world_->requests().size(), 3u);
  config_.options.defaults.retry.retries = 1;
  world_->reload(config_.options);
  ASSERT_GT(world_->shed(1 << 20), 0u);
  int reads = 0;
  world_->load_fault = [&] {
    return ++reads == 1 ? make_error_code(Errc::store_io) : std::error_code();
  };
  world_->run_idle();
  EXPECT_EQ(reads, 2);
  EXPECT_EQ(world_->requests().size(), 4u);
  EXPECT_THAT(failed_bodies(), ElementsAre("1"));
  expect_all_gone();
}

// All of it was read, a batch after the other, as those on the wire made room.
TEST_F(ShardCoreLoadTest, WhatWaitsToBeReadWhenNothingMoreIsSentIsNotRead) {
  constexpr int targets = 20;
  config_.read_bytes_max = 30;
  TargetPolicy policy = plain(1);
  policy.batch.bytes = 10;  // as the bodies
  make_waiting(policy);
  for (int target = 0; target < targets; ++target) {
    world_->submit("https://t" + std::to_string(target) + ".example/", "10000000");
  }
  world_->run_for(seconds(1));
  world_->crash();
  world_->run_for(seconds(1));
  ASSERT_EQ(world_->loads(), 3u);
  world_->core().stop_sending(world_->now());
  world_->touch();
  EXPECT_EQ(world_->core().batches_in_flight(), 3u);
  world_->run_for(seconds(200));  // these have ended
  EXPECT_EQ(world_->core().batches_in_flight(), 0u);
  EXPECT_EQ(world_->loads(), 3u);
  EXPECT_EQ(world_->abandon(), (std::pair<std::uint64_t, std::uint64_t>{17, 0}));
}

// It stood behind what waits for the wire, so the way out of just that waited for it.
TEST_F(ShardCoreLoadTest, ACancelDoesNotWaitForWhatHangsOnTheWire) {
  constexpr int targets = 20;
  config_.read_bytes_max = 30;
  TargetPolicy policy = plain(1);
  policy.batch.bytes = 10;  // as the bodies
  make_waiting(policy);
  for (int target = 0; target < targets; ++target) {
    for (const char* body : {"10000000", "20000000"}) {
      world_->submit("https://t" + std::to_string(target) + ".example/", body);
    }
  }
  world_->run_for(seconds(1));
  world_->requests().clear();
  world_->crash();
  world_->run_for(seconds(1));
  ASSERT_EQ(world_->requests().size(), 3u);  // the others have their turn and are not read yet
  EXPECT_EQ(world_->cancel("*"), 37u);
  bool is_over = false;
  world_->add_barrier([&] { is_over = true; });
  world_->run_for(seconds(2));
  EXPECT_TRUE(is_over);
  EXPECT_EQ(world_->durable().failed.size(), 37u);
  EXPECT_EQ(world_->requests().size(), 3u);
  let_go();
  world_->run_idle();
  expect_all_gone();
}

// All of it was read, a batch after the other, and stayed in memory.
TEST_F(ShardCoreLoadTest, ACancelReadsLittleBeyondTheLimitWhileTheStoreHasNoRoom) {
  constexpr std::uint64_t body_bytes = 100'000;
  config_.read_bytes_max = 10 * body_bytes;
  TargetPolicy policy = plain(1);
  policy.batch.bytes = body_bytes + 10;
  make_waiting(policy);
  for (int target = 0; target < 100; ++target) {
    give(target, target + 1, "https://t" + std::to_string(target) + ".example/", {},
         std::string(body_bytes - 10, '0'));
  }
  world_->run_for(seconds(1));
  world_->crash();
  world_->run_for(seconds(1));
  bool is_full = true;
  world_->store_fault = [&] { return is_full ? StoreFault::full : StoreFault::none; };
  EXPECT_EQ(world_->cancel("*"), 90u);
  world_->run_for(seconds(50));
  EXPECT_LE(world_->memory_bytes(),
            (10 + 16 + 1) * body_bytes + 100 * (sizeof(TargetState) + sizeof(Batch) + 300));
  is_full = false;
  let_go();
  world_->run_idle();
  EXPECT_EQ(world_->durable().failed.size(), 90u);
  expect_all_gone();
}

// Where one batch may be larger than the bound. (What is on the wire from memory is in no bound of
// reads.)
TEST_F(ShardCoreLoadTest, WhatHangsOnTheWireDoesNotKeepOthersFromBeingRead) {
  config_.read_bytes_max = 1;
  TargetPolicy policy = plain(1);
  policy.retry.retries = 1;
  policy.retry.retry_interval = seconds(2);
  make(policy);
  always(answer(503));
  world_->submit("https://disk.example/", "1");
  world_->run_for(seconds(1));
  world_->crash();  // it waits for its retry, on disk only
  always(answer(200, std::chrono::hours(1)));
  for (const std::string name : {"a", "b", "c"})
    world_->submit("https://" + name + ".example/", "2");
  world_->requests().clear();
  world_->run_for(seconds(10));
  EXPECT_EQ(world_->requests().size(), 4u);
}

// What the store has no room for stays in memory, and what is delivered makes room.
TEST_F(ShardCoreLoadTest, BatchesThatWaitForTheStoreDoNotHoldUpTheReadingOfOthers) {
  config_.read_bytes_max = 20;
  TargetPolicy policy = plain(1);
  policy.retry.retries = 0;
  policy.batch.bytes = 10;
  recover_singles(100, policy);
  int stored = 0;
  world_->store_fault = [&] { return stored == 0 ? StoreFault::full : StoreFault::none; };
  always(answer(503));
  world_->run_for(seconds(50));
  EXPECT_EQ(world_->core().batches_in_flight(), 0u);
  EXPECT_EQ(world_->requests().size(), 101u);
  stored = 1;
  world_->run_idle();
  EXPECT_EQ(world_->durable().failed.size(), 100u);
  expect_all_gone();
}

// Of a version that took it, or damaged; also where it was read ahead.
TEST_F(ShardCoreLoadTest, AStoredTargetThatIsNoUrlFailsAndStopsNobody) {
  recover_singles(100, plain(1));
  int spoilt = 0;
  for (auto& [number, chunk] : world_->durable().chunks) {
    if (number % 2 == 0) continue;
    chunk.target = "https://a.example/hooks with blanks";
    spoilt += 1;
  }
  ASSERT_EQ(spoilt, 50);
  world_->crash();
  world_->run_idle();
  ASSERT_EQ(world_->durable().failed.size(), 50u);
  for (const auto& [key, row] : world_->durable().failed) {
    EXPECT_EQ(row.reason, Reason::url_syntax);
    EXPECT_EQ(row.target, "https://a.example/hooks with blanks");
    EXPECT_NE(row.body, "");
  }
  const auto& requests = world_->requests();
  EXPECT_EQ(std::count_if(requests.begin(), requests.end(),
                          [](const WorldRequest& one) { return one.life == 2; }),
            50);
  expect_all_gone();
}

TEST_F(ShardCoreLoadTest, AReadThatFailsForNowLosesNothing) {
  make(plain(2));
  always(answer(200, seconds(1)));
  give("1");
  give("2");
  world_->run_for(milliseconds(30));
  world_->crash();
  int reads = 0;
  world_->load_fault = [&] {
    return ++reads < 4 ? make_error_code(Errc::store_io) : std::error_code();
  };
  world_->run_idle();
  EXPECT_EQ(reads, 4);
  EXPECT_THAT(bodies(), ElementsAre("[1,2]", "[1,2]"));
  EXPECT_THAT(failed_bodies(), IsEmpty());
  EXPECT_EQ(world_->hooks_held(), 0u);
}

TEST_F(ShardCoreLoadTest, CancelOfHooksThatAreOnDiskOnly) {
  TargetPolicy policy = plain(2);
  policy.delivery.ordered = true;
  make(policy);
  always(answer(500));
  for (const char* body : {"1", "2", "3", "4"}) give(body);
  world_->run_for(seconds(1));
  ASSERT_THAT(bodies(), ElementsAre("[1,2]"));
  world_->crash();
  always(answer(200));
  EXPECT_EQ(world_->core().cancel("*", world_->now()), 4u);
  world_->touch();
  std::size_t rows_then = 99;  // the barrier waits for the hooks to be read and stored as failed
  world_->add_barrier([&] { rows_then = world_->durable().failed.size(); });
  give("5");
  give("6");
  world_->run_idle();
  EXPECT_EQ(rows_then, 4u);
  EXPECT_THAT(bodies(), ElementsAre("[1,2]", "[5,6]"));
  EXPECT_THAT(failed_bodies(), ElementsAre("1", "2", "3", "4"));
  EXPECT_THAT(world_->durable().chunks, IsEmpty());
  EXPECT_EQ(world_->hooks_held(), 0u);
}

TEST_F(ShardCoreLoadTest, ShedHooksAreReadBackInTheirTurn) {
  make(plain(2));
  always(answer(500));
  for (int hook = 0; hook < 10; ++hook) {
    give("{\"number\": " + std::to_string(hook) + ", \"pad\": \"" + std::string(500, 'x') + "\"}");
  }
  world_->run_for(seconds(1));
  const std::vector<std::string> before = bodies();
  ASSERT_EQ(before.size(), 5u);
  const std::uint64_t memory = world_->memory_bytes();
  EXPECT_GT(world_->shed(1 << 20), 5000u);
  EXPECT_LT(world_->memory_bytes(), memory - 5000);
  EXPECT_EQ(world_->shed(1 << 20), 0u);
  always(answer(200));
  world_->run_idle();
  std::vector<std::string> after = bodies();
  after.erase(after.begin(), after.begin() + 5);
  EXPECT_EQ(after, before);
  EXPECT_EQ(world_->requests().back().attempt, 2u);
  EXPECT_EQ(world_->hooks_held(), 0u);
  EXPECT_LE(world_->memory_bytes(), sizeof(TargetState) + 200);
}

// Found by the simulation, seed 63582.
TEST_F(ShardCoreLoadTest, ARetryThatIsStillBeingReadWhenADrainBeginsIsNotSent) {
  config_.load_time = seconds(2);
  make(plain(1));
  always(answer(500));
  give("1");
  world_->run_for(seconds(1));
  ASSERT_GT(world_->shed(1 << 20), 0u);
  world_->run_for(seconds(5));  // due, and on its way from the store
  world_->drain();
  world_->run_for(seconds(60));
  EXPECT_TRUE(world_->drained());
  EXPECT_EQ(world_->requests().size(), 1u);
  EXPECT_EQ(world_->abandon(), (std::pair<std::uint64_t, std::uint64_t>{1, 0}));
  always(answer(200));
  world_->crash();
  world_->run_idle();
  ASSERT_EQ(world_->requests().size(), 2u);
  EXPECT_EQ(world_->requests().back().attempt, 2u);
}

// Found by the simulation, seed 2660.
TEST_F(ShardCoreLoadTest, ACancelReachesBatchesThatAreStillBeingRead) {
  config_.load_time = seconds(2);
  make(plain(1));
  always(answer(200, seconds(100)));
  give("1");
  give("2");
  world_->run_for(seconds(1));
  ASSERT_EQ(world_->requests().size(), 1u);
  world_->crash();  // the first is being read now
  EXPECT_EQ(world_->core().batches_in_flight(), 1u);
  EXPECT_EQ(world_->cancel("*"), 2u);
  EXPECT_EQ(world_->core().batches_in_flight(), 0u);
  EXPECT_EQ(world_->cancel("*"), 0u);
  std::size_t rows_then = 99;
  world_->add_barrier([&] { rows_then = world_->durable().failed.size(); });
  always(answer(200));
  give("3");
  world_->run_idle();
  EXPECT_EQ(rows_then, 2u);
  EXPECT_THAT(bodies(), ElementsAre("[1]", "[3]"));
  EXPECT_THAT(failed_bodies(), ElementsAre("1", "2"));
  for (const auto& [key, row] : world_->durable().failed) EXPECT_EQ(row.attempts, 0u);
  EXPECT_THAT(world_->durable().chunks, IsEmpty());
  EXPECT_EQ(world_->hooks_held(), 0u);
}

}  // namespace
}  // namespace postbag::test

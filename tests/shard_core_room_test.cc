// Want of memory where bags are open: in the durable modes what is committed of them is dropped and
// nothing else changes; where that is no help the fullest are cut early.
#include "tests/support/core_fixture.h"
#include "tests/support/failed_row.h"

namespace postbag::test {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::ElementsAre;
using testing::IsEmpty;
using testing::SizeIs;

constexpr std::uint64_t all_bytes = 1 << 30;
const std::string kilobyte = std::string(1000, ' ');

class ShardCoreRoomTest : public BacklogFixture {
 protected:
  ShardCoreRoomTest() { config_.durable = true; }

  void make(const TargetPolicy& policy) {
    config_.options.defaults = policy;
    make_world();
  }
  // Commits a hook at a time, and drops what it can behind each, or does not.
  std::string run_of(const TargetPolicy& policy, bool is_short_of_memory) {
    config_.options.defaults = policy;
    make_world();
    world_->network = [](const WorldRequest& request) {
      return answer(request.target == url_b ? 500 : 200);
    };
    for (int number = 0; number < 47; ++number) {
      WorldHook hook;
      hook.target = number % 3 == 0 ? url_b : url_a;
      hook.body = "\"" + std::to_string(number) + std::string(number % 7, 'x') + "\"";
      hook.event = "event-" + std::to_string(number / 5);
      hook.group = number % 4 == 0 ? "group" : "";
      if (number % 6 == 0) hook.id = "id-" + std::to_string(number);
      world_->submit({hook});
      world_->run_for(milliseconds(number % 11 == 10 ? 1500 : 10));
      if (is_short_of_memory) world_->shed(all_bytes);
    }
    EXPECT_EQ(world_->core().counters().shed > 40, is_short_of_memory);
    world_->run_idle();
    expect_all_gone();
    std::string told;
    for (const WorldRequest& request : world_->requests()) {
      told += request.target + request.group + " " + request.batch_id + " " + request.body + "\n";
    }
    for (const auto& [key, row] : world_->durable().failed) {
      told += std::to_string(key) + " " + row.id + " " + row.event + " " + row.group + " " +
              row.body + " " + std::to_string(row.attempts) + "\n";
    }
    const CoreCounters& counters = world_->core().counters();
    return told + std::to_string(counters.cut_by_size) + " " +
           std::to_string(counters.cut_by_bytes) + " " + std::to_string(counters.cut_by_time);
  }
};

TEST_F(ShardCoreRoomTest, AnOpenBagLeavesMemoryAndIsCutWhereItWouldHaveBeen) {
  make(plain(10, Duration::zero()));
  give(0, 7, url_a, {}, kilobyte);
  const std::uint64_t before = world_->memory_bytes();
  EXPECT_GT(before, 7000u);
  const std::uint64_t dropped = world_->shed(all_bytes);
  EXPECT_EQ(dropped, before - world_->memory_bytes());
  EXPECT_LT(world_->memory_bytes(), 3000u);
  EXPECT_EQ(world_->shed(all_bytes), 0u);
  give(7, 9, url_a, {}, kilobyte);
  EXPECT_THAT(bodies(), IsEmpty());
  give(9, 11, url_a, {}, kilobyte);
  ASSERT_THAT(bodies(), SizeIs(1));
  EXPECT_EQ(world_->requests()[0].size, 10u);
  EXPECT_EQ(world_->loads(), 1u);
  EXPECT_EQ(world_->core().counters().cut_by_size, 1u);
  EXPECT_EQ(world_->core().counters().shed, 10u);
  world_->flush();
  world_->run_idle();
  EXPECT_EQ(bodies()[1], "[10" + kilobyte + "]");
  expect_all_gone();
}

TEST_F(ShardCoreRoomTest, WhatIsSentAndStoredIsTheSameAsWithMemory) {
  TargetPolicy policy = plain(6, seconds(1));
  policy.retry.retries = 1;
  for (const std::uint64_t bytes : {1000u, 35u, 20u}) {
    policy.batch.bytes = bytes;
    EXPECT_EQ(run_of(policy, true), run_of(policy, false)) << bytes;
  }
}

TEST_F(ShardCoreRoomTest, ATimeCountsFromTheFirstHookAlsoWhereThatIsDropped) {
  make(plain(100, seconds(10)));
  give(0, 1);
  world_->shed(all_bytes);
  world_->run_for(seconds(5));
  give(1, 2);
  world_->shed(all_bytes);
  world_->run_idle();
  EXPECT_THAT(bodies(), ElementsAre("[0,1]"));
  EXPECT_GE(at(0), seconds(10));
  EXPECT_LT(at(0), seconds(10) + milliseconds(10));
  expect_all_gone();
}

TEST_F(ShardCoreRoomTest, WhatIsCutGoesBeforeWhatIsOpen) {
  make_waiting(plain(3, Duration::zero()));
  give(0, 7, url_a, {}, kilobyte);  // one on the wire, one waits, one is open
  give(0, 1, url_b, {}, kilobyte);
  EXPECT_GE(world_->shed(2000), 2000u);
  EXPECT_EQ(world_->core().counters().shed, 3u);
  // Then the open bag that has waited longest.
  world_->shed(1);
  EXPECT_EQ(world_->core().counters().shed, 4u);
  give(1, 3, url_b, {}, kilobyte);
  EXPECT_EQ(world_->loads(), 0u);
}

TEST_F(ShardCoreRoomTest, WhatIsNotCommittedStays) {
  config_.commit_time = seconds(1);
  make(plain(3, Duration::zero()));
  give(0, 2);
  EXPECT_EQ(world_->shed(all_bytes), 0u);
  EXPECT_EQ(world_->make_room(2 * sizeof(Batch)), 1u);
  EXPECT_EQ(world_->core().counters().shed, 0u);
  world_->run_idle();
  EXPECT_THAT(bodies(), ElementsAre("[0,1]"));
  expect_all_gone();
}

// It was cut early because the store was slow.
TEST_F(ShardCoreRoomTest, WhatIsBeingCommittedMakesRoomByItself) {
  config_.commit_time = seconds(1);
  make(plain(3, Duration::zero()));
  give(0, 2, url_a, {}, kilobyte);
  EXPECT_EQ(world_->make_room(2000), 0u);
  world_->run_for(seconds(2));
  EXPECT_GT(world_->shed(all_bytes), 2000u);
  give(2, 3, url_a, {}, kilobyte);
  EXPECT_EQ(world_->core().counters().shed, 2u);
  world_->run_idle();
  EXPECT_EQ(world_->core().counters().shed, 3u);
  ASSERT_THAT(world_->requests(), SizeIs(1));
  EXPECT_EQ(world_->requests()[0].size, 3u);
  expect_all_gone();
}

TEST_F(ShardCoreRoomTest, ARefusedHookBehindDroppedOnesIsTakenOutAgain) {
  make(plain(4, Duration::zero()));
  give(0, 3);
  world_->shed(all_bytes);
  world_->store_fault = [] { return StoreFault::disk_low; };
  give(3, 4);  // full, and cut, but for this one
  EXPECT_EQ(calls_.back()->error, Errc::disk_low);
  world_->store_fault = {};
  world_->run_idle();
  EXPECT_THAT(bodies(), ElementsAre("[0,1,2]"));
  expect_all_gone();
}

TEST_F(ShardCoreRoomTest, ARefusedHookOfAnOpenBagLeavesWhatWasDroppedBeforeIt) {
  make(plain(5, Duration::zero()));
  give(0, 3);
  world_->shed(all_bytes);
  world_->store_fault = [] { return StoreFault::disk_low; };
  give(3, 4);
  EXPECT_EQ(calls_.back()->error, Errc::disk_low);
  world_->store_fault = {};
  give(4, 5);
  EXPECT_THAT(bodies(), IsEmpty());
  give(5, 6);
  world_->run_idle();
  EXPECT_THAT(bodies(), ElementsAre("[0,1,2,4,5]"));
  expect_all_gone();
}

TEST_F(ShardCoreRoomTest, ACancelOfAnOpenBagReadsWhatWasDropped) {
  make(plain(10, Duration::zero()));
  give(0, 3);
  world_->shed(all_bytes);
  give(3, 4);
  give(0, 2, url_b);
  world_->shed(all_bytes);
  WorldHook late;
  late.target = url_b;
  late.body = "2";
  world_->submit({late});  // not committed yet
  EXPECT_EQ(world_->cancel("*"), 7u);
  EXPECT_EQ(world_->core().batches_held(), 2u);
  world_->run_idle();
  EXPECT_THAT(failed_bodies(), ElementsAre("0", "1", "2", "3", "0", "1", "2"));
  for (const auto& [key, row] : world_->durable().failed) EXPECT_EQ(row.reason, Reason::cancelled);
  EXPECT_THAT(bodies(), IsEmpty());
  expect_all_gone();
}

TEST_F(ShardCoreRoomTest, WhoWatchesDroppedHooksIsTold) {
  make(plain(4, Duration::zero()));
  const auto listener = std::make_shared<CountedOutcomes>();
  give(0, 2, url_a, listener);
  world_->shed(all_bytes);
  const auto later = std::make_shared<CountedOutcomes>();
  const BatchNumber batch = world_->durable().chunks.begin()->second.batch;
  for (const auto& [number, chunk] : world_->durable().chunks) {
    EXPECT_EQ(world_->core().find_hook(number, 0, batch)->state, "waiting");
    EXPECT_TRUE(world_->core().watch(number, 0, 0, later, batch));
  }
  give(2, 4);
  world_->run_idle();
  EXPECT_EQ(listener->delivered, 2);
  EXPECT_EQ(later->delivered, 2);
  expect_all_gone();
}

TEST_F(ShardCoreRoomTest, ADrainSendsWhatWasDroppedAndACrashFindsIt) {
  make(plain(10, Duration::zero()));
  give(0, 3);
  world_->shed(all_bytes);
  world_->crash();
  world_->run_idle();
  EXPECT_THAT(bodies(), ElementsAre("[0,1,2]"));
  give(3, 5);
  world_->shed(all_bytes);
  world_->drain();
  world_->run_idle();
  EXPECT_TRUE(world_->drained());
  EXPECT_THAT(bodies(), ElementsAre("[0,1,2]", "[3,4]"));
  expect_all_gone();
}

TEST_F(ShardCoreRoomTest, AnAbandonedEngineLeavesWhatWasDroppedInTheStore) {
  make(plain(10, Duration::zero()));
  give(0, 3);
  world_->shed(all_bytes);
  world_->core().stop_sending(world_->now());
  EXPECT_EQ(world_->abandon().first, 3u);
  EXPECT_EQ(world_->core().batches_held(), 0u);
  EXPECT_EQ(world_->durable().pending_hooks(), 3u);
}

TEST_F(ShardCoreRoomTest, AReloadedLimitCutsWhatWasDropped) {
  make(plain(10, Duration::zero()));
  give(0, 3);
  world_->shed(all_bytes);
  config_.options.defaults = plain(2, Duration::zero());
  world_->reload(config_.options);
  world_->run_idle();
  EXPECT_THAT(bodies(), ElementsAre("[0,1,2]"));
  expect_all_gone();
}

// 1,000 bags that take a hook each and stay open, again and again: what is noted of them is
// bounded, and so is what they hold.
TEST_F(ShardCoreRoomTest, OpenBagsWithoutEndHoldAFewBytesAHook) {
  config_.options.defaults = plain(16'000, Duration::zero());
  ShardCore::Config config;
  config.durable = true;
  ShardCore core(config, std::make_shared<PolicyTable>(config_.options, 1));
  core.give_numbers(1, 100'000);
  const Now now{TimePoint{seconds(1)}, 1'700'000'000'000};
  auto hooks = std::make_shared<HookList>();
  for (int target = 0; target < 1000; ++target) {
    hooks->add("https://t" + std::to_string(target) + ".example/", "\"" + kilobyte + "\"");
  }
  for (int round = 0; round < 50; ++round) {
    Parcel parcel;
    parcel.hooks = hooks;
    core.add(parcel, now);
    const std::unique_ptr<StorePart> part = core.take_part(now);
    core.part_done(*part, now);
    core.shed(all_bytes);
  }
  EXPECT_EQ(core.hooks_held(), 50'000u);
  EXPECT_EQ(core.open_bags(), 1000u);
  EXPECT_EQ(core.counters().shed, 50'000u);
  EXPECT_LT(core.memory_bytes(), 50'000u * sizeof(ChunkInfo) + 1000u * 1024u);
}

TEST_F(ShardCoreRoomTest, WhereDroppingMakesRoomNothingIsCutEarly) {
  make(plain(100, Duration::zero()));
  give(0, 20, url_a, {}, kilobyte);
  EXPECT_EQ(world_->make_room(15'000), 0u);
  EXPECT_LT(world_->memory_bytes(), 6'000u);
  EXPECT_THAT(bodies(), IsEmpty());
}

// Every one holds a little that cannot be dropped.
TEST_F(ShardCoreRoomTest, WhereDroppingIsNoHelpTheFullestAreCut) {
  make(plain(100, Duration::zero()));
  for (int target = 0; target < 40; ++target) {
    give(0, 1 + target % 2, "https://t" + std::to_string(target) + ".example/");
  }
  world_->shed(all_bytes);
  const std::uint64_t bags = world_->make_room(20 * sizeof(Batch));
  EXPECT_GE(bags, 15u);
  EXPECT_LE(bags, 20u);
  world_->run_idle();
  ASSERT_THAT(bodies(), SizeIs(bags));
  for (const std::string& body : bodies()) EXPECT_EQ(body, "[0,1]");
  EXPECT_EQ(world_->core().open_bags(), 40 - bags);
}

class ShardCoreMemoryRoomTest : public BacklogFixture {};

TEST_F(ShardCoreMemoryRoomTest, TheFullestOpenBagsAreCutAndNoMoreThanMakesRoom) {
  config_.options.defaults = plain(100, Duration::zero());
  make_world();
  give(0, 10, url_a, {}, kilobyte);
  give(0, 30, url_b, {}, kilobyte);
  give(0, 20, "https://c.example/", {}, kilobyte);
  EXPECT_EQ(world_->shed(all_bytes), 0u);
  EXPECT_EQ(world_->make_room(40'000), 2u);
  world_->run_idle();
  ASSERT_THAT(world_->requests(), SizeIs(2));
  EXPECT_EQ(world_->requests()[0].size, 30u);
  EXPECT_EQ(world_->requests()[1].size, 20u);
  EXPECT_EQ(world_->core().counters().cut_by_request, 2u);
  EXPECT_LT(world_->memory_bytes(), 15'000u);
}

TEST_F(ShardCoreMemoryRoomTest, WhereWhatIsCutMakesRoomNothingIsCutEarly) {
  for (const std::size_t unpacked : {8192u, 1u}) {
    config_.unpacked_batches = unpacked;
    make_waiting(plain(1, Duration::zero()));
    give(0, 30, url_a, {}, kilobyte);
    TargetBlock block;
    block.url = url_b;
    block.policy = plain(100, Duration::zero());
    config_.options.targets = {block};
    world_->reload(config_.options);
    give(0, 20, url_b, {}, kilobyte);
    EXPECT_EQ(world_->make_room(25'000), 0u);
    EXPECT_EQ(world_->make_room(45'000), 1u);
  }
}

}  // namespace
}  // namespace postbag::test

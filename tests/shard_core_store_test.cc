// What the store adds to a shard: nothing is sent before its commit, refusals, requeues, recovery.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/pure/hook_id.h"
#include "postbag/store.h"
#include "tests/support/core_fixture.h"

namespace postbag::test {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::ElementsAre;
using testing::IsEmpty;

class ShardCoreStoreTest : public CoreFixture {
 protected:
  void make(const TargetPolicy& policy) {
    config_.durable = true;
    config_.commit_time = milliseconds(10);
    config_.options.defaults = policy;
    make_world();
    world_->store_fault = [this] { return disk_; };
  }

  std::shared_ptr<WorldCall> give(const std::string& body, const std::string& url = url_a,
                                  const std::string& id = "") {
    WorldHook hook;
    hook.target = url;
    hook.body = body;
    hook.id = id;
    return world_->submit({hook});
  }

  StoreFault disk_ = StoreFault::none;
};

// --- Committing

TEST_F(ShardCoreStoreTest, NothingIsSentOrAcceptedBeforeTheCommit) {
  make(plain(1));
  const auto call = give("1");
  world_->run_for(milliseconds(9));
  EXPECT_FALSE(call->answered());
  EXPECT_THAT(bodies(), IsEmpty());
  EXPECT_EQ(world_->core().counters().accepted, 0u);
  world_->run_for(milliseconds(2));
  EXPECT_TRUE(call->accepted());
  EXPECT_THAT(bodies(), ElementsAre("[1]"));
  EXPECT_EQ(at(0), milliseconds(10));
}

TEST_F(ShardCoreStoreTest, TwoPartsAreOutAtMostAndChunksGather) {
  make(plain(100));
  for (int hook = 0; hook < 50; ++hook) {
    give(std::to_string(hook));
    world_->run_for(milliseconds(1));
  }
  world_->run_for(seconds(1));
  // 50 hooks in 50 ms, commits take 10 ms: the first alone, then some ten each.
  EXPECT_EQ(world_->durable().pending_hooks(), 50u);
  EXPECT_LE(world_->durable().chunks.size(), 10u);
  EXPECT_GE(world_->durable().chunks.size(), 3u);
  EXPECT_EQ(world_->durable().stored_hooks.size(), 1u);  // one batch
  world_->run_idle();
  EXPECT_EQ(world_->requests().size(), 1u);
  EXPECT_THAT(world_->durable().chunks, IsEmpty());
}

TEST_F(ShardCoreStoreTest, ABatchWaitsForTheLastOfItsChunks) {
  make(plain(2));
  give("1");
  world_->run_for(milliseconds(5));
  give("2");
  world_->run_idle();
  EXPECT_THAT(bodies(), ElementsAre("[1,2]"));
  EXPECT_EQ(at(0), milliseconds(20));
}

TEST_F(ShardCoreStoreTest, OrderIsKeptThoughALaterBatchIsCommittedWithIt) {
  make(plain(2));
  for (int hook = 0; hook < 7; ++hook) {
    give(std::to_string(hook));
    world_->run_for(milliseconds(3));
  }
  world_->run_idle();
  EXPECT_THAT(bodies(), ElementsAre("[0,1]", "[2,3]", "[4,5]", "[6]"));
}

TEST_F(ShardCoreStoreTest, RememberedIdsGoWithTheirHooks) {
  make(plain(1));
  for (bool is_refused : {true, false}) {
    disk_ = is_refused ? StoreFault::disk_low : StoreFault::none;
    auto hooks = std::make_shared<HookList>();
    hooks->add(url_a, "1");
    hooks->add(url_a, "2");
    Parcel parcel;
    parcel.hooks = hooks;
    parcel.remember = {{{1, 2}, {3, 4}, 0, 99}};
    parcel.remember_indices = {1};
    world_->core().give_numbers(1000, 10);
    world_->core().add(parcel, world_->now());
    world_->touch();
    world_->run_idle();
    EXPECT_EQ(world_->durable().remembered.size(), is_refused ? 0u : 1u);
  }
  const RememberedId& id = world_->durable().remembered.begin()->second;
  EXPECT_EQ(id.content_hash[1], 4u);
  const auto found = world_->core().find_hook(failed_key_chunk(id.location),
                                              failed_key_index(id.location), std::nullopt);
  ASSERT_TRUE(found.has_value());
  EXPECT_EQ(found->state, "delivered");
}

// A crash after "it is not kept" sent it again.
TEST_F(ShardCoreStoreTest, AListenerIsToldThatItsHookIsGoneOnceThatIsCommitted) {
  class Rollback : public OutcomeListener {
   public:
    bool hook_done(std::size_t, const HookOutcome&) override { return true; }
    void hook_settled(std::size_t index) override {
      settled.push_back(index);
      pending = world->durable().pending_hooks();
      remembered = world->durable().remembered.size();
    }
    CoreWorld* world = nullptr;
    std::vector<std::size_t> settled;
    std::uint64_t pending = 9, remembered = 9;
  };
  TargetPolicy policy = plain(2);
  policy.retry.retries = 0;
  make(policy);
  always(answer(500));
  const auto listener = std::make_shared<Rollback>();
  listener->world = world_.get();
  WorldHook hook;
  hook.target = url_a;
  hook.body = "1";
  hook.id = "one";
  world_->submit({hook, hook}, listener);
  world_->durable().remembered[id_hash("one")] = {};
  world_->on_reply = [this](const WorldRequest&) { disk_ = StoreFault::full; };
  world_->run_for(seconds(1));
  EXPECT_EQ(world_->requests().size(), 1u);
  EXPECT_THAT(listener->settled, IsEmpty());
  disk_ = StoreFault::none;
  world_->run_idle();
  EXPECT_THAT(listener->settled, ElementsAre(0, 1));
  EXPECT_EQ(listener->pending, 0u);
  EXPECT_EQ(listener->remembered, 0u);
  EXPECT_THAT(failed_bodies(), IsEmpty());
}

// --- Refusals

TEST_F(ShardCoreStoreTest, ARefusalTakesExactlyTheUncommittedOut) {
  make(plain(100));
  const auto first = give("1");
  world_->run_for(milliseconds(20));
  disk_ = StoreFault::disk_low;
  const auto second = give("2");  // a second chunk of the same batch, in the commit that fails
  world_->run_for(milliseconds(1));
  const auto third = give("3");  // in the part that waits
  world_->run_for(milliseconds(1));
  const auto fourth = give("4");  // in a third part
  const auto other = give("9", url_b);
  disk_ = StoreFault::none;
  world_->run_for(milliseconds(100));
  EXPECT_TRUE(first->accepted());
  for (const auto& call : {second, third, fourth, other}) EXPECT_EQ(call->error, Errc::disk_low);
  EXPECT_EQ(world_->core().counters().refused, 4u);
  EXPECT_EQ(world_->hooks_held(), 1u);
  const auto fifth = give("5");
  world_->run_idle();
  EXPECT_TRUE(fifth->accepted());
  EXPECT_THAT(bodies(), ElementsAre("[1,5]"));
}

// The second part is refused by its series some time after the first; hooks that come in between
// are not its.
TEST_F(ShardCoreStoreTest, HooksBetweenTwoRefusalsStay) {
  make(plain(100));
  give("1");
  world_->run_for(milliseconds(20));
  disk_ = StoreFault::disk_low;
  const auto refused_first = give("2");
  world_->run_for(milliseconds(5));
  disk_ = StoreFault::none;
  WorldHook third, seventh;
  third.target = url_a;
  third.body = "3";
  seventh.target = url_b;  // the first of its bag
  seventh.body = "7";
  const auto refused_second =
      world_->submit({third, seventh});  // out, behind the commit that will fail
  world_->run_for(milliseconds(6));
  ASSERT_EQ(refused_first->error, Errc::disk_low);
  ASSERT_FALSE(refused_second->answered());
  EXPECT_EQ(world_->hooks_held(), 1u);
  const auto kept = give("4");
  const auto kept_alone = give("8", url_b);
  world_->run_for(milliseconds(100));
  EXPECT_EQ(refused_second->error, Errc::disk_low);
  EXPECT_TRUE(kept->accepted());
  EXPECT_TRUE(kept_alone->accepted());
  // What the store has is what will be sent, under the number of its first chunk.
  for (const auto& [number, chunk] : world_->durable().chunks) {
    EXPECT_TRUE(world_->durable().chunks.contains(chunk.batch));
  }
  world_->crash();
  world_->run_idle();
  EXPECT_THAT(bodies(), testing::UnorderedElementsAre("[1,4]", "[8]"));
  EXPECT_EQ(world_->hooks_held(), 0u);
}

TEST_F(ShardCoreStoreTest, IdsOfHooksAfterARefusalAreTrue) {
  make(plain(100));
  always(broken(Reason::connect_refused));
  disk_ = StoreFault::disk_low;
  give("1");
  give("2");
  world_->run_for(milliseconds(5));
  give("3");
  disk_ = StoreFault::none;
  world_->run_for(milliseconds(6));
  const auto call = give("4");
  world_->run_idle();
  ASSERT_TRUE(call->accepted());
  ASSERT_EQ(world_->durable().failed.size(), 1u);
  EXPECT_EQ(world_->durable().failed.begin()->second.id, to_string(call->ids[0]));
  EXPECT_EQ(world_->durable().failed.begin()->second.attempts, 4u);
}

TEST_F(ShardCoreStoreTest, DeliveriesGoOnWhileAppendsAreRefused) {
  make(plain(1));
  give("1");
  world_->run_for(milliseconds(10));
  ASSERT_EQ(world_->requests().size(), 1u);
  disk_ = StoreFault::disk_low;
  const auto refused = give("2");
  world_->run_idle();
  EXPECT_EQ(refused->error, Errc::disk_low);
  EXPECT_THAT(world_->durable().chunks, IsEmpty());
  EXPECT_TRUE(world_->core().idle());
}

TEST_F(ShardCoreStoreTest, AFullStoreKeepsOutcomesUntilThereIsRoom) {
  TargetPolicy policy = plain(1);
  policy.retry.retries = 0;
  make(policy);
  world_->network = [](const WorldRequest& request) {
    return request.target == url_a ? answer(500) : answer(200);
  };
  give("1");
  give("2", url_b);
  world_->run_for(milliseconds(10));
  disk_ = StoreFault::full;
  bool is_stored = false;
  world_->run_for(milliseconds(5));
  world_->add_barrier([&] { is_stored = true; });
  world_->run_for(seconds(10));
  EXPECT_FALSE(is_stored);
  EXPECT_EQ(world_->durable().pending_hooks(), 2u);
  EXPECT_EQ(world_->hooks_held(), 1u);        // the failed one stays here, unsettled
  EXPECT_LT(world_->durable().commits, 60u);  // without turning round and round
  disk_ = StoreFault::none;
  world_->run_idle();
  EXPECT_TRUE(is_stored);
  EXPECT_THAT(failed_bodies(), ElementsAre("1"));
  EXPECT_THAT(world_->durable().chunks, IsEmpty());
  EXPECT_EQ(world_->hooks_held(), 0u);
}

TEST_F(ShardCoreStoreTest, ABarrierWaitsForWhatAnEarlierPartCouldNotStore) {
  TargetPolicy policy = plain(1);
  policy.retry.retries = 0;
  make(policy);
  always(answer(500));
  give("1");
  world_->run_for(milliseconds(10));
  disk_ = StoreFault::full;
  world_->run_for(
      milliseconds(2));  // the commit with the failed row has begun; it will find no room
  disk_ = StoreFault::none;
  std::size_t rows_then = 99;
  world_->add_barrier([&] { rows_then = world_->durable().failed.size(); });
  world_->run_idle();
  EXPECT_EQ(rows_then, 1u);
}

TEST_F(ShardCoreStoreTest, AFailedStoreEndsAcceptingAndSending) {
  make(plain(1));
  disk_ = StoreFault::failed;
  const auto call = give("1");
  world_->run_for(seconds(1));
  EXPECT_EQ(call->error, Errc::store_failed);
  disk_ = StoreFault::none;
  give("2");
  world_->run_for(seconds(1));
  EXPECT_THAT(bodies(), IsEmpty());
}

// --- Recovery

TEST_F(ShardCoreStoreTest, RecoveryKeepsIdMembersBytesAndAttempts) {
  make(plain(3));
  always(answer(500));
  WorldHook hook;
  hook.target = url_a;
  hook.group = "g";
  hook.headers = {{"X-Tenant", "7"}};
  for (const char* body : {"1", "{\"b\": 2}", "3"}) {
    hook.body = body;
    hook.event = hook.body == "3" ? "" : "made";
    hook.id = hook.body == "1" ? "first" : "";
    world_->submit({hook});
    world_->run_for(milliseconds(15));  // three chunks
  }
  world_->run_for(seconds(6));
  ASSERT_EQ(world_->requests().size(), 2u);
  world_->crash();
  world_->run_for(seconds(1));
  EXPECT_EQ(world_->requests().size(), 2u);  // the schedule goes on, it does not start anew
  world_->crash();
  world_->run_idle();
  ASSERT_EQ(world_->requests().size(), 4u);
  for (std::size_t request = 0; request < 4; ++request) {
    const WorldRequest& sent = world_->requests()[request];
    EXPECT_EQ(sent.body, "[1,{\"b\": 2},3]");
    EXPECT_EQ(sent.batch_id, world_->requests()[0].batch_id);
    EXPECT_EQ(sent.attempt, request + 1);
    EXPECT_EQ(sent.group, "g");
    EXPECT_THAT(sent.head, testing::HasSubstr("X-Tenant: 7\r\n"));
  }
  const Duration gap = world_->requests()[2].started - world_->requests()[1].ended;
  EXPECT_GE(gap, milliseconds(4999));
  EXPECT_LE(gap, milliseconds(5010));
  ASSERT_EQ(world_->durable().failed.size(), 3u);
  EXPECT_EQ(world_->durable().failed.begin()->second.id, "first");
  EXPECT_EQ(world_->durable().failed.begin()->second.event, "made");
  EXPECT_EQ(world_->durable().failed.rbegin()->second.event, "");
}

TEST_F(ShardCoreStoreTest, ACrashRepeatsTheAttemptInFlight) {
  make(plain(1));
  always(answer(200, seconds(20)));
  give("1");
  world_->run_for(seconds(1));
  ASSERT_EQ(world_->requests().size(), 1u);
  world_->crash();
  world_->run_idle();
  ASSERT_EQ(world_->requests().size(), 2u);
  EXPECT_EQ(world_->requests()[1].attempt, 1u);
  EXPECT_EQ(world_->requests()[1].batch_id, world_->requests()[0].batch_id);
}

TEST_F(ShardCoreStoreTest, AWallClockThatWasSetCannotMakeTheWaitEndless) {
  make(plain(1));
  always(answer(500));
  give("1");
  world_->run_for(seconds(1));
  world_->move_wall_clock(-365ll * 24 * 3600 * 1000);
  world_->crash();
  const TimePoint restart = world_->now().steady;
  world_->run_idle();
  ASSERT_GE(world_->requests().size(), 2u);
  EXPECT_LE(world_->requests()[1].started - restart, milliseconds(10'010));
}

TEST_F(ShardCoreStoreTest, RecoveredHooksCountAsCut) {
  make(plain(10));
  give("1");
  give("2");
  world_->run_for(seconds(1));
  world_->crash();
  give("3");
  world_->run_idle();
  EXPECT_THAT(bodies(), ElementsAre("[1,2]", "[3]"));
  EXPECT_LT(at(0), seconds(2));
}

// A busy bag nearly always has a chunk that is not committed yet.
TEST_F(ShardCoreStoreTest, CancelOfHooksThatAreNotCommittedYet) {
  make(plain(10));
  give("1");
  world_->run_for(milliseconds(20));
  give("2");
  EXPECT_EQ(world_->cancel("*"), 2u);
  EXPECT_EQ(world_->cancel("*"), 0u);
  std::size_t rows_then = 99;
  world_->add_barrier([&] { rows_then = world_->durable().failed.size(); });
  give("3");  // after the cancel
  world_->run_idle();
  EXPECT_EQ(rows_then, 2u);
  EXPECT_THAT(failed_bodies(), ElementsAre("1", "2"));
  EXPECT_THAT(bodies(), ElementsAre("[3]"));
  EXPECT_EQ(world_->hooks_held(), 0u);
}

TEST_F(ShardCoreStoreTest, CancelOfHooksThatAreRefusedThen) {
  make(plain(10));
  give("1");
  world_->run_for(milliseconds(20));
  disk_ = StoreFault::disk_low;
  give("2");
  give("7", url_b);
  world_->cancel("*");
  bool is_over = false;
  world_->add_barrier([&] { is_over = true; });
  world_->run_for(milliseconds(5));
  disk_ = StoreFault::none;
  world_->run_idle();
  EXPECT_TRUE(is_over);
  EXPECT_THAT(failed_bodies(), ElementsAre("1"));
  EXPECT_THAT(bodies(), IsEmpty());
  EXPECT_TRUE(world_->core().idle());
}

TEST_F(ShardCoreStoreTest, DrainLeavesTheRestInTheStore) {
  make(plain(10));
  always(answer(500));
  give("1");
  world_->run_for(milliseconds(20));
  world_->drain();
  give("2");
  world_->run_for(seconds(1));
  EXPECT_TRUE(world_->drained());
  EXPECT_EQ(world_->abandon(), (std::pair<std::uint64_t, std::uint64_t>{2, 0}));
  EXPECT_THAT(failed_bodies(), IsEmpty());
  EXPECT_EQ(world_->durable().pending_hooks(), 2u);
  EXPECT_EQ(world_->core().batches_held(), 0u);
  world_->crash();
  always(answer(200));
  world_->run_idle();
  EXPECT_EQ(world_->requests().size(), 4u);
  EXPECT_EQ(world_->requests()[2].attempt, 2u);
  EXPECT_THAT(world_->durable().chunks, IsEmpty());
}

// The drain timed out while the store had no room: what was never handed to it is refused, not
// forgotten.
TEST_F(ShardCoreStoreTest, AbandonRefusesWhatWasNotHandedToTheStore) {
  make(plain(10));
  std::vector<std::shared_ptr<WorldCall>> calls;
  for (int hook = 0; hook < 4; ++hook) calls.push_back(give(std::to_string(hook)));
  world_->drain();
  EXPECT_FALSE(world_->drained());
  world_->abandon();
  EXPECT_EQ(calls[3]->error, Errc::stopping);
  EXPECT_FALSE(calls[0]->answered());
  world_->run_for(milliseconds(100));
  EXPECT_TRUE(calls[0]->accepted());
}

TEST_F(ShardCoreStoreTest, AMemoryEngineSettlesWhatItFoundInItsStore) {
  make(plain(1));
  always(answer(200, seconds(100)));
  give("1");
  give("2");
  world_->run_for(milliseconds(50));
  DurableState found = world_->durable();
  ASSERT_EQ(found.pending_hooks(), 2u);
  config_.durable = false;
  world_ = std::make_unique<CoreWorld>(config_);
  world_->durable() = found;
  world_->network = [](const WorldRequest& request) {
    return request.body == "[1]" ? answer(200) : answer(500);
  };
  world_->crash();
  world_->run_for(seconds(1));
  EXPECT_EQ(world_->durable().pending_hooks(), 1u);
  EXPECT_EQ(world_->durable().chunks.begin()->second.attempts, 1u);
  world_->drain();
  EXPECT_EQ(world_->abandon().first, 1u);
}

// --- Counting

// Status and metrics called everything a bag that had no outcome yet.
TEST_F(ShardCoreStoreTest, OpenBagsAreCountedApartFromWhatWasCut) {
  make(plain(2));
  always(answer(500));
  const auto expect_counts = [&](std::uint64_t open_bags, std::uint64_t batches) {
    world_->run_for(milliseconds(30));
    EXPECT_EQ(world_->core().open_bags(), open_bags);
    EXPECT_EQ(world_->core().batches_held(), batches);
  };
  give("1");
  expect_counts(1, 1);
  give("2");  // full: sent, and waits for its retry
  expect_counts(0, 1);
  give("3");
  give("4", url_b);
  expect_counts(2, 3);
  EXPECT_EQ(world_->cancel(url_b), 1u);
  expect_counts(1, 2);
  disk_ = StoreFault::disk_low;
  give("5", url_b);  // refused: its bag goes
  expect_counts(1, 2);
  disk_ = StoreFault::none;
  world_->run_for(seconds(5));
  give("6", url_b);
  expect_counts(2, 3);
  EXPECT_EQ(world_->flush(), 2u);
  expect_counts(0, 3);
}

// --- Numbers

TEST_F(ShardCoreStoreTest, ManySmallRangesOfNumbersAreEnough) {
  make(plain(1));
  for (int range = 0; range < 10; ++range) {
    world_->core().give_numbers(10'000 + static_cast<ChunkNumber>(range) * 100, 3);
  }
  EXPECT_EQ(world_->core().numbers_left(), 30u);
  for (int hook = 0; hook < 30; ++hook) give(std::to_string(hook));
  world_->run_idle();
  EXPECT_EQ(world_->requests().size(), 30u);
  EXPECT_EQ(world_->requests().back().batch, 10'902u);
}

}  // namespace
}  // namespace postbag::test

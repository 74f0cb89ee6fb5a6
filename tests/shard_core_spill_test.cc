// Batches that are on disk only: a few bytes each in a run of the one before them, and still in
// order, found, watched, cancelled and counted.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>
#include <random>

#include "engine/pure/disk_run.h"
#include "tests/support/core_fixture.h"

namespace postbag::test {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::ElementsAre;
using testing::IsEmpty;

// --- DiskRun

DiskBatch random_batch(std::mt19937_64& random, ChunkNumber& next, WallMs& wall_ms) {
  DiskBatch batch;
  const auto chunk = [&] {
    next += 1 + random() % 300;
    wall_ms += static_cast<WallMs>(random() % 4000) - 500;  // a wall clock may go back
    return ChunkInfo{next, wall_ms, batch.hooks, static_cast<std::uint32_t>(1 + random() % 200)};
  };
  batch.chunk = chunk();
  batch.hooks = batch.chunk.hooks;
  for (std::size_t more = random() % 4; more > 1; --more) {
    batch.more_chunks.push_back(chunk());
    batch.hooks += batch.more_chunks.back().hooks;
  }
  return batch;
}

std::string text_of(const DiskBatch& batch) {
  std::string text = std::to_string(batch.hooks);
  const auto add = [&](const ChunkInfo& chunk) {
    for (std::uint64_t value :
         {std::uint64_t{chunk.number}, std::uint64_t{chunk.first_hook}, std::uint64_t{chunk.hooks},
          static_cast<std::uint64_t>(chunk.accepted_ms)}) {
      text += " " + std::to_string(value);
    }
  };
  add(batch.chunk);
  for (const ChunkInfo& chunk : batch.more_chunks) add(chunk);
  return text;
}

TEST(DiskRun, GivesBackWhatItTookAtBothEnds) {
  std::mt19937_64 random(7);
  ChunkNumber next = 1'000'000'000;
  WallMs wall_ms = 1'700'000'000'000;
  std::vector<DiskBatch> batches;
  for (int made = 0; made < 600; ++made) batches.push_back(random_batch(random, next, wall_ms));
  std::size_t from = 300;
  std::size_t to = 300;
  DiskRun run;
  while (to < batches.size() || from < to) {
    const std::uint64_t choice = random() % 5;
    if (choice <= 1 && to < batches.size()) run.push_back(batches[to++]);
    if (choice == 2 && from > 0) run.push_front(batches[--from]);
    if (choice >= 3 && from < to) {
      ASSERT_EQ(text_of(run.pop_front()), text_of(batches[from++]));
    }
    ASSERT_EQ(run.batches(), to - from);
    std::uint64_t hooks = 0;
    std::size_t at = from;
    run.for_each([&](const DiskBatch& batch) {
      EXPECT_EQ(text_of(batch), text_of(batches[at++]));
      hooks += batch.hooks;
      return true;
    });
    ASSERT_EQ(at, to);
    ASSERT_EQ(run.hooks(), hooks);
    if (from == to) continue;
    const DiskBatch& one = batches[from + random() % (to - from)];
    const ChunkInfo& wanted = one.more_chunks.empty() ? one.chunk : one.more_chunks.back();
    ASSERT_TRUE(run.find(wanted.number).has_value());
    EXPECT_EQ(text_of(*run.find(wanted.number)), text_of(one));
    EXPECT_FALSE(run.find(batches[from].chunk.number - 1).has_value());
  }
}

TEST(DiskRun, KeepsTheWildestPlaces) {
  DiskRun run;
  std::vector<DiskBatch> batches(3);
  batches[0].chunk = {~ChunkNumber{0}, std::numeric_limits<WallMs>::max(), 0, 1};
  batches[1].chunk = {1, std::numeric_limits<WallMs>::min(), 0, ~std::uint32_t{0}};
  batches[2].chunk = {ChunkNumber{1} << 63, 0, 0, 0};
  for (DiskBatch& batch : batches) batch.hooks = batch.chunk.hooks;
  run.push_back(batches[1]);
  run.push_back(batches[2]);
  run.push_front(batches[0]);
  for (const DiskBatch& batch : batches) EXPECT_EQ(text_of(run.pop_front()), text_of(batch));
}

TEST(DiskRun, TakesFurtherChunksOfItsNewestBatch) {
  std::mt19937_64 random(11);
  ChunkNumber next = 1'000;
  WallMs wall_ms = 1'700'000'000'000;
  DiskRun run;
  std::vector<DiskBatch> batches;
  for (int made = 0; made < 200; ++made) {
    DiskBatch batch = random_batch(random, next, wall_ms);
    run.push_back(batch);
    for (std::size_t more = random() % 3; more > 0; --more) {
      next += 1 + random() % 300;
      batch.more_chunks.push_back(
          {next, wall_ms, batch.hooks, static_cast<std::uint32_t>(1 + random() % 200)});
      batch.hooks += batch.more_chunks.back().hooks;
      run.extend_back(batch.more_chunks.back());
    }
    ASSERT_EQ(text_of(*run.find(next)), text_of(batch));
    batches.push_back(std::move(batch));
  }
  std::uint64_t hooks = 0;
  for (const DiskBatch& batch : batches) hooks += batch.hooks;
  EXPECT_EQ(run.hooks(), hooks);
  for (const DiskBatch& batch : batches) ASSERT_EQ(text_of(run.pop_front()), text_of(batch));
}

// --- ShardCore

class ShardCoreSpillTest : public BacklogFixture {
 protected:
  ShardCoreSpillTest() { config_.durable = true; }
};

TEST_F(ShardCoreSpillTest, OrderIsKeptHoweverTheyWereDropped) {
  make_waiting(plain(1));
  give(0, 3000);
  while (world_->shed(2000) > 0) {
  }
  give(3000, 3500);  // behind hooks on disk only: goes there, too
  EXPECT_EQ(world_->core().counters().shed, 3499u);
  EXPECT_LT(world_->memory_bytes(), 40'000u);
  EXPECT_EQ(world_->core().batches_held(), 3500u);
  std::vector<TargetStatus> status;
  world_->core().collect_targets(status);
  EXPECT_EQ(status.at(0).waiting, 3499u);
  let_go();
  world_->run_idle();
  EXPECT_EQ(bodies(), singles(0, 3500));
  expect_all_gone();
}

// One that is committed before its time cuts it goes into the run in front of it there and then,
// and is no object any more.
TEST_F(ShardCoreSpillTest, ABatchCutByItsTimeBehindDroppedOnesMayEndThere) {
  make_waiting(plain(2, seconds(1)));
  give(0, 7);
  world_->run_for(seconds(2));
  world_->shed(1 << 30);
  give(7, 8);
  const std::uint64_t before = world_->memory_bytes();
  world_->run_for(seconds(2));
  EXPECT_LT(world_->memory_bytes(), before);
  EXPECT_EQ(world_->core().batches_held(), 5u);
  let_go();
  world_->run_idle();
  EXPECT_THAT(bodies(), ElementsAre("[0,1]", "[2,3]", "[4,5]", "[6]", "[7]"));
  expect_all_gone();
}

TEST_F(ShardCoreSpillTest, BatchesOfSeveralChunksComeBackWhole) {
  make_waiting(plain(3));
  for (int number = 0; number < 30; ++number) give(number, number + 1);  // a chunk each
  EXPECT_EQ(world_->core().batches_held(), 10u);
  world_->shed(1 << 30);
  let_go();
  world_->run_idle();
  const std::vector<std::string> all = bodies();
  ASSERT_EQ(all.size(), 10u);
  EXPECT_EQ(all[1], "[3,4,5]");
  EXPECT_EQ(all[9], "[27,28,29]");
  expect_all_gone();
}

TEST_F(ShardCoreSpillTest, HooksInRunsAreFoundAndWatched) {
  make_waiting(plain(1));
  give(0, 200);
  world_->shed(1 << 30);
  ShardCore& core = world_->core();
  const auto listener = std::make_shared<CountedOutcomes>();
  std::vector<ChunkNumber> chunks;
  for (const auto& [number, chunk] : world_->durable().chunks) chunks.push_back(number);
  ASSERT_EQ(chunks.size(), 200u);
  for (ChunkNumber number : chunks) {
    ASSERT_TRUE(core.find_hook(number, 0, std::nullopt).has_value()) << number;
    EXPECT_FALSE(core.find_hook(number, 1, std::nullopt).has_value());
  }
  EXPECT_EQ(core.find_hook(chunks[77], 0, chunks[77])->state, "waiting");
  EXPECT_EQ(core.find_hook(chunks[77], 0, chunks[77])->target, url_a);
  for (std::size_t at : {150u, 77u, 78u, 199u, 2u, 1u, 78u}) {
    EXPECT_TRUE(core.watch(chunks[at], 0, 0, listener));
    EXPECT_FALSE(core.watch(chunks[at], 1, 0, listener));
  }
  EXPECT_FALSE(core.watch(chunks.back() + 1, 0, 0, listener));
  let_go();
  world_->run_idle();
  EXPECT_EQ(listener->delivered, 7);
  EXPECT_EQ(bodies(), singles(0, 200));
  expect_all_gone();
}

TEST_F(ShardCoreSpillTest, AWatchedBatchIsInNoRun) {
  make_waiting(plain(1));
  const auto listener = std::make_shared<CountedOutcomes>();
  give(0, 10);
  give(10, 20, url_a, listener);
  give(20, 30);
  world_->shed(1 << 30);
  let_go();
  world_->run_idle();
  EXPECT_EQ(listener->delivered, 10);
  EXPECT_EQ(bodies(), singles(0, 30));
  expect_all_gone();
}

TEST_F(ShardCoreSpillTest, ACancelReadsAPartAtATimeAndBarriersWaitForAll) {
  make_waiting(plain(1));
  give(0, 3500);
  give(0, 10, url_b);
  world_->shed(1 << 30);
  ChunkNumber last = 0;
  for (const auto& [number, chunk] : world_->durable().chunks) {
    if (chunk.target == url_a) last = number;
  }
  expect_cancel_in_parts([&](ShardCore& core) {
    EXPECT_LE(core.loads().size(), 1010u);
    EXPECT_EQ(core.find_hook(last, 0, last)->state, "failed");
  });
}

TEST_F(ShardCoreSpillTest, AHookWhoseCancelIsStillBeingReadIsToldOfIt) {
  make_waiting(plain(1));
  give(0, 10);
  world_->shed(1 << 30);
  ShardCore& core = world_->core();
  EXPECT_EQ(core.cancel("*", world_->now()), 9u);
  std::vector<std::shared_ptr<CountedOutcomes>> listeners;
  for (const auto& [number, chunk] : world_->durable().chunks) {
    if (number == world_->durable().chunks.begin()->first) continue;  // on the wire
    listeners.push_back(std::make_shared<CountedOutcomes>());
    EXPECT_TRUE(core.watch(number, 0, 0, listeners.back()));
  }
  world_->touch();
  world_->run_for(seconds(1));
  EXPECT_EQ(world_->durable().failed.size(), 9u);
  ASSERT_EQ(listeners.size(), 9u);
  for (const auto& listener : listeners) {
    EXPECT_EQ(listener->failed, 1);
    EXPECT_EQ(listener->reason, Reason::cancelled);
  }
}

// Of those behind the first thousand nobody reads anything yet.
TEST_F(ShardCoreSpillTest, AWatcherOfACancelWhoseReadFailsIsToldWhatComesOfTheHookThen) {
  make_waiting(plain(1));
  give(0, 3000);
  world_->shed(1 << 30);
  std::vector<ChunkNumber> chunks;
  for (const auto& [number, chunk] : world_->durable().chunks) chunks.push_back(number);
  EXPECT_EQ(world_->core().cancel("*", world_->now()), 2999u);
  const auto first = std::make_shared<CountedOutcomes>();
  const auto middle = std::make_shared<CountedOutcomes>();
  const auto last = std::make_shared<CountedOutcomes>();
  EXPECT_TRUE(world_->core().watch(chunks[1], 0, 0, first));
  EXPECT_TRUE(world_->core().watch(chunks[2500], 0, 0, middle));
  EXPECT_TRUE(world_->core().watch(chunks.back(), 0, 0, last));
  EXPECT_FALSE(world_->core().watch(chunks.back(), 1, 0, last));
  world_->load_fault = [] { return make_error_code(Errc::store_io); };
  world_->touch();
  world_->run_for(milliseconds(500));
  EXPECT_EQ(first->failed + middle->failed + last->failed, 0);
  world_->load_fault = {};
  let_go();
  world_->run_idle();
  EXPECT_EQ(first->delivered, 1);
  EXPECT_EQ(middle->delivered, 1);
  EXPECT_EQ(last->delivered, 1);
  expect_all_gone();
}

// What an earlier life of another mode left is settled like what it would settle itself.
TEST_F(ShardCoreSpillTest, WhatMemoryModeFindsAndGivesUpIsNotFoundAgain) {
  make_waiting(plain(2));
  give(0, 10);
  DurableState left = world_->durable();
  EXPECT_EQ(left.pending_hooks(), 10u);
  config_.durable = false;
  make_world();
  world_->durable() = std::move(left);
  always(answer(500));
  world_->crash();
  EXPECT_EQ(world_->hooks_held(), 10u);
  world_->run_idle();
  EXPECT_EQ(world_->durable().failed.size(), 10u);
  EXPECT_EQ(world_->durable().chunks.size(), 0u);
  let_go();
  const std::size_t requests = world_->requests().size();
  world_->crash();
  EXPECT_EQ(world_->hooks_held(), 0u);
  world_->run_idle();
  EXPECT_EQ(world_->requests().size(), requests);
}

TEST_F(ShardCoreSpillTest, AbandonLeavesRunsInTheStore) {
  make_waiting(plain(1));
  give(0, 2500);
  give(0, 100, url_b);
  world_->shed(1 << 30);
  bool is_over = false;
  EXPECT_EQ(world_->core().cancel("https://a.*", world_->now()), 2499u);
  world_->core().add_barrier([&] { is_over = true; });
  world_->core().stop_sending(world_->now());
  const auto [left, failed] = world_->core().abandon(world_->now());
  // Two are on the wire, a thousand are being read.
  EXPECT_GE(left, 99u + 1400u);
  EXPECT_EQ(failed, 0u);
  EXPECT_LE(world_->core().batches_held(), 1100u);
  world_->touch();
  world_->run_for(seconds(1));
  EXPECT_TRUE(is_over);
}

TEST_F(ShardCoreSpillTest, ACrashFindsRunsAgain) {
  make_waiting(plain(1));
  give(0, 500);
  give(500, 520, url_b);
  world_->crash();
  EXPECT_EQ(world_->core().batches_held(), 520u);
  EXPECT_LT(world_->memory_bytes(), 20'000u);
  give(520, 530);
  let_go();
  world_->crash();
  world_->run_idle();
  std::vector<std::string> a;
  for (const WorldRequest& request : world_->requests()) {
    if (request.life == 2 && request.target == url_a) a.push_back(request.body);
  }
  std::vector<std::string> expected = singles(0, 500);
  for (std::string& body : singles(520, 530)) expected.push_back(body);
  EXPECT_EQ(a, expected);
  expect_all_gone();
}

// The first batch waits for its retry, the second stands alone, the others are in its run.
TEST_F(ShardCoreSpillTest, ACrashFindsBatchesOfManyChunksAgain) {
  make_waiting(plain(3));
  world_->network = [](const WorldRequest&) { return answer(500); };
  config_.options.defaults.retry.max_retrying = 1;
  world_->reload(config_.options);
  for (int number = 0; number < 100; ++number) {
    give(number, number + 1);
    give(number, number + 1, url_b);
  }
  EXPECT_EQ(world_->durable().chunks.size(), 200u);
  world_->crash();
  EXPECT_EQ(world_->hooks_held(), 200u);
  EXPECT_EQ(world_->core().batches_held(), 68u);
  std::vector<TargetStatus> targets;
  world_->core().collect_targets(targets);
  for (const TargetStatus& target : targets) {
    EXPECT_EQ(target.retrying, 3u) << target.url;
    EXPECT_EQ(target.waiting, 97u) << target.url;
  }
  let_go();
  world_->run_idle();
  std::vector<std::string> expected;
  for (int number = 0; number < 99; number += 3) {
    expected.push_back("[" + std::to_string(number) + "," + std::to_string(number + 1) + "," +
                       std::to_string(number + 2) + "]");
  }
  expected.push_back("[99]");
  for (const std::string& url : {url_a, url_b}) {
    std::vector<std::string> sent;
    for (const WorldRequest& request : world_->requests()) {
      if (request.life == 1 && request.target == url) sent.push_back(request.body);
    }
    EXPECT_EQ(sent, expected) << url;
  }
  expect_all_gone();
}

// Of such a store nothing is lost, and what is damaged is found out when it is read.
TEST_F(ShardCoreSpillTest, ChunksWithoutTheirFirstAreBatchesToo) {
  config_.options.defaults = plain(1);
  ShardCore::Config config;
  config.durable = true;
  ShardCore core(config, std::make_shared<PolicyTable>(config_.options, 1));
  const Now now{TimePoint{seconds(1)}, 1'700'000'000'000};
  std::vector<PendingChunk> found;
  std::vector<std::uint32_t> all;
  for (const auto& [number, batch] : std::vector<std::pair<ChunkNumber, BatchNumber>>{
           {11, 10}, {12, 10}, {13, 13}, {14, 10}, {15, 0}, {16, 0}, {17, 20}, {20, 20}}) {
    all.push_back(static_cast<std::uint32_t>(found.size()));
    PendingChunk& chunk = found.emplace_back();
    chunk.chunk = number;
    chunk.batch = batch;
    chunk.target = url_a;
    chunk.hooks = 1;
  }
  core.begin_recovery();
  core.add_recovered(found, all, now);
  core.end_recovery();
  EXPECT_EQ(core.hooks_held(), 8u);
  ASSERT_EQ(core.loads().size(), 1u);
  EXPECT_EQ(core.loads()[0]->number, 10u);
  EXPECT_EQ(core.loads()[0]->hooks, 2u);
  for (const PendingChunk& chunk : found) {
    const bool here =
        core.find_hook(chunk.chunk, 0, std::nullopt) || core.find_hook(chunk.chunk, 0, chunk.batch);
    EXPECT_TRUE(here) << chunk.chunk;
  }
}

// --- What it is for: 1,000,000 batches of one hook, of which the store has all.

constexpr std::uint64_t many = 1'000'000;
constexpr std::uint64_t many_bytes_max = 30'000'000;

TEST_F(ShardCoreSpillTest, AMillionDroppedBatchesTakeAFewBytesEach) {
  config_.options.defaults = plain(1);
  ShardCore::Config config;
  config.durable = true;
  ShardCore core(config, std::make_shared<PolicyTable>(config_.options, 1));
  const Now now{TimePoint{seconds(1)}, 1'700'000'000'000};
  core.stop_sending(now);
  core.give_numbers(1, many);
  const std::string payload = "\"" + std::string(100, 'x') + "\"";
  constexpr std::uint64_t slice = 10'000;
  auto hooks = std::make_shared<HookList>();
  for (std::uint64_t hook = 0; hook < slice; ++hook) {
    hooks->add("https://t" + std::to_string(hook % 100) + ".example/", payload);
  }
  std::uint64_t highest_bytes = 0;
  for (std::uint64_t added = 0; added < many; added += slice) {
    Parcel parcel;
    parcel.hooks = hooks;
    core.add(parcel, now);
    const std::unique_ptr<StorePart> part = core.take_part(now);
    core.part_done(*part, now);
    highest_bytes = std::max(highest_bytes, core.memory_bytes());
    core.shed(1 << 30);
  }
  EXPECT_EQ(core.hooks_held(), many);
  EXPECT_EQ(core.batches_held(), many);
  EXPECT_EQ(core.counters().shed, many);
  RecordProperty("bytes", std::to_string(core.memory_bytes()));
  EXPECT_LT(core.memory_bytes(), many_bytes_max);
  EXPECT_LT(highest_bytes, many_bytes_max);
}

TEST_F(ShardCoreSpillTest, AMillionRecoveredBatchesTakeAFewBytesEach) {
  config_.options.defaults = plain(1);
  ShardCore::Config config;
  config.durable = true;
  ShardCore core(config, std::make_shared<PolicyTable>(config_.options, 1));
  const Now now{TimePoint{seconds(1)}, 1'700'000'000'000};
  core.stop_sending(now);
  constexpr std::uint32_t slice = 10'000;
  std::vector<PendingChunk> found(slice);
  std::vector<std::uint32_t> all(slice);
  std::iota(all.begin(), all.end(), 0u);
  core.begin_recovery();
  for (std::uint64_t number = 1; number <= many; ++number) {
    PendingChunk& chunk = found[(number - 1) % slice];
    chunk.chunk = chunk.batch = number;
    chunk.target = "https://t" + std::to_string(number % 100) + ".example/";
    chunk.accepted_ms = 1'690'000'000'000 + static_cast<WallMs>(number / 10);
    chunk.hooks = 1;
    if (number % slice == 0) core.add_recovered(found, all, now);
  }
  core.end_recovery();
  EXPECT_EQ(core.hooks_held(), many);
  EXPECT_EQ(core.batches_held(), many);
  RecordProperty("bytes", std::to_string(core.memory_bytes()));
  EXPECT_LT(core.memory_bytes(), many_bytes_max);
  EXPECT_EQ(core.find_hook(many / 2, 0, many / 2)->state, "waiting");
}

}  // namespace
}  // namespace postbag::test

// Memory mode: batches that wait behind much else are no objects, and still in order, found,
// watched, cancelled and counted.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "engine/pure/hook_id.h"
#include "engine/pure/packed_run.h"
#include "tests/support/core_fixture.h"

namespace postbag::test {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

// --- PackedRun

// A frozen batch in segments of its own.
struct PoolBatch {
  explicit PoolBatch(SegmentPool& its_pool) : pool(its_pool) {}
  ~PoolBatch() { drop_hooks(batch, pool); }
  void freeze(BatchNumber number, WallMs at) {
    batch.number = number;
    batch.chunk = {number, at, 0, batch.hooks};
    batch.state = BatchState::queued;
  }
  std::string text() const {
    std::string text = std::to_string(batch.number) + " " + std::to_string(batch.opened_ms());
    text += " " + std::to_string(wire_bytes(batch));
    for_each_hook(batch, [&](const BatchedHook& hook) {
      text += " " + std::string(hook.body) + "/" + std::string(hook.event) + "/" +
              std::string(hook.id) + "/" + std::string(hook.content_type);
    });
    return text;
  }
  SegmentPool& pool;
  Batch batch;
};

TEST(PackedRun, GivesBackWhatItTook) {
  std::mt19937_64 random(1);
  SegmentPool pool;
  std::vector<std::string> expected;
  std::size_t taken = 0;
  {
    PackedRun run(pool, 20'000);
    BatchNumber number = 1ull << 40;
    WallMs wall_ms = 1'700'000'000'000;
    for (int step = 0; step < 20'000; ++step) {
      if (random() % 2 == 0) {
        PoolBatch made(pool);
        for (std::size_t hooks = 1 + random() % 5; hooks > 0; --hooks) {
          const std::string body = "\"" + std::string(random() % 300, 'x') + "\"";
          const std::string event = random() % 2 == 0 ? "e" + std::to_string(random() % 3) : "";
          const std::string id = random() % 3 == 0 ? "id-" + std::to_string(step) : "";
          append_hook(made.batch, pool, {body, event, id, random() % 5 == 0 ? "text/x" : ""}, 0);
        }
        number += 1 + random() % 1000;
        wall_ms += static_cast<WallMs>(random() % 4000) - 500;  // a wall clock may go back
        made.freeze(number, wall_ms);
        if (!run.push_back(made.batch)) continue;
        expected.push_back(made.text());
        EXPECT_TRUE(run.has(number, made.batch.hooks - 1));
        EXPECT_FALSE(run.has(number, made.batch.hooks));
        EXPECT_FALSE(run.has(number + 1, 0));
      } else if (run.batches() > 0) {
        PoolBatch back(pool);
        run.pop_front(back.batch);
        ASSERT_EQ(back.text(), expected[taken++]);
        EXPECT_FALSE(run.has(back.batch.number, 0));
      }
      ASSERT_EQ(run.batches(), expected.size() - taken);
    }
  }
  EXPECT_GT(taken, 100u);
  EXPECT_EQ(pool.live_bytes(), 0u);
}

TEST(PackedRun, IsCutInTwoAnywhere) {
  SegmentPool pool;
  for (std::size_t popped = 0; popped < 3; ++popped) {
    for (std::size_t at = popped; at < 20; ++at) {
      PackedRun run(pool, 20'000);
      std::vector<std::string> expected;
      const auto push = [&](PackedRun& to, BatchNumber number) {
        PoolBatch made(pool);
        for (std::size_t hooks = 1 + number % 3; hooks > 0; --hooks) {
          append_hook(made.batch, pool, {std::string(number, 'x'), "e", "id", ""}, 0);
        }
        made.freeze(number, 1'700'000'000'000 - static_cast<WallMs>(number * 1000));
        if (to.push_back(made.batch)) expected.push_back(made.text());
      };
      for (BatchNumber number = 0; number < 20; ++number) push(run, 100 + 2 * number);
      const auto pop = [&](PackedRun& from, std::size_t nth) {
        PoolBatch back(pool);
        from.pop_front(back.batch);
        EXPECT_EQ(back.text(), expected[nth]);
      };
      for (std::size_t nth = 0; nth < popped; ++nth) pop(run, nth);
      const std::uint64_t hooks = run.hooks();
      const std::unique_ptr<PackedRun> front = run.take_before(100 + 2 * at);
      ASSERT_EQ(front != nullptr, at > popped);
      EXPECT_EQ(run.batches(), 20 - at);
      run.shrink();
      EXPECT_LT(run.capacity(), 10'000u);
      push(run, 1000);
      for (std::size_t nth = popped; nth < 20; ++nth) {
        const BatchNumber number = 100 + 2 * nth;
        EXPECT_EQ(front && front->has(number, 0), nth < at);
        EXPECT_EQ(run.has(number, 0), nth >= at);
        EXPECT_FALSE(run.has(number + 1, 0));
      }
      if (front) {
        EXPECT_EQ(front->batches(), at - popped);
        EXPECT_EQ(front->hooks() + run.hooks(), hooks + (expected.size() - 20) * 2);
        for (std::size_t nth = popped; nth < at; ++nth) pop(*front, nth);
        EXPECT_EQ(front->hooks(), 0u);
      }
      for (std::size_t nth = at; nth < expected.size(); ++nth) pop(run, nth);
      EXPECT_EQ(run.hooks(), 0u);
    }
  }
  EXPECT_EQ(pool.live_bytes(), 0u);
}

// --- The core

class ShardCorePackTest : public BacklogFixture {
 protected:
  void make(std::uint32_t size = 1, std::size_t unpacked_batches = 0) {
    config_.unpacked_batches = unpacked_batches;
    make_waiting(plain(size));
  }
  ChunkNumber chunk_of(std::size_t call) const { return locate(calls_[call]->ids[0]).chunk; }
};

TEST_F(ShardCorePackTest, OrderIsKeptAndIdsAreTheSame) {
  make();
  give(0, 3000);
  EXPECT_LT(world_->memory_bytes(), 3000u * 40);  // an object takes five times as much
  EXPECT_EQ(world_->core().batches_held(), 3000u);
  std::vector<TargetStatus> status;
  world_->core().collect_targets(status);
  EXPECT_EQ(status.at(0).waiting, 2999u);
  let_go();
  world_->run_idle();
  EXPECT_EQ(bodies(), singles(0, 3000));
  for (std::size_t nth = 0; nth < calls_.size(); ++nth) {
    const WorldRequest& request = world_->requests()[nth];
    EXPECT_EQ(request.batch_id.substr(0, 13),
              to_string(calls_[nth]->ids[0]).substr(0, 13));  // the time
    EXPECT_EQ(request.batch, chunk_of(nth));
  }
  expect_all_gone();
}

// As against objects: the same requests at the same times with the same heads, and the same ids.
TEST_F(ShardCorePackTest, NobodyOutsideSeesIt) {
  const auto run = [&](std::uint32_t size, std::size_t unpacked) {
    make(size, unpacked);
    std::mt19937_64 random(7);
    world_->network = [](const WorldRequest& request) {
      return answer(request.batch % 7 == 0 ? 500 : 200, milliseconds(30));
    };
    std::vector<std::string> all;
    for (int number = 0; number < 4000; ++number) {
      WorldHook hook;
      hook.target = random() % 2 == 0 ? url_a : url_b;
      hook.body = "\"" + std::string(random() % (number % 50 == 0 ? 6000 : 30), 'x') + "\"";
      if (random() % 4 == 0) hook.group = "g" + std::to_string(random() % 3);
      if (random() % 3 == 0) hook.event = "e" + std::to_string(random() % 2);
      const auto call = world_->submit({hook});
      all.push_back(to_string(call->ids[0]));
      if (random() % 20 == 0) world_->run_for(milliseconds(random() % 40));
      if (number == 3000) world_->flush();
    }
    world_->run_idle();
    for (const WorldRequest& request : world_->requests())
      all.push_back(request.head + request.body);
    expect_all_gone();
    return std::pair(all, world_->trace_hash());
  };
  for (const std::uint32_t size : {1, 3}) {
    const auto packed = run(size, 0);
    const auto objects = run(size, 1'000'000);
    EXPECT_EQ(packed.first, objects.first);
    EXPECT_EQ(packed.second, objects.second);
  }
}

TEST_F(ShardCorePackTest, WhatIsLargeOrWatchedStaysAnObjectInItsPlace) {
  make();
  const auto listener = std::make_shared<CountedOutcomes>();
  const std::string spaces(5000, ' ');
  give(0, 10);
  give(10, 12, url_a, {}, spaces);
  give(12, 20);
  give(20, 22, url_a, listener);
  give(22, 40);
  let_go();
  world_->run_idle();
  std::vector<std::string> expected = singles(0, 40);
  expected[10] = "[10" + spaces + "]";
  expected[11] = "[11" + spaces + "]";
  EXPECT_EQ(bodies(), expected);
  EXPECT_EQ(listener->delivered, 2);
  expect_all_gone();
}

TEST_F(ShardCorePackTest, PackedHooksAreFoundAndWatched) {
  make();
  give(0, 500);
  ShardCore& core = world_->core();
  const auto listener = std::make_shared<CountedOutcomes>();
  std::vector<ChunkNumber> chunks;
  for (const auto& call : calls_) chunks.push_back(locate(call->ids[0]).chunk);
  for (ChunkNumber number : chunks) {
    ASSERT_TRUE(core.find_hook(number, 0, std::nullopt).has_value()) << number;
    EXPECT_FALSE(core.find_hook(number, 1, std::nullopt).has_value());
  }
  EXPECT_EQ(core.find_hook(chunks[77], 0, chunks[77])->state, "waiting");
  EXPECT_EQ(core.find_hook(chunks[77], 0, chunks[77])->target, url_a);
  for (std::size_t nth : {150u, 77u, 78u, 499u, 2u, 1u, 78u}) {
    EXPECT_TRUE(core.watch(chunks[nth], 0, 0, listener));
    EXPECT_FALSE(core.watch(chunks[nth], 1, 0, listener));
  }
  EXPECT_FALSE(core.watch(chunks.back() + 1, 0, 0, listener));
  let_go();
  world_->run_idle();
  EXPECT_EQ(listener->delivered, 7);
  EXPECT_EQ(bodies(), singles(0, 500));
  expect_all_gone();
}

TEST_F(ShardCorePackTest, ACancelMakesRowsAPartAtATimeAndBarriersWaitForAll) {
  make();
  give(0, 3500);
  give(0, 10, url_b);
  const ChunkNumber last = chunk_of(3499);
  const std::uint64_t before = world_->memory_bytes();
  expect_cancel_in_parts([&](ShardCore& core) {
    EXPECT_LT(world_->memory_bytes(), before + 1100 * 600);
    EXPECT_EQ(core.find_hook(last, 0, last)->state, "failed");
    const auto listener = std::make_shared<CountedOutcomes>();
    EXPECT_TRUE(core.watch(last, 0, 0, listener));
    EXPECT_EQ(listener->failed, 1);
  });
}

// Without rows no part comes back by itself.
TEST_F(ShardCorePackTest, ACancelThatKeepsNoRowsEndsAPartAtATimeToo) {
  config_.options.store.keep_failed = false;
  make();
  give(0, 3500);
  bool is_over = false;
  EXPECT_EQ(world_->core().cancel("*", world_->now()), 3499u);
  EXPECT_GE(world_->core().batches_held(), 2400u);
  world_->core().add_barrier([&] {
    is_over = true;
    EXPECT_EQ(world_->core().batches_held(), 1u);
  });
  world_->touch();
  world_->run_for(seconds(1));
  EXPECT_TRUE(is_over);
  EXPECT_EQ(world_->durable().failed.size(), 0u);
  let_go();
  world_->run_idle();
  EXPECT_EQ(world_->requests().size(), 1u);
  expect_all_gone();
}

TEST_F(ShardCorePackTest, AbandonStoresThemAsFailed) {
  make(2);
  give(0, 100);
  world_->drain();
  EXPECT_EQ(world_->core().cancel(url_b, world_->now()), 0u);
  world_->core().stop_sending(world_->now());
  world_->run_for(seconds(200));
  EXPECT_EQ(world_->abandon(), (std::pair<std::uint64_t, std::uint64_t>{0, 98}));
  world_->run_idle();
  ASSERT_EQ(world_->durable().failed.size(), 98u);
  EXPECT_EQ(world_->durable().failed.begin()->second.body, "2");
  for (const auto& [key, row] : world_->durable().failed) EXPECT_EQ(row.reason, Reason::shutdown);
  EXPECT_EQ(world_->hooks_held(), 0u);
}

TEST_F(ShardCorePackTest, AbandonMakesThemRowsAPartAtATime) {
  make();
  give(0, 20'000);
  world_->core().stop_sending(world_->now());
  world_->run_for(seconds(200));
  const std::uint64_t before = world_->memory_bytes();
  EXPECT_EQ(world_->core().abandon(world_->now()).second, 19'999u);
  std::uint64_t most = 0;
  world_->touch();
  while (world_->step()) most = std::max(most, world_->memory_bytes());
  EXPECT_LT(most, before + 2100 * 600);
  EXPECT_TRUE(world_->core().idle());
  ASSERT_EQ(world_->durable().failed.size(), 19'999u);
  for (const auto& [key, row] : world_->durable().failed) ASSERT_EQ(row.reason, Reason::shutdown);
  expect_all_gone();
}

// A thousand ids of 64 bytes beside bodies of one are more than a run can hold.
TEST_F(ShardCorePackTest, ABatchOfManyLongIdsStaysAnObject) {
  const auto wait = [&] {
    make(1000);
    for (int batch = 0; batch < 5; ++batch) {
      std::vector<WorldHook> hooks(1000);
      for (std::size_t nth = 0; nth < hooks.size(); ++nth) {
        hooks[nth].target = url_a;
        hooks[nth].body = std::to_string(batch);
        hooks[nth].id = std::to_string(100'000 + nth) + std::string(58, 'i');
      }
      world_->submit(hooks);
    }
    world_->run_for(milliseconds(20));
  };
  wait();
  let_go();
  world_->run_idle();
  ASSERT_EQ(world_->requests().size(), 5u);
  for (int batch = 0; batch < 5; ++batch) {
    EXPECT_EQ(bodies()[static_cast<std::size_t>(batch)].substr(0, 2), "[" + std::to_string(batch));
  }
  expect_all_gone();

  wait();
  EXPECT_EQ(world_->cancel("*"), 4000u);
  let_go();
  world_->run_idle();
  EXPECT_EQ(world_->durable().failed.size(), 4000u);
  expect_all_gone();

  wait();
  world_->drain();
  world_->core().stop_sending(world_->now());
  world_->run_for(seconds(200));
  EXPECT_EQ(world_->abandon(), (std::pair<std::uint64_t, std::uint64_t>{0, 4000}));
  world_->run_idle();
  EXPECT_EQ(world_->durable().failed.size(), 4000u);
}

TEST_F(ShardCorePackTest, WatchingEverySecondPackedHookTakesLittleMemory) {
  const std::string pad(296, ' ');
  for (const bool from_the_end : {false, true}) {
    make();
    calls_.clear();
    give(0, 2000, url_a, {}, pad);
    const std::uint64_t before = world_->memory_bytes();
    const auto listener = std::make_shared<CountedOutcomes>();
    for (std::size_t at = 1; at < 2000; at += 2) {
      const std::size_t nth = from_the_end ? 2000 - at : at;
      ASSERT_TRUE(world_->core().watch(chunk_of(nth), 0, 0, listener)) << nth;
    }
    EXPECT_LT(world_->memory_bytes(), 3 * before);
    give(2000, 2010, url_a, {}, pad);
    let_go();
    world_->run_idle();
    EXPECT_EQ(listener->delivered, 1000);
    std::vector<std::string> expected;
    for (int number = 0; number < 2010; ++number) {
      expected.push_back("[" + std::to_string(number) + pad + "]");
    }
    EXPECT_EQ(bodies(), expected);
    expect_all_gone();
  }
}

TEST_F(ShardCorePackTest, AWaitingHookTakesAFewBytesBesideItself) {
  config_.max_connections = 1;
  make(1, 1000);
  const std::string pad(296, ' ');
  for (int target = 0; target < 10; ++target) {
    for (int number = 0; number < 5000; ++number) {
      WorldHook hook;
      hook.target = "https://t" + std::to_string(target) + ".example/";
      hook.body = std::to_string(1000 + number) + pad;
      world_->submit({hook});
    }
  }
  const double bytes = static_cast<double>(world_->memory_bytes()) / 50'000 - 300;
  RecordProperty("bytes_a_hook", std::to_string(bytes));
  EXPECT_LT(bytes, 40);
  let_go();
  world_->run_idle();
  EXPECT_EQ(world_->requests().size(), 50'000u);
}

}  // namespace
}  // namespace postbag::test

// How long the oldest hook has waited, without a look at all of them.
#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <set>
#include <vector>

#include "engine/pure/opened_times.h"
#include "tests/support/core_fixture.h"

namespace postbag::test {
namespace {

using std::chrono::seconds;

constexpr WallMs start_ms = 1'700'000'000'000;

TEST(OpenedTimesTest, KnowsTheOldestThatIsLeft) {
  OpenedTimes times;
  EXPECT_EQ(times.oldest_ms(), std::nullopt);
  times.add(start_ms + 9000);
  times.add(start_ms);
  times.add(start_ms + 5000);  // the clock was set
  times.add(start_ms + 5000);
  EXPECT_EQ(times.oldest_ms(), start_ms);
  times.remove(start_ms);
  EXPECT_EQ(times.oldest_ms(), start_ms + 5000);
  times.remove(start_ms + 5000);
  EXPECT_EQ(times.oldest_ms(), start_ms + 5000);
  times.remove(start_ms + 5000);
  EXPECT_EQ(times.oldest_ms(), start_ms + 9000);
  times.remove(start_ms + 9000);
  EXPECT_EQ(times.oldest_ms(), std::nullopt);
}

// Against all of them in order: never too young, and too old by a second, or by a 64th of its age
// where that is more.
TEST(OpenedTimesTest, IsAsPreciseAsItSaysHoweverLongTheSpan) {
  std::mt19937_64 random(3);
  OpenedTimes times;
  std::multiset<WallMs> all;
  WallMs now_ms = start_ms;
  const auto expect_close = [&] {
    ASSERT_EQ(times.oldest_ms().has_value(), !all.empty());
    if (all.empty()) return;
    const WallMs too_old = *all.begin() - *times.oldest_ms();
    EXPECT_GE(too_old, 0);
    EXPECT_LE(too_old, 1024 + (now_ms - *times.oldest_ms()) / 64);
  };
  for (int round = 0; round < 3; ++round) {
    for (int i = 0; i < 30'000; ++i) {
      now_ms += static_cast<WallMs>(random() % 3000);
      const WallMs opened_ms = now_ms - static_cast<WallMs>(random() % 20 == 0 ? 60'000 : 0);
      times.add(opened_ms);
      all.insert(opened_ms);
      if (random() % 4 == 0) {
        auto gone = all.begin();
        if (random() % 2 == 0) std::advance(gone, random() % std::min<std::size_t>(all.size(), 50));
        times.remove(*gone);
        all.erase(gone);
      }
      if (i % 16 == 0) expect_close();
    }
    while (all.size() > 1) {
      times.remove(*all.begin());
      all.erase(all.begin());
      if (all.size() % 16 == 0) expect_close();
    }
    // The long backlog is over, though there was always something: the next is as precise as ever.
    now_ms += 100'000;
    times.add(now_ms);
    times.remove(*all.begin());
    all = {now_ms};
    EXPECT_EQ(times.oldest_ms(), now_ms);
  }
  times.remove(now_ms);
  EXPECT_EQ(times.oldest_ms(), std::nullopt);
}

// Far more seconds than places, as after a clock that was set: there is always room.
TEST(OpenedTimesTest, FindsRoomForAnyTimes) {
  std::mt19937_64 random(4);
  OpenedTimes times;
  std::vector<WallMs> all;
  for (int i = 0; i < 20'000; ++i) {
    all.push_back(static_cast<WallMs>(random() >> (1 + random() % 50)) - (1ll << 40));
    times.add(all.back());
  }
  EXPECT_LE(times.oldest_ms(), *std::min_element(all.begin(), all.end()));
  for (const WallMs opened_ms : all) times.remove(opened_ms);
  EXPECT_EQ(times.oldest_ms(), std::nullopt);
}

class OldestHookTest : public CoreFixture {};

// A restart forgets no age, and a batch that is retried is as old as its first hook.
TEST_F(OldestHookTest, AnAgeOutlivesARestartAndARetry) {
  config_.options.defaults = plain(1);
  config_.durable = true;
  make_world();
  always(answer(503));
  const WallMs first_ms = world_->now().wall_ms;
  EXPECT_EQ(world_->core().oldest_ms(), std::nullopt);
  world_->submit(url_a, "1");
  world_->run_for(seconds(3));
  world_->submit(url_b, "2");
  world_->run_for(seconds(1));
  EXPECT_EQ(world_->core().oldest_ms(), first_ms);
  world_->crash();
  world_->run_for(seconds(3));
  EXPECT_EQ(world_->core().oldest_ms(), first_ms);
  world_->network = [](const WorldRequest& request) {
    return answer(request.target == url_a ? 200 : 503);
  };
  world_->run_for(seconds(6));
  ASSERT_EQ(world_->hooks_held(), 1u);
  EXPECT_EQ(world_->core().oldest_ms(), first_ms + 3000);
  always(answer(200));
  world_->run_idle();
  EXPECT_EQ(world_->core().oldest_ms(), std::nullopt);
}

// They were given up: nobody waits for them but who runs the command.
TEST_F(OldestHookTest, HooksOfRetryFailedHooksDoNotCount) {
  config_.options.defaults = plain(1);
  config_.options.defaults.retry.retries = 0;
  make_world();
  always(answer(503));
  world_->submit(url_a, "1");
  world_->run_idle();
  ASSERT_EQ(world_->durable().failed.size(), 1u);
  world_->network = [](const WorldRequest&) { return answer(200, seconds(100)); };
  world_->retry_failed();
  EXPECT_EQ(world_->core().batches_held(), 1u);
  EXPECT_EQ(world_->core().oldest_ms(), std::nullopt);
}

}  // namespace
}  // namespace postbag::test

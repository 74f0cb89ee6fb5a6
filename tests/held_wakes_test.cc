// Wakes that wait for the end of a scope.
#include "engine/shell/held_wakes.h"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "cli/intake/loop.h"

namespace postbag {
namespace {

struct CountedSleeper : Wakeable {
  void wake_now() override { ++wakes; }
  std::atomic<int> wakes{0};
};

TEST(HeldWakesTest, WaitForTheEndOfTheOutermostScope) {
  const auto sleeper = std::make_shared<CountedSleeper>();
  EXPECT_FALSE(HeldWakes::active());
  {
    const HeldWakes outer;
    {
      const HeldWakes inner;
      EXPECT_TRUE(HeldWakes::hold(sleeper));
    }
    EXPECT_TRUE(HeldWakes::active());
    EXPECT_EQ(sleeper->wakes, 0);
  }
  EXPECT_EQ(sleeper->wakes, 1);
  EXPECT_FALSE(HeldWakes::active());
  EXPECT_EQ(sleeper.use_count(), 1);  // nobody keeps it
}

TEST(HeldWakesTest, HoldNoMoreThanThereIsRoomFor) {
  const auto sleeper = std::make_shared<CountedSleeper>();
  int held = 0;
  {
    const HeldWakes scope;
    while (held < 1000 && HeldWakes::hold(sleeper)) ++held;
  }
  EXPECT_LT(held, 1000);
  EXPECT_EQ(sleeper->wakes, held);
}

TEST(HeldWakesTest, AreOfTheirThreadAlone) {
  const HeldWakes scope;
  bool active = true;
  std::thread([&] { active = HeldWakes::active(); }).join();
  EXPECT_FALSE(active);
}

// What is posted in a scope runs after it, and a post from elsewhere does not wait for that scope.
TEST(HeldWakesTest, ALoopIsWokenByWhoeverDoesNotHold) {
  const auto loop = std::make_shared<IntakeLoop>();
  int runs = 0;
  {
    const HeldWakes scope;
    loop->post([&] { ++runs; });
    EXPECT_EQ(loop->run_ready(), 0u);
    std::thread([&] { loop->post([&] { ++runs; }); }).join();
    EXPECT_EQ(loop->run_ready(), 1u);
    EXPECT_EQ(runs, 2);
    loop->post([&] { ++runs; });
  }
  EXPECT_EQ(loop->run_ready(), 1u);
  EXPECT_EQ(runs, 3);
  loop->close();
}

TEST(HeldWakesTest, ABurstEndsWithTheTurnOfTheLoop) {
  const auto loop = std::make_shared<IntakeLoop>();
  const auto sleeper = std::make_shared<CountedSleeper>();
  loop->post([&] {
    loop->begin_burst();
    EXPECT_TRUE(HeldWakes::hold(sleeper));
  });
  loop->run_ready();
  EXPECT_EQ(sleeper->wakes, 1);
  loop->close();
}

}  // namespace
}  // namespace postbag

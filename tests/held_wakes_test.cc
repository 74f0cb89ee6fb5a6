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

struct SleeperWithInbox : Wakeable, std::enable_shared_from_this<SleeperWithInbox> {
  void hand_in(bool may_hold = true) {
    if (wake.want(may_hold, [this] { return shared_from_this(); })) ++wakes;
  }
  void wake_now() override {
    if (wake.want_held()) ++wakes;
  }
  CoalescedWake wake;
  int wakes = 0;
};

TEST(CoalescedWakeTest, HandOversUntilTheInboxIsTakenCostOneWake) {
  const auto sleeper = std::make_shared<SleeperWithInbox>();
  for (int i = 0; i < 3; ++i) sleeper->hand_in();
  EXPECT_EQ(sleeper->wakes, 1);
  sleeper->wake.taken();
  sleeper->hand_in();
  EXPECT_EQ(sleeper->wakes, 2);
}

TEST(CoalescedWakeTest, IsHeldOnceForAllHandOversOfAScope) {
  const auto sleeper = std::make_shared<SleeperWithInbox>();
  {
    const HeldWakes scope;
    for (int i = 0; i < 100; ++i) sleeper->hand_in();  // more than a scope has room for
    EXPECT_EQ(sleeper->wakes, 0);
  }
  EXPECT_EQ(sleeper->wakes, 1);
}

TEST(CoalescedWakeTest, WhoeverMayNotHoldSendsWhatAnotherHolds) {
  const auto sleeper = std::make_shared<SleeperWithInbox>();
  {
    const HeldWakes scope;
    sleeper->hand_in();
    sleeper->hand_in(false);
    EXPECT_EQ(sleeper->wakes, 1);
  }
  EXPECT_EQ(sleeper->wakes, 1);
}

TEST(CoalescedWakeTest, IsSentAtOnceWhereAScopeHasNoRoom) {
  const auto other = std::make_shared<CountedSleeper>();
  const auto sleeper = std::make_shared<SleeperWithInbox>();
  const HeldWakes scope;
  while (HeldWakes::hold(other)) continue;
  sleeper->hand_in();
  EXPECT_EQ(sleeper->wakes, 1);
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

// Which ids are known, and for how long.
#include "engine/pure/id_table.h"

#include <gtest/gtest.h>

#include <map>
#include <random>

namespace postbag::test {
namespace {

using std::chrono::milliseconds;
using Answer = IdTable::Answer;

constexpr Hash128 one{1, 1}, two{2, 2}, content{7, 7};

TimePoint at(std::int64_t ms) {
  return TimePoint(milliseconds(ms));
}

IdTable::Call make_call() {
  return std::make_shared<int>();
}

TEST(IdTable, ACallTouchesNoIdThatIsAnotherCalls) {
  IdTable table(10, milliseconds(100));
  const auto first = make_call(), second = make_call();
  EXPECT_EQ(table.take(one, content, first, at(0)).answer, Answer::fresh);
  table.release(one, second.get());
  table.settle(one, second.get(), 5);
  EXPECT_EQ(table.take(one, content, second, at(0)).call, first);
  table.settle(one, first.get(), 6);
  EXPECT_EQ(table.find(one, at(0)), 6u);
  table.release(one, first.get());  // accepted: not to be refused any more
  table.left(one, second.get(), 5);
  EXPECT_EQ(table.find(one, at(0)), 6u);
  EXPECT_EQ(table.take(one, content, second, at(100)).answer, Answer::fresh);
  EXPECT_FALSE(table.leave(one, first.get(), 6));
  table.left(one, first.get(), 6);  // its hook failed late
  EXPECT_EQ(table.take(one, content, first, at(100)).answer, Answer::pending);
}

TEST(IdTable, AnIdThatLeavesIsNeitherFreeNorKnown) {
  IdTable table(10, milliseconds(100));
  const auto call = make_call();
  EXPECT_EQ(table.take(one, content, call, at(0)).answer, Answer::fresh);
  EXPECT_EQ(table.take(one, content, make_call(), at(0), false).answer, Answer::pending);
  EXPECT_TRUE(table.leave(one, call.get(), 0));  // before its call is answered
  EXPECT_EQ(table.take(one, content, make_call(), at(0)).answer, Answer::leaving);
  table.settle(one, call.get(), 5);
  EXPECT_EQ(table.take(one, content, make_call(), at(0)).answer, Answer::leaving);
  table.left(one, call.get(), 5);
  EXPECT_EQ(table.take(one, content, make_call(), at(0)).answer, Answer::fresh);
}

TEST(IdTable, AnIdThatSomebodyReliesOnDoesNotLeave) {
  IdTable table(10, milliseconds(100));
  for (const bool is_settled : {false, true}) {
    const Hash128& id = is_settled ? one : two;
    const auto call = make_call();
    EXPECT_EQ(table.take(id, content, call, at(0)).answer, Answer::fresh);
    if (is_settled) table.settle(id, call.get(), 5);
    EXPECT_NE(table.take(id, content, make_call(), at(0), true).answer, Answer::fresh);
    EXPECT_FALSE(table.leave(id, call.get(), 5));
  }
}

// Review B3: a wall clock that was set forgot ids, or kept them for ever. What is left of a window
// is read off it once; then time only passes.
TEST(IdTable, TheWallClockCountsOnlyForWhatIsRestored) {
  IdTable table(10, milliseconds(100));
  const Now now{at(1'000), 5'000'000};
  table.restore({one, content, 5, now.wall_ms + 50}, now);
  table.restore({two, content, 6, now.wall_ms + 400LL * 86'400'000}, now);  // it was set back since
  EXPECT_EQ(table.find(one, at(1'049)), 5u);
  EXPECT_EQ(table.find(one, at(1'050)), std::nullopt);
  EXPECT_EQ(table.taken_at(one, 5), at(950));
  EXPECT_EQ(table.find(two, at(1'099)), 6u);
  EXPECT_EQ(table.take(two, content, make_call(), at(1'100)).answer, Answer::fresh);
}

// An id whose window ended before its call did was kept for ever.
TEST(IdTable, WhatExpiresBeforeItIsSettledIsForgottenToo) {
  IdTable table(1'000'000, milliseconds(0));
  IdTable::Call before;
  for (std::uint64_t ms = 1; ms <= 1'000; ++ms) {
    const auto call = make_call();
    EXPECT_EQ(table.take({ms, ms}, content, call, at(static_cast<std::int64_t>(ms))).answer,
              Answer::fresh);
    if (before) table.settle({ms - 1, ms - 1}, before.get(), 5);
    before = call;
    ASSERT_LE(table.size(), 2u);
  }
}

// Each left its age behind, 24 bytes for as long as the window, and nobody counted them.
TEST(IdTable, ReleasedIdsLeaveNothing) {
  constexpr std::uint64_t rounds = 20;
  constexpr std::int64_t window_ms = 1'000'000;
  IdTable table(1'000'000, milliseconds(window_ms));
  const auto call = make_call();
  const auto take = [&](std::uint64_t id, std::int64_t ms) {
    EXPECT_EQ(table.take({id, 0}, content, call, at(ms)).answer, Answer::fresh);
  };
  const auto give_back = [&](std::uint64_t id) {
    table.settle({id, 0}, call.get(), 5);
    EXPECT_TRUE(table.leave({id, 0}, call.get(), 5));
    table.left({id, 0}, call.get(), 5);
  };
  take(0, 0);  // stays
  table.settle({0, 0}, call.get(), 5);
  for (std::uint64_t round = 0; round < rounds; ++round) {
    for (std::uint64_t id = 1; id <= 1'000; ++id) take(id, static_cast<std::int64_t>(round));
    for (std::uint64_t id = 1; id <= 1'000; ++id) table.release({id, 0}, call.get());
    EXPECT_EQ(table.ages(), 1u);
    EXPECT_EQ(table.memory_bytes(), IdTable::id_bytes);
  }
  // Later than at once, some within the same millisecond; one in each hundred stays.
  for (std::uint64_t round = 0; round < rounds; ++round) {
    for (std::uint64_t id = 1; id <= 1'000; ++id) {
      const std::size_t before = table.ages();
      take(1'000 * round + id, 1);
      give_back(1'000 * round + id);
      take(1'000 * round + id, 1);
      if (id % 100 == 0) table.settle({1'000 * round + id, 0}, call.get(), 5);
      if (id % 100 != 0) give_back(1'000 * round + id);
      ASSERT_LE(table.ages(), 2 * table.size() + 5'000);
      ASSERT_GE(table.ages() + 16, before) << "all were looked at in one go, with the lock held";
    }
  }
  EXPECT_EQ(table.size(), 10 * rounds + 1);
  EXPECT_EQ(table.forgotten_early(), 0u);
  // All others are old by now, and a few go with each that comes.
  std::uint64_t taken = 0;
  while (table.ages() > taken) {
    const std::size_t before = table.ages();
    take(++taken, window_ms + 1);
    ASSERT_LT(table.ages(), before) << "nothing is left behind for good";
  }
  EXPECT_EQ(table.size(), taken);
}

// After a pause the first call let go of all, with the lock held that every producer with ids
// wants.
TEST(IdTable, OldIdsAreForgottenAFewAtATime) {
  constexpr std::uint64_t count = 100'000;
  IdTable table(count, milliseconds(1'000));
  const auto call = make_call();
  for (std::uint64_t id = 0; id < count; ++id) {
    EXPECT_EQ(table.take({id, 0}, content, call, at(0)).answer, Answer::fresh);
    table.settle({id, 0}, call.get(), id);
  }
  std::uint64_t takes = 0;
  while (table.size() > takes) {
    const std::size_t before = table.size();
    EXPECT_EQ(table.find({count / 2, 0}, at(2'000)), std::nullopt);
    takes += 1;
    const Hash128 id{count - takes, 0};  // there, and old
    EXPECT_EQ(table.take(id, content, call, at(2'000)).answer, Answer::fresh);
    table.settle(id, call.get(), takes);
    ASSERT_GE(table.size() + 10, before);
    ASSERT_LE(table.size(), count);
  }
  EXPECT_LT(takes, count / 4);
  EXPECT_EQ(table.forgotten_early(), 0u);
}

// Ages are looked through while others come and go.
TEST(IdTable, EachIdIsForgottenAtTheEndOfItsWindowAlsoWhileDeadAgesAreLookedFor) {
  constexpr std::int64_t window_ms = 20'000;
  IdTable table(1'000'000, milliseconds(window_ms));
  const auto call = make_call();
  std::mt19937_64 random(1);
  std::map<std::uint64_t, std::int64_t> expires_ms;
  for (std::int64_t ms = 0; ms < 100'000; ++ms) {
    const std::uint64_t id = random() % 30'000;
    const bool is_known = expires_ms.contains(id) && expires_ms[id] > ms;
    ASSERT_EQ(table.take({id, 0}, content, call, at(ms)).answer,
              is_known ? Answer::duplicate : Answer::fresh);
    ASSERT_EQ(table.find({id, 0}, at(ms)).has_value(), is_known);
    if (is_known) continue;
    table.settle({id, 0}, call.get(), id);
    expires_ms[id] = ms + window_ms;
    if (random() % 8 == 0) continue;
    ASSERT_TRUE(table.leave({id, 0}, call.get(), id));
    table.left({id, 0}, call.get(), id);
    expires_ms.erase(id);
    ASSERT_LE(table.ages(), 2 * table.size() + 6'000);
  }
  std::erase_if(expires_ms, [](const auto& known) { return known.second <= 99'999; });
  EXPECT_EQ(table.size(), expires_ms.size());
}

}  // namespace
}  // namespace postbag::test

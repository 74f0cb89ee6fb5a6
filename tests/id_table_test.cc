// Which ids are known, and for how long.
#include "engine/pure/id_table.h"

#include <gtest/gtest.h>

namespace postbag::test {
namespace {

using std::chrono::milliseconds;
using Answer = IdTable::Answer;

constexpr Hash128 one{1, 1}, two{2, 2}, content{7, 7};

IdTable::Call make_call() {
  return std::make_shared<int>();
}

TEST(IdTable, ACallTouchesNoIdThatIsAnotherCalls) {
  IdTable table(10, milliseconds(100));
  const auto first = make_call(), second = make_call();
  EXPECT_EQ(table.take(one, content, first, 0).answer, Answer::fresh);
  table.release(one, second.get());
  table.settle(one, second.get(), 5);
  EXPECT_EQ(table.take(one, content, second, 0).call, first);
  table.settle(one, first.get(), 6);
  EXPECT_EQ(table.find(one, 0), 6u);
  table.release(one, first.get());  // accepted: not to be refused any more
  table.left(one, second.get(), 5);
  EXPECT_EQ(table.find(one, 0), 6u);
  EXPECT_EQ(table.take(one, content, second, 100).answer, Answer::fresh);
  table.left(one, first.get(), 6);  // its hook failed late
  EXPECT_EQ(table.take(one, content, first, 100).answer, Answer::pending);
}

TEST(IdTable, AnIdThatLeavesIsNeitherFreeNorKnown) {
  IdTable table(10, milliseconds(100));
  const auto call = make_call();
  EXPECT_EQ(table.take(one, content, call, 0).answer, Answer::fresh);
  EXPECT_EQ(table.take(one, content, make_call(), 0, false).answer, Answer::pending);
  EXPECT_TRUE(table.leave(one, call.get(), 0));  // before its call is answered
  EXPECT_EQ(table.take(one, content, make_call(), 0).answer, Answer::leaving);
  table.settle(one, call.get(), 5);
  EXPECT_EQ(table.take(one, content, make_call(), 0).answer, Answer::leaving);
  table.left(one, call.get(), 5);
  EXPECT_EQ(table.take(one, content, make_call(), 0).answer, Answer::fresh);
}

TEST(IdTable, AnIdThatSomebodyReliesOnDoesNotLeave) {
  IdTable table(10, milliseconds(100));
  for (const bool is_settled : {false, true}) {
    const Hash128& id = is_settled ? one : two;
    const auto call = make_call();
    EXPECT_EQ(table.take(id, content, call, 0).answer, Answer::fresh);
    if (is_settled) table.settle(id, call.get(), 5);
    EXPECT_NE(table.take(id, content, make_call(), 0, true).answer, Answer::fresh);
    EXPECT_FALSE(table.leave(id, call.get(), 5));
  }
}

// An id whose window ended before its call did was kept for ever.
TEST(IdTable, WhatExpiresBeforeItIsSettledIsForgottenToo) {
  IdTable table(1'000'000, milliseconds(0));
  IdTable::Call before;
  for (std::uint64_t at = 1; at <= 1'000; ++at) {
    const auto call = make_call();
    EXPECT_EQ(table.take({at, at}, content, call, static_cast<WallMs>(at)).answer, Answer::fresh);
    if (before) table.settle({at - 1, at - 1}, before.get(), 5);
    before = call;
    ASSERT_LE(table.size(), 2u);
  }
}

}  // namespace
}  // namespace postbag::test

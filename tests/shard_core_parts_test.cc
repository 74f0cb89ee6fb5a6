// What a shard core is put together from: numbers of chunks, lists of targets, reading ahead.
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "engine/pure/chunk_numbers.h"
#include "engine/pure/read_ahead.h"
#include "engine/pure/target_list.h"

namespace postbag {
namespace {

TEST(ChunkNumbersTest, AreTakenInTheOrderOfTheirRanges) {
  ChunkNumbers numbers;
  EXPECT_EQ(numbers.left(), 0u);
  numbers.give(5, 2);
  numbers.give(9, 0);
  numbers.give(20, 3);
  EXPECT_EQ(numbers.left(), 5u);
  std::vector<ChunkNumber> taken;
  while (numbers.left() > 0) taken.push_back(numbers.take());
  EXPECT_EQ(taken, (std::vector<ChunkNumber>{5, 6, 20, 21, 22}));
  numbers.give(30, 1);
  EXPECT_EQ(numbers.take(), 30u);
}

TEST(TargetListTest, KeepsTheOrderAndSaysWhoIsIn) {
  std::vector<std::unique_ptr<TargetState>> targets;
  for (const char* url : {"https://a/", "https://b/", "https://c/", "https://d/"}) {
    targets.push_back(TargetState::make(url));
  }
  TargetList ready(TargetState::List::ready), idle(TargetState::List::idle);
  for (const auto& target : targets) idle.add(*target);
  EXPECT_EQ(idle.size(), 4u);
  EXPECT_EQ(idle.first(), targets[0].get());
  EXPECT_TRUE(idle.has(*targets[2]));
  EXPECT_FALSE(ready.has(*targets[2]));

  for (const std::size_t taken : {2u, 0u, 3u}) {  // from the middle, the front, the end
    idle.remove(*targets[taken]);
    EXPECT_EQ(targets[taken]->list, TargetState::List::none);
    ready.add(*targets[taken]);
  }
  EXPECT_EQ(idle.size(), 1u);
  EXPECT_EQ(idle.first(), targets[1].get());
  EXPECT_EQ(ready.size(), 3u);
  for (const std::size_t expected : {2u, 0u, 3u}) {
    ASSERT_EQ(ready.first(), targets[expected].get());
    ready.remove(*targets[expected]);
  }
  EXPECT_EQ(ready.first(), nullptr);
  idle.remove(*targets[1]);
  EXPECT_EQ(idle.first(), nullptr);
  EXPECT_EQ(idle.size(), 0u);
  idle.add(*targets[3]);
  EXPECT_EQ(idle.first(), targets[3].get());
}

class ReadAheadTest : public ::testing::Test {
 protected:
  // Plans it and has it read. What is returned waits for it.
  Batch* read(ChunkNumber chunk, std::size_t bytes, bool keeps = true) {
    EXPECT_TRUE(ahead_.plan(chunk));
    std::string blob(bytes, 'x');
    return ahead_.arrived(chunk, blob, keeps);
  }
  bool has(ChunkNumber chunk) {
    return ahead_.take(chunk, batch_, blob_) == ReadAhead::Found::blob;
  }
  void pass(int starts) {
    for (int i = 0; i < starts; ++i) ahead_.started();
  }

  ReadAhead ahead_;
  Batch batch_;
  std::string blob_;
};

TEST_F(ReadAheadTest, GivesABlobOnce) {
  EXPECT_EQ(ahead_.take(7, batch_, blob_), ReadAhead::Found::nothing);
  EXPECT_TRUE(ahead_.plan(7));
  EXPECT_FALSE(ahead_.plan(7));
  EXPECT_EQ(ahead_.wanted(), std::vector<ChunkNumber>{7});
  std::string blob = "the hooks";
  EXPECT_EQ(ahead_.arrived(7, blob, true), nullptr);
  EXPECT_TRUE(ahead_.holds_blobs());
  EXPECT_EQ(ahead_.take(7, batch_, blob_), ReadAhead::Found::blob);
  EXPECT_EQ(blob_, "the hooks");
  EXPECT_EQ(ahead_.take(7, batch_, blob_), ReadAhead::Found::nothing);
  EXPECT_FALSE(ahead_.holds_blobs());
  EXPECT_EQ(ahead_.bytes(), 0u);
}

TEST_F(ReadAheadTest, WhoseTurnComesWhileItIsReadWaitsForIt) {
  EXPECT_TRUE(ahead_.plan(7));
  EXPECT_EQ(ahead_.take(7, batch_, blob_), ReadAhead::Found::being_read);
  std::string blob = "the hooks";
  EXPECT_EQ(ahead_.arrived(7, blob, true), &batch_);
  EXPECT_EQ(blob, "the hooks");  // the waiter's
  EXPECT_EQ(ahead_.take(7, batch_, blob_), ReadAhead::Found::nothing);
  EXPECT_EQ(ahead_.bytes(), 0u);
}

TEST_F(ReadAheadTest, KeepsNothingThatCouldNotBeReadOrIsNotWantedOrHasNoRoom) {
  EXPECT_EQ(read(1, 0), nullptr);
  EXPECT_FALSE(has(1));
  EXPECT_EQ(read(2, 10, false), nullptr);
  EXPECT_FALSE(has(2));
  EXPECT_EQ(read(3, 2 << 20), nullptr);
  EXPECT_EQ(read(4, 1), nullptr);
  EXPECT_FALSE(has(4));
  EXPECT_TRUE(has(3));
  EXPECT_EQ(ahead_.bytes(), 0u);
}

TEST_F(ReadAheadTest, HasRoomAgainWhenWhatNobodyWantedIsOld) {
  EXPECT_EQ(ahead_.room(), 64u);
  EXPECT_EQ(read(1, (1 << 20) + 1), nullptr);
  EXPECT_EQ(ahead_.room(), 0u);
  EXPECT_TRUE(ahead_.plan(2));  // one that is being read stays
  pass(16'383);
  EXPECT_EQ(ahead_.room(), 0u);
  pass(1);
  EXPECT_EQ(ahead_.room(), 0u) << "it is not looked for at each start";
  pass(1'023);
  EXPECT_EQ(ahead_.room(), 64u);
  EXPECT_FALSE(has(1));
  EXPECT_EQ(ahead_.take(2, batch_, blob_), ReadAhead::Found::being_read);
}

TEST_F(ReadAheadTest, TakesNoMoreThanSoManyChunks) {
  for (ChunkNumber chunk = 1; chunk <= 4'090; ++chunk) EXPECT_TRUE(ahead_.plan(chunk));
  EXPECT_EQ(ahead_.room(), 6u);
}

TEST_F(ReadAheadTest, PausesWhereMemoryIsWanted) {
  EXPECT_EQ(read(1, 100), nullptr);
  EXPECT_TRUE(ahead_.plan(2));
  ahead_.drop_all();
  ahead_.pause();
  EXPECT_FALSE(has(1));
  EXPECT_FALSE(ahead_.holds_blobs());
  pass(4'095);
  EXPECT_EQ(ahead_.room(), 0u);
  pass(1);
  EXPECT_EQ(ahead_.room(), 64u);
}

}  // namespace
}  // namespace postbag

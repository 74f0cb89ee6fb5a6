// What a checkpoint copies, leaves where it is and has copied already.
#include "store/copied_frames.h"

#include <gtest/gtest.h>

namespace postbag::test {
namespace {

using Write = CopiedFrames::Write;
constexpr std::uint64_t page = 4096;

// Where the page of a frame stands in the log, as SQLite's file format says.
std::uint64_t of_frame(std::uint64_t frame) {
  return 32 + (frame - 1) * (page + 24) + 24;
}
std::uint64_t of_page(std::uint64_t number) {
  return (number - 1) * page;
}

class CopiedFramesTest : public ::testing::Test {
 protected:
  // As SQLite does: the frame is read, then written. Whether both happened.
  bool copies(std::uint64_t frame, std::uint64_t to_page) {
    const bool reads = !frames_.leaves_out_read(of_frame(frame), page);
    const Write write = frames_.judge_write(of_page(to_page), page);
    EXPECT_NE(write, Write::refuse);
    EXPECT_EQ(reads, write == Write::make);
    return reads;
  }

  CopiedFrames frames_{page, 10};
};

TEST_F(CopiedFramesTest, WhatIsNotOnDiskStays) {
  const CopiedFrames::Pass pass(frames_, 3);
  frames_.set_copying(true);
  EXPECT_TRUE(copies(3, 7));
  EXPECT_FALSE(copies(4, 8));
  frames_.set_copying(false);
  EXPECT_TRUE(frames_.holds_end());
}

TEST_F(CopiedFramesTest, WhatIsThereIsLeftOutUntilItIsOverwritten) {
  frames_.set_copying(true);
  for (const std::uint64_t frame : {1, 2, 3}) EXPECT_TRUE(copies(frame, frame + 5));
  for (const std::uint64_t frame : {1, 2, 3}) EXPECT_FALSE(copies(frame, frame + 5));
  frames_.overwritten(of_frame(3) - 24);
  EXPECT_FALSE(copies(2, 7));
  EXPECT_TRUE(copies(3, 8));
  frames_.overwritten(0);  // the head of a log that begins anew
  for (const std::uint64_t frame : {1, 2, 3}) EXPECT_TRUE(copies(frame, frame));
  EXPECT_FALSE(frames_.holds_end());
}

TEST_F(CopiedFramesTest, BehindItsMemoryEverythingIsCopiedEachTime) {
  frames_.set_copying(true);
  EXPECT_TRUE(copies(10, 1));
  EXPECT_TRUE(copies(11, 2));
  EXPECT_FALSE(copies(10, 1));
  EXPECT_TRUE(copies(11, 2));
}

// Else it would be bytes of another page, or of none.
TEST_F(CopiedFramesTest, NothingIsWrittenThatWasNotRead) {
  frames_.set_copying(true);
  EXPECT_EQ(frames_.judge_write(of_page(3), page), Write::refuse);
  EXPECT_TRUE(copies(1, 3));
  EXPECT_EQ(frames_.judge_write(of_page(4), page), Write::refuse);
  EXPECT_TRUE(frames_.leaves_out_read(of_frame(1), page));
  EXPECT_EQ(frames_.judge_write(of_page(4), page), Write::refuse);
  EXPECT_FALSE(frames_.leaves_out_read(of_frame(2), page / 2));
  EXPECT_EQ(frames_.judge_write(of_page(4), page), Write::refuse);
}

TEST_F(CopiedFramesTest, OutsideOfCheckpointsNothingIsLeftOut) {
  frames_.set_copying(true);
  EXPECT_TRUE(copies(1, 3));
  frames_.set_copying(false);
  EXPECT_FALSE(frames_.leaves_out_read(of_frame(1), page));
  EXPECT_EQ(frames_.judge_write(of_page(9), page), Write::make);
}

}  // namespace
}  // namespace postbag::test

#include "engine/pure/recent_chunks.h"

#include <gtest/gtest.h>

namespace postbag {
namespace {

TEST(RecentChunks, KnowsTheLatestAndWhereTheyWent) {
  RecentChunks recent;
  RecentChunks::TextPlace a = 0, b = 0;
  EXPECT_EQ(recent.find(1, 0), std::nullopt);
  recent.add(1, 2, "http://a/", a);
  recent.add(2, 1, "http://b/", b);
  EXPECT_EQ(recent.find(1, 0), "http://a/");
  EXPECT_EQ(recent.find(1, 1), "http://a/");
  EXPECT_EQ(recent.find(1, 2), std::nullopt);
  EXPECT_EQ(recent.find(2, 0), "http://b/");
  for (ChunkNumber chunk = 3; chunk < 1 + RecentChunks::chunks_max; ++chunk) {
    recent.add(chunk, 1, "http://b/", b);
  }
  EXPECT_EQ(recent.find(1, 0), "http://a/");
  recent.add(1 + RecentChunks::chunks_max, 1, "http://b/", b);  // takes the place of the first
  EXPECT_EQ(recent.find(1, 0), std::nullopt);
  EXPECT_EQ(recent.find(2, 0), "http://b/");
}

// Then the text goes, and the target gets a new one with its next chunk.
TEST(RecentChunks, TheLastChunkOfATargetTakesItsTextAlong) {
  RecentChunks recent;
  RecentChunks::TextPlace a = 0, b = 0;
  recent.add(1, 1, "http://a/", a);
  EXPECT_NE(a, 0u);
  for (ChunkNumber chunk = 2; chunk < 2 + RecentChunks::chunks_max; ++chunk) {
    recent.add(chunk, 1, "http://b/", b);
  }
  EXPECT_EQ(a, 0u);
  RecentChunks::TextPlace c = 0;
  recent.add(70'000, 1, "http://c/", c);  // takes the free place
  recent.add(70'001, 1, "http://a/", a);
  EXPECT_EQ(recent.find(70'000, 0), "http://c/");
  EXPECT_EQ(recent.find(70'001, 0), "http://a/");
}

TEST(RecentChunks, ATargetThatEndedIsStillNamed) {
  RecentChunks recent;
  {
    RecentChunks::TextPlace a = 0;
    recent.add(1, 1, "http://a/", a);
    recent.forget(a);
    EXPECT_EQ(a, 0u);
  }
  RecentChunks::TextPlace again = 0;
  recent.add(2, 1, "http://a/", again);
  EXPECT_EQ(recent.find(1, 0), "http://a/");
  for (ChunkNumber chunk = 3; chunk < 3 + RecentChunks::chunks_max; ++chunk) {
    recent.add(chunk, 1, "http://a/", again);
  }
  EXPECT_EQ(recent.find(1, 0), std::nullopt);
  EXPECT_EQ(recent.find(3, 0), "http://a/");
}

}  // namespace
}  // namespace postbag

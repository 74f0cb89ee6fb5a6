// What the log is told of a target that fails and works.
#include <gtest/gtest.h>

#include "engine/pure/target.h"

namespace postbag {
namespace {

constexpr std::uint32_t interval_s = TargetHealth::announce_interval_s;

TEST(TargetHealthTest, AnnouncesTheChangesAndNotEachAttempt) {
  TargetHealth health;
  EXPECT_FALSE(health.is_failing());
  EXPECT_TRUE(health.failed(10));
  for (std::uint32_t now_s = 11; now_s < 500; ++now_s) EXPECT_FALSE(health.failed(now_s));
  EXPECT_TRUE(health.is_failing());
  std::uint32_t failures = 0, for_s = 0;
  EXPECT_TRUE(health.worked(510, failures, for_s));
  EXPECT_EQ(failures, 490u);
  EXPECT_EQ(for_s, 500u);
  EXPECT_FALSE(health.is_failing());
  EXPECT_TRUE(health.failed(511));
}

TEST(TargetHealthTest, ATargetThatComesAndGoesIsAnnouncedOnceAnInterval) {
  TargetHealth health;
  std::uint32_t failures = 0, for_s = 0;
  int fails = 0, works = 0;
  for (std::uint32_t now_s = 1; now_s <= 10 * interval_s; ++now_s) {
    for (int i = 0; i < 100; ++i) {
      fails += health.failed(now_s);
      works += health.worked(now_s, failures, for_s);
    }
  }
  EXPECT_EQ(fails, 10);
  EXPECT_EQ(works, 10);
}

// Silence would say that it works.
TEST(TargetHealthTest, OneThatStaysDownIsAnnouncedThoughItHasJustBeen) {
  TargetHealth health;
  std::uint32_t failures = 0, for_s = 0;
  ASSERT_TRUE(health.failed(1));
  ASSERT_TRUE(health.worked(2, failures, for_s));
  EXPECT_FALSE(health.failed(3));
  EXPECT_FALSE(health.failed(interval_s));
  EXPECT_TRUE(health.failed(interval_s + 1));
  EXPECT_TRUE(health.worked(interval_s + 5, failures, for_s));
  EXPECT_EQ(failures, 3u);
  EXPECT_EQ(for_s, 4u);
}

}  // namespace
}  // namespace postbag

// Finding the targets of a call's hooks.
#include <gtest/gtest.h>

#include <string>

#include "engine/pure/url_hash.h"
#include "tests/support/core_fixture.h"

namespace postbag::test {
namespace {

class ShardCoreTargetTest : public CoreFixture {};

// Of their eight-byte words the two that differ make up for each other.
TEST_F(ShardCoreTargetTest, ATargetIsNotTakenForAnotherOneWithItsHash) {
  std::string one = "https://example.com/" + std::string(300, 'b');
  one.replace(80, 8, "!bbb04AD");
  one.replace(208, 8, "bbbbKxTz");
  std::string other = one;
  other[80] = ' ';
  other[208] = 'c';
  ASSERT_EQ(url_hash(one), url_hash(other));

  config_.options.defaults = plain(100);
  make_world();
  world_->submit(one, "1");
  EXPECT_EQ(world_->core().targets(), 1u);
  world_->submit(other, "2");
  EXPECT_EQ(world_->core().targets(), 2u);
  // Both in one call, and more of the first than of the second.
  std::vector<WorldHook> hooks;
  for (const std::string& url : {one, one, other, other, one}) {
    hooks.emplace_back().target = url;
    hooks.back().body = "3";
  }
  world_->submit(hooks);
  EXPECT_EQ(world_->core().targets(), 2u);
  std::vector<TargetStatus> all;
  world_->core().collect_targets(all);
  ASSERT_EQ(all.size(), 2u);
  for (const TargetStatus& status : all) {
    EXPECT_EQ(status.waiting, status.url == one ? 4u : 3u) << status.url;
  }
}

}  // namespace
}  // namespace postbag::test

// Room for descriptors is made before there are connections to open.
#include "engine/shell/descriptor_room.h"

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <algorithm>
#include <cstddef>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

#include "postbag/engine.h"
#include "postbag/memory_store.h"
#include "tests/support/engine_support.h"

namespace postbag::test {
namespace {

// As the kernel says it.
std::size_t table_size() {
  std::ifstream status("/proc/self/status");
  for (std::string word; status >> word;) {
    if (word == "FDSize:" && status >> word) return std::stoul(word);
  }
  return 0;
}

std::ptrdiff_t open_descriptors() {
  const std::filesystem::directory_iterator all("/proc/self/fd");
  return std::distance(begin(all), end(all));
}

class DescriptorRoomTest : public ::testing::Test {
 protected:
  DescriptorRoomTest() {
    getrlimit(RLIMIT_NOFILE, &before_);
    rlimit raised = before_;
    raised.rlim_cur = std::min<rlim_t>(before_.rlim_max, 20'000);
    setrlimit(RLIMIT_NOFILE, &raised);
  }
  ~DescriptorRoomTest() override { setrlimit(RLIMIT_NOFILE, &before_); }

  void SetUp() override {
    if (before_.rlim_max < 10'000) GTEST_SKIP() << "too few open files are allowed";
  }

  rlimit before_{};
};

TEST_F(DescriptorRoomTest, TheTableGrowsAtOnceAndStays) {
  const std::ptrdiff_t open = open_descriptors();
  reserve_descriptors(9'000);
  EXPECT_GE(table_size(), 9'000u);
  EXPECT_EQ(open_descriptors(), open);
}

TEST_F(DescriptorRoomTest, TheLimitOfOpenFilesBoundsIt) {
  const std::ptrdiff_t open = open_descriptors();
  const rlimit few{1'000, before_.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &few), 0);
  reserve_descriptors(static_cast<std::size_t>(-1));
  EXPECT_GE(table_size(), 1'000u);
  reserve_descriptors(0);
  EXPECT_EQ(open_descriptors(), open);
}

// Its growing under load was seen to hold a shard up for 20 ms.
TEST_F(DescriptorRoomTest, AnEngineHasRoomForAllItsConnections) {
  Options options = loopback_options();
  options.engine.max_connections = 4'000;
  const Engine engine(options, make_memory_store());
  EXPECT_GE(table_size(), 4'000u);
}

}  // namespace
}  // namespace postbag::test

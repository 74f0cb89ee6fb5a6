#include "engine/shell/http/poller.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <deque>
#include <functional>
#include <memory>
#include <system_error>
#include <vector>

namespace postbag {
namespace {

class PairOfSockets final : public PollerClient {
 public:
  PairOfSockets() {
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends_) != 0) {
      throw std::system_error(errno, std::system_category(), "socketpair");
    }
  }
  ~PairOfSockets() {
    close(ends_[0]);
    close(ends_[1]);
  }
  PairOfSockets(const PairOfSockets&) = delete;
  PairOfSockets& operator=(const PairOfSockets&) = delete;

  void ready(bool readable, bool writable) override {
    reads += readable;
    writes += writable;
    if (on_ready) on_ready();
  }
  int watched() const { return ends_[0]; }
  void make_readable() { ASSERT_EQ(write(ends_[1], "x", 1), 1); }
  void empty() {
    char byte = 0;
    ASSERT_EQ(read(ends_[0], &byte, 1), 1);
  }

  int reads = 0, writes = 0;
  std::function<void()> on_ready;

 private:
  int ends_[2];
};

struct PollerTest : ::testing::Test {
  ~PollerTest() override { poller->stop(); }
  void run_once() { io.run_one_for(std::chrono::seconds(5)); }
  boost::asio::io_context io{1};
  std::shared_ptr<Poller> poller = Poller::make(io);
};

TEST_F(PollerTest, TellsAgainUntilEverythingIsRead) {
  PairOfSockets pair;
  ASSERT_TRUE(poller->add(pair.watched(), pair));
  pair.make_readable();
  run_once();
  run_once();
  EXPECT_EQ(pair.reads, 2);
  pair.empty();
  EXPECT_EQ(io.poll(), 0u);
  EXPECT_EQ(pair.writes, 0);
  poller->remove(pair.watched(), pair);
}

TEST_F(PollerTest, WritingIsToldOnlyWhileItIsWanted) {
  PairOfSockets pair;
  ASSERT_TRUE(poller->add(pair.watched(), pair));
  poller->watch_writing(pair.watched(), pair, true);
  run_once();
  EXPECT_EQ(pair.writes, 1);
  EXPECT_EQ(pair.reads, 0);
  poller->watch_writing(pair.watched(), pair, false);
  io.poll();
  EXPECT_EQ(pair.writes, 1);
  poller->remove(pair.watched(), pair);
}

TEST_F(PollerTest, WhoIsRemovedInARoundIsNotToldInIt) {
  PairOfSockets first;
  PairOfSockets second;
  ASSERT_TRUE(poller->add(first.watched(), first));
  ASSERT_TRUE(poller->add(second.watched(), second));
  first.on_ready = [&] { poller->remove(second.watched(), second); };
  second.on_ready = [&] { poller->remove(first.watched(), first); };
  first.make_readable();
  second.make_readable();
  run_once();
  EXPECT_EQ(first.reads + second.reads, 1);
}

TEST_F(PollerTest, NothingIsToldAfterStop) {
  PairOfSockets first;
  PairOfSockets second;
  ASSERT_TRUE(poller->add(first.watched(), first));
  ASSERT_TRUE(poller->add(second.watched(), second));
  first.on_ready = second.on_ready = [&] { poller->stop(); };
  first.make_readable();
  second.make_readable();
  run_once();
  io.poll();
  EXPECT_EQ(first.reads + second.reads, 1);
}

TEST_F(PollerTest, ARoundHasANumberWhileItLasts) {
  PairOfSockets pair;
  ASSERT_TRUE(poller->add(pair.watched(), pair));
  std::vector<std::uint64_t> rounds;
  pair.on_ready = [&] { rounds.push_back(poller->round()); };
  pair.make_readable();
  EXPECT_EQ(poller->round(), 0u);
  run_once();
  EXPECT_EQ(poller->round(), 0u);
  run_once();
  ASSERT_EQ(rounds.size(), 2u);
  EXPECT_NE(rounds[0], 0u);
  EXPECT_NE(rounds[1], 0u);
  EXPECT_NE(rounds[0], rounds[1]);
  poller->remove(pair.watched(), pair);
}

TEST_F(PollerTest, TheEndOfARoundIsToldOnceAfterItsEvents) {
  PairOfSockets first;
  PairOfSockets second;
  int ends = 0;
  poller->set_round_end([&] {
    ++ends;
    EXPECT_EQ(first.reads + second.reads, 2);
    EXPECT_EQ(poller->round(), 0u);
  });
  for (PairOfSockets* pair : {&first, &second}) {
    ASSERT_TRUE(poller->add(pair->watched(), *pair));
    pair->on_ready = [pair] { pair->empty(); };
    pair->make_readable();
  }
  run_once();
  EXPECT_EQ(ends, 1);
  for (PairOfSockets* pair : {&first, &second}) poller->remove(pair->watched(), *pair);
}

// More sockets than one round hands out.
TEST_F(PollerTest, EverySocketHasItsTurn) {
  std::deque<PairOfSockets> pairs(100);
  for (PairOfSockets& pair : pairs) {
    ASSERT_TRUE(poller->add(pair.watched(), pair));
    pair.on_ready = [&pair] { pair.empty(); };
    pair.make_readable();
  }
  while (io.poll() > 0) {
  }
  for (PairOfSockets& pair : pairs) {
    EXPECT_EQ(pair.reads, 1);
    poller->remove(pair.watched(), pair);
  }
}

}  // namespace
}  // namespace postbag

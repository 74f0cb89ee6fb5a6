// A thread that waits in its io_context is woken without a lock.
#include "engine/shell/loop_waker.h"

#include <gtest/gtest.h>

#include <future>
#include <new>
#include <thread>

namespace postbag {
namespace {

struct LoopWakerTest : ::testing::Test {
  HandlerMemory memory;
  boost::asio::io_context io{1};
  int runs = 0;
  std::function<void()> also;
  LoopWaker waker{io, memory, [this] {
                    ++runs;
                    if (also) also();
                  }};
};

TEST_F(LoopWakerTest, WakesAThreadThatSleeps) {
  std::promise<void> woken;
  also = [&] {
    woken.set_value();
    io.stop();
  };
  std::thread sleeper([this] { io.run(); });
  waker.wake();
  EXPECT_EQ(woken.get_future().wait_for(std::chrono::seconds(30)), std::future_status::ready);
  io.stop();
  sleeper.join();
  EXPECT_EQ(runs, 1);
}

TEST_F(LoopWakerTest, WakesThatComeTogetherAreOne) {
  for (int i = 0; i < 3; ++i) waker.wake();
  io.poll();
  EXPECT_EQ(runs, 1);
  io.poll();
  EXPECT_EQ(runs, 1);
}

TEST_F(LoopWakerTest, AWakeWhileItRunsIsNotLost) {
  also = [this] {
    if (runs == 1) waker.wake();
  };
  waker.wake();
  while (runs < 2 && io.run_one_for(std::chrono::seconds(30)) > 0) continue;
  EXPECT_EQ(runs, 2);
}

TEST_F(LoopWakerTest, StopsAfterAWakeOfItsOwn) {
  waker.stop();
  io.run_for(std::chrono::seconds(30));
  EXPECT_TRUE(io.stopped());  // nothing keeps it
  EXPECT_EQ(runs, 1);
}

TEST_F(LoopWakerTest, AnExceptionLosesNoLaterWake) {
  also = [] { throw std::bad_alloc(); };
  waker.wake();
  EXPECT_THROW(io.poll(), std::bad_alloc);
  also = nullptr;
  waker.wake();
  io.poll();
  EXPECT_EQ(runs, 2);
}

}  // namespace
}  // namespace postbag

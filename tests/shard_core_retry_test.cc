// retry-failed-hooks: rows of the store in bags of their own.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/core_fixture.h"

namespace postbag::test {
namespace {

using std::chrono::hours;
using std::chrono::seconds;
using testing::ElementsAre;
using testing::IsEmpty;

class ShardCoreRetryTest : public CoreFixture {
 protected:
  void make(const TargetPolicy& policy) {
    config_.durable = true;
    config_.options.defaults = policy;
    make_world();
  }
  void give(const std::string& body) { world_->submit(url_a, body); }
  // The hook 1, which its target refuses.
  void make_row(std::uint32_t retries) {
    TargetPolicy policy = plain(1);
    policy.retry.retries = retries;
    make(policy);
    always(answer(500));
    give("1");
    world_->run_idle();
  }
  // Rows with the bodies 0 and on, one attempt each; then `policy` holds.
  void make_rows(int count, const TargetPolicy& policy) {
    TargetPolicy once = plain(1);
    once.retry.retries = 0;
    make(once);
    always(answer(500));
    for (int row = 0; row < count; ++row) give(std::to_string(row));
    world_->run_idle();
    ASSERT_EQ(world_->durable().failed.size(), static_cast<std::size_t>(count));
    config_.options.defaults = policy;
    world_->reload(config_.options);
    world_->requests().clear();
  }
  std::uint32_t attempts_of_row(std::size_t place) const {
    return std::next(world_->durable().failed.begin(), static_cast<std::ptrdiff_t>(place))
        ->second.attempts;
  }
};

TEST_F(ShardCoreRetryTest, RowsAreBatchedByKeyAndBothOutcomesReachTheStore) {
  TargetPolicy policy = plain(2);
  policy.retry.retries = 1;
  make(policy);
  always(answer(500));
  for (int hook = 0; hook < 3; ++hook) give(std::to_string(hook));
  world_->run_idle();
  ASSERT_EQ(world_->durable().failed.size(), 3u);
  const std::string id = world_->durable().failed.begin()->second.id;
  world_->requests().clear();
  world_->network = [](const WorldRequest& request) {
    return request.body == "[0,1]" ? answer(200) : answer(503);
  };
  const auto run = world_->retry_failed({}, 2);
  give("9");  // an ordinary hook for the same target shares no batch with rows
  world_->run_idle();
  EXPECT_EQ(run->delivered, 2u);
  EXPECT_EQ(run->failed, 1u);
  ASSERT_EQ(world_->durable().failed.size(), 2u);  // 2 again, and 9
  const FailedHook& again = world_->durable().failed.begin()->second;
  EXPECT_EQ(again.body, "2");
  EXPECT_EQ(again.attempts, 2u + 3u);  // --retries 2
  EXPECT_EQ(again.status, 503);
  EXPECT_THAT(world_->durable().chunks, IsEmpty());
  EXPECT_EQ(world_->hooks_held(), 0u);
  EXPECT_NE(id, "");
}

TEST_F(ShardCoreRetryTest, ARunThatTheProcessDidNotSurviveLeavesItsRows) {
  make_row(0);
  always(answer(200, seconds(60)));
  world_->retry_failed();
  world_->run_for(seconds(1));
  world_->crash();
  EXPECT_THAT(failed_bodies(), ElementsAre("1"));
  always(answer(200));
  const auto run = world_->retry_failed();
  world_->run_idle();
  EXPECT_EQ(run->delivered, 1u);
  EXPECT_THAT(failed_bodies(), IsEmpty());
}

TEST_F(ShardCoreRetryTest, AbandonGivesRowsBack) {
  make_row(2);
  const auto run = world_->retry_failed();
  world_->run_for(seconds(1));
  world_->drain();
  world_->run_for(seconds(10));
  world_->abandon();
  EXPECT_EQ(run->failed, 1u);
  EXPECT_EQ(run->untouched, 0u);
  EXPECT_TRUE(run->claimed.empty());
  EXPECT_EQ(world_->durable().failed.begin()->second.attempts, 3u);
}

// --- A run that is stopped

TEST_F(ShardCoreRetryTest, AStoppedRunEndsWithWhatIsOnTheWire) {
  TargetPolicy policy = plain(2);
  policy.retry.retries = 0;
  make_rows(7, policy);
  always(answer(200, seconds(60)));
  const auto run = world_->retry_failed();  // [0,1] on the wire, [2,3] [4,5] queued, [6 open
  world_->run_for(seconds(1));
  world_->stop_retry(run);
  EXPECT_EQ(run->claimed.size(), 2u);
  EXPECT_EQ(run->untouched, 5u);
  world_->run_idle();
  EXPECT_THAT(bodies(), ElementsAre("[0,1]"));
  EXPECT_EQ(run->delivered, 2u);
  EXPECT_EQ(run->failed, 0u);
  EXPECT_EQ(run->body_bytes_left, 0u);
  EXPECT_THAT(failed_bodies(), ElementsAre("2", "3", "4", "5", "6"));
  for (std::size_t row = 0; row < 5; ++row) EXPECT_EQ(attempts_of_row(row), 1u);
  always(answer(200));
  const auto next = world_->retry_failed();
  world_->run_idle();
  EXPECT_EQ(next->delivered, 5u);
}

TEST_F(ShardCoreRetryTest, AStoppedRunWaitsForNoRetry) {
  TargetPolicy policy = plain(1);
  policy.retry.retries = 5;
  policy.retry.retry_interval = hours(1);
  policy.retry.max_retrying = 2;
  make_rows(5, policy);
  const auto run = world_->retry_failed();
  world_->run_for(seconds(1));
  EXPECT_THAT(bodies(), ElementsAre("[0]", "[1]"));
  always(answer(200));
  give("9");  // has to wait, as two batches of the target wait for their retry
  world_->run_for(seconds(11));
  EXPECT_EQ(world_->requests().size(), 2u);
  world_->stop_retry(run);
  EXPECT_TRUE(run->claimed.empty());
  EXPECT_EQ(run->failed, 2u);
  EXPECT_EQ(run->untouched, 3u);
  EXPECT_EQ(attempts_of_row(0), 1u) << "as it was";
  world_->run_for(seconds(1));
  EXPECT_THAT(bodies(), ElementsAre("[0]", "[1]", "[9]"));
  EXPECT_EQ(world_->core().batches_retrying(), 0u);
  EXPECT_EQ(world_->core().batches_held(), 0u);
}

TEST_F(ShardCoreRetryTest, AStoppedRunTakesADueRetryBack) {
  TargetPolicy policy = plain(1);
  policy.retry.retries = 5;
  make_rows(3, policy);
  int requests = 0;
  world_->network = [&](const WorldRequest&) {
    return ++requests <= 2 ? answer(500) : answer(200, hours(1));
  };
  const auto run = world_->retry_failed();
  world_->run_for(seconds(10));  // the third is on the wire, the others are due behind it
  ASSERT_EQ(world_->requests().size(), 3u);
  world_->stop_retry(run);
  EXPECT_EQ(run->claimed.size(), 1u);
  world_->run_idle();
  EXPECT_EQ(world_->requests().size(), 3u);
  EXPECT_EQ(run->delivered, 1u);
  EXPECT_EQ(run->failed, 2u);
}

TEST_F(ShardCoreRetryTest, WhatFailsOnTheWireOfAStoppedRunGetsNoRetry) {
  TargetPolicy policy = plain(1);
  policy.retry.retries = 5;
  policy.delivery.in_flight = 2;
  make_rows(2, policy);
  world_->network = [](const WorldRequest& request) {
    Reply reply = request.body == "[0]" ? answer(503, seconds(60))
                                        : broken(Reason::local_resource, seconds(60));
    reply.result.counted = request.body == "[0]";
    return reply;
  };
  const auto run = world_->retry_failed();
  world_->run_for(seconds(1));
  world_->stop_retry(run);
  EXPECT_EQ(run->claimed.size(), 2u);
  world_->run_idle();
  EXPECT_EQ(world_->requests().size(), 2u);
  EXPECT_EQ(run->failed, 1u);
  EXPECT_EQ(attempts_of_row(0), 2u);
  EXPECT_EQ(world_->durable().failed.begin()->second.status, 503);
  EXPECT_EQ(run->untouched, 1u) << "an attempt that does not count is none";
  EXPECT_EQ(attempts_of_row(1), 1u);
}

TEST_F(ShardCoreRetryTest, AStopLeavesOtherRunsAlone) {
  make_rows(4, plain(1));
  always(answer(200, seconds(60)));
  const auto first = world_->retry_failed({}, {}, 2);
  const auto second = world_->retry_failed();
  world_->run_for(seconds(1));
  world_->stop_retry(first);
  world_->run_idle();
  EXPECT_EQ(first->delivered, 1u);
  EXPECT_EQ(first->untouched, 1u);
  EXPECT_EQ(second->delivered, 2u);
  EXPECT_THAT(failed_bodies(), ElementsAre("1"));
}

// They were reported as failed again.
TEST_F(ShardCoreRetryTest, AbandonGivesUnsentRowsBackUntouched) {
  TargetPolicy policy = plain(1);
  policy.retry.retries = 0;
  make_rows(3, policy);
  always(answer(200, seconds(60)));
  const auto run = world_->retry_failed();
  world_->run_for(seconds(1));
  world_->core().stop_sending(world_->now());
  world_->run_idle();
  world_->abandon();
  EXPECT_EQ(run->delivered, 1u);
  EXPECT_EQ(run->failed, 0u);
  EXPECT_EQ(run->untouched, 2u);
}

}  // namespace
}  // namespace postbag::test

#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "tests/support/core_world.h"

namespace postbag::test {

inline const std::string url_a = "https://a.example/hooks";
inline const std::string url_b = "https://b.example/hooks";

inline TargetPolicy plain(std::uint32_t size, Duration time = std::chrono::seconds(10)) {
  TargetPolicy policy;
  policy.batch.size = size;
  policy.batch.time = time;
  policy.retry.retries = 3;
  policy.retry.retry_interval = std::chrono::seconds(5);
  return policy;
}

// Tells how often which outcome came.
class CountedOutcomes : public OutcomeListener {
 public:
  bool hook_done(std::size_t, const HookOutcome& outcome) override {
    (outcome.delivered ? delivered : failed) += 1;
    reason = outcome.reason;
    return false;
  }
  int delivered = 0, failed = 0;
  Reason reason = Reason::none;
};

// One world, made by the test as it wants it; what the world finds wrong is a failure.
class CoreFixture : public ::testing::Test {
 protected:
  void make_world() {
    world_ = std::make_unique<CoreWorld>(config_);
    start_ = world_->now().steady;
  }
  void TearDown() override {
    if (world_ != nullptr) {
      EXPECT_THAT(world_->violations, ::testing::IsEmpty());
    }
  }

  std::vector<std::string> bodies() const {
    std::vector<std::string> all;
    for (const WorldRequest& request : world_->requests()) all.push_back(request.body);
    return all;
  }
  std::vector<std::string> failed_bodies() const {
    std::vector<std::string> all;
    for (const auto& [key, row] : world_->durable().failed) all.push_back(row.body);
    return all;
  }
  // Of a request, since the world was made.
  Duration at(std::size_t request) const { return world_->requests()[request].started - start_; }
  void always(const Reply& reply) {
    world_->network = [reply](const WorldRequest&) { return reply; };
  }

  WorldConfig config_;
  std::unique_ptr<CoreWorld> world_;
  TimePoint start_{};
};

// A world whose targets do not answer at first, so that all but the first batch wait.
class BacklogFixture : public CoreFixture {
 protected:
  void make_waiting(const TargetPolicy& policy) {
    config_.options.defaults = policy;
    make_world();
    hold();
  }
  void hold() {
    world_->network = [](const WorldRequest&) { return answer(200, std::chrono::seconds(100)); };
  }
  void let_go() {
    world_->network = [](const WorldRequest&) { return answer(200); };
  }
  // One call a hook; their bodies are the numbers.
  void give(int from, int to, const std::string& url = url_a,
            const std::shared_ptr<OutcomeListener>& listener = {}, const std::string& pad = "") {
    for (int number = from; number < to; ++number) {
      WorldHook hook;
      hook.target = url;
      hook.body = std::to_string(number) + pad;
      calls_.push_back(world_->submit({hook}, listener));
    }
    world_->run_for(std::chrono::milliseconds(20));
  }
  static std::vector<std::string> singles(int from, int to) {
    std::vector<std::string> all;
    for (int number = from; number < to; ++number) {
      all.push_back("[" + std::to_string(number) + "]");
    }
    return all;
  }
  void expect_all_gone() const {
    EXPECT_EQ(world_->hooks_held(), 0u);
    EXPECT_EQ(world_->core().batches_held(), 0u);
    EXPECT_THAT(world_->durable().chunks, ::testing::IsEmpty());
    EXPECT_LE(world_->memory_bytes(), world_->core().targets() * (sizeof(TargetState) + 200));
  }
  // 3,499 batches of one hook wait for url_a, and ten for url_b: the first ones become rows a part
  // at a time, and a barrier behind the cancel waits for all of them.
  void expect_cancel_in_parts(const std::function<void(ShardCore&)>& look);

  std::vector<std::shared_ptr<WorldCall>> calls_;
};

inline void BacklogFixture::expect_cancel_in_parts(const std::function<void(ShardCore&)>& look) {
  ShardCore& core = world_->core();
  EXPECT_EQ(core.cancel("https://a.*", world_->now()), 3499u);
  look(core);
  bool is_over = false;
  core.add_barrier([&] {
    is_over = true;
    EXPECT_EQ(world_->durable().failed.size(), 3499u);
  });
  world_->touch();
  world_->run_for(std::chrono::seconds(10));
  EXPECT_TRUE(is_over);
  for (const auto& [key, row] : world_->durable().failed) {
    ASSERT_EQ(row.reason, Reason::cancelled);
    ASSERT_EQ(row.target, url_a);
  }
  let_go();
  world_->run_idle();
  EXPECT_EQ(world_->requests().size(), 11u);
  expect_all_gone();
}

}  // namespace postbag::test

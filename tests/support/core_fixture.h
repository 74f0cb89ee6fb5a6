#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
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

}  // namespace postbag::test

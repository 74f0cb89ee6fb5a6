// The oracle of the kill runs finds each thing that it is there to find.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/crash/kill_oracle.h"

namespace postbag::test {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class KillOracleTest : public ::testing::Test {
 protected:
  KillOracleTest() { oracle_.run_begins(); }

  static OracleLimits limits() {
    OracleLimits limits;
    limits.producers = 2;
    limits.batch_size = 10;
    limits.attempts = 4;
    limits.repeats_a_kill = 2;
    return limits;
  }
  void offer(std::uint32_t count, bool with_ids, CallOutcome outcome = CallOutcome::accepted) {
    oracle_.offering({0, 0}, count, with_ids);
    oracle_.outcome({0, 0}, count, outcome);
  }
  void arrive(const std::string& id, const std::vector<std::uint32_t>& numbers,
              std::uint32_t attempt = 1, bool ok = true) {
    std::string body = "[";
    for (const std::uint32_t number : numbers) {
      body += (body.size() > 1 ? "," : "") + names_.payload({0, number});
    }
    arrive_body(id, body + "]", static_cast<std::uint32_t>(numbers.size()), attempt, ok);
  }
  void arrive_body(const std::string& id, const std::string& body, std::uint32_t size,
                   std::uint32_t attempt = 1, bool ok = true) {
    ArrivedBatch batch;
    batch.batch_id = id;
    batch.body = body;
    batch.size = size;
    batch.attempt = attempt;
    batch.answered_ok = ok;
    oracle_.arrived(batch);
  }
  void restart(bool killed) {
    oracle_.run_ended(killed);
    oracle_.run_begins();
  }
  FailedHook row(std::uint32_t number) const {
    FailedHook hook;
    hook.id = HookNames::id({0, number});
    hook.body = names_.payload({0, number});
    hook.attempts = 4;
    return hook;
  }

  HookNames names_{5, 1};  // one target
  KillOracle oracle_{names_, limits()};
};

TEST_F(KillOracleTest, AllIsWell) {
  offer(4, true);
  arrive("a", {0, 1}, 1, false);
  arrive("b", {2});
  arrive("a", {0, 1}, 2);
  restart(true);
  arrive("b", {2});  // its settling was lost
  oracle_.failed_row(row(3), 0);
  EXPECT_THAT(oracle_.verdict(), IsEmpty());
  EXPECT_EQ(oracle_.counts().accepted, 4u);
  EXPECT_EQ(oracle_.counts().delivered, 3u);
  EXPECT_EQ(oracle_.counts().repeated_batches, 1u);
}

TEST_F(KillOracleTest, FindsALostHook) {
  offer(2, true);
  arrive("a", {0});
  EXPECT_THAT(oracle_.verdict(), ElementsAre(HasSubstr("p0-1: accepted, LOST")));
}

TEST_F(KillOracleTest, OnlyA2xxCountsAsDelivered) {
  offer(1, true);
  arrive("a", {0}, 1, false);
  EXPECT_THAT(oracle_.verdict(), ElementsAre(HasSubstr("never delivered with success")));
}

TEST_F(KillOracleTest, FindsWhatNobodyOffered) {
  offer(1, true, CallOutcome::refused);
  arrive("a", {0});
  EXPECT_THAT(oracle_.verdict(), ElementsAre(HasSubstr("nobody offered")));
}

TEST_F(KillOracleTest, FindsAChangedByte) {
  offer(1, true, CallOutcome::lost);
  std::string body = "[" + names_.payload({0, 0}) + "]";
  body.erase(body.find(' '), 1);
  arrive_body("a", body, 1);
  EXPECT_THAT(oracle_.verdict(), ElementsAre(HasSubstr("nobody offered")));
}

TEST_F(KillOracleTest, FindsAHookInTwoBatches) {
  offer(1, true);
  oracle_.offering({0, 0}, 1, true);  // the producer repeats the call with its id
  oracle_.outcome({0, 0}, 1, CallOutcome::accepted);
  arrive("a", {0});
  restart(true);
  arrive("b", {0});
  EXPECT_THAT(oracle_.verdict(), ElementsAre(HasSubstr("2 places")));
}

TEST_F(KillOracleTest, ACallRepeatedWithoutIdsMayComeTwice) {
  offer(1, false, CallOutcome::lost);
  restart(true);
  offer(1, false);
  arrive("a", {0});
  arrive("b", {0});
  EXPECT_THAT(oracle_.verdict(), IsEmpty());
}

TEST_F(KillOracleTest, FindsARepeatWithoutAKill) {
  offer(1, true);
  arrive("a", {0});
  restart(false);
  arrive("a", {0}, 2);
  EXPECT_THAT(oracle_.verdict(), ElementsAre(HasSubstr("came again after its 2xx")));
}

TEST_F(KillOracleTest, FindsTooManyRepeats) {
  offer(3, true);
  for (const std::uint32_t i : {0u, 1u, 2u}) arrive(std::to_string(i), {i});
  restart(true);
  for (const std::uint32_t i : {0u, 1u, 2u}) arrive(std::to_string(i), {i});
  EXPECT_THAT(oracle_.verdict(), ElementsAre(HasSubstr("too many batches")));
}

TEST_F(KillOracleTest, FindsOtherMembersUnderTheSameId) {
  offer(2, true);
  arrive("a", {0}, 1, false);
  arrive("a", {0, 1}, 2);
  oracle_.failed_row(row(1), 0);
  EXPECT_THAT(oracle_.verdict(), ElementsAre(HasSubstr("another target or body")));
}

TEST_F(KillOracleTest, FindsAnAttemptTwice) {
  offer(1, true);
  arrive("a", {0}, 2, false);
  arrive("a", {0}, 2);
  EXPECT_THAT(oracle_.verdict(), ElementsAre(HasSubstr("attempt 2 after attempt 2")));
}

TEST_F(KillOracleTest, FindsAttemptsThatAreForgotten) {
  constexpr std::uint32_t kills = 5;
  offer(kills, true);
  for (std::uint32_t i = 0; i < kills; ++i) {
    arrive(std::to_string(i), {i}, 3, false);
    restart(true);
    arrive(std::to_string(i), {i}, 1);
  }
  EXPECT_THAT(oracle_.verdict(), ElementsAre(HasSubstr("5 attempts were forgotten by 5 of 5")));
}

// On a slow disk one kill did so to more batches than all kills were allowed attempts.
TEST_F(KillOracleTest, ASlowCommitMayForgetTheAttemptsOfManyBatches) {
  constexpr std::uint32_t batches = 20;
  offer(batches, true);
  for (std::uint32_t i = 0; i < batches; ++i) arrive(std::to_string(i), {i}, 3, false);
  restart(true);
  for (std::uint32_t i = 0; i < batches; ++i) arrive(std::to_string(i), {i}, 1);
  EXPECT_THAT(oracle_.verdict(), IsEmpty());
}

TEST_F(KillOracleTest, FindsTooManyAttempts) {
  offer(1, true);
  arrive("a", {0}, 5);
  EXPECT_THAT(oracle_.verdict(), ElementsAre(HasSubstr("attempt 5")));
}

TEST_F(KillOracleTest, FindsSwappedOrder) {
  offer(2, true);
  arrive("b", {1});
  arrive("a", {0});
  EXPECT_THAT(oracle_.verdict(), ElementsAre(HasSubstr("p0-0 came after number 1")));
}

TEST_F(KillOracleTest, FindsAFailedRowThatWasDelivered) {
  offer(1, true);
  arrive("a", {0});
  oracle_.failed_row(row(0), 0);
  EXPECT_THAT(oracle_.verdict(), ElementsAre(HasSubstr("was delivered, too")));
}

}  // namespace
}  // namespace postbag::test

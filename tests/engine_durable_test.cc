// The public Engine over SQLite: what was accepted is there when the next engine opens the file.
#include <SQLiteCpp/Database.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <set>

#include "postbag/sqlite_store.h"
#include "tests/support/engine_support.h"
#include "tests/support/failing_store.h"
#include "tests/support/temp_directory.h"

namespace postbag::test {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::IsEmpty;
using testing::StartsWith;

class EngineDurable : public testing::TestWithParam<Durability> {
 protected:
  EngineDurable() {
    options.store.durability = GetParam();
    options.store.path = directory.file("postbag.db");
    start();
  }
  void start() {
    SqliteStoreOptions store;
    store.path = options.store.path;
    engine = std::make_unique<Engine>(options, open_sqlite_store(store), logger);
  }
  void restart() {
    engine.reset();
    start();
  }
  // Again, over a store that does as it is told.
  std::shared_ptr<StoreControl> restart_with_control() {
    const auto control = std::make_shared<StoreControl>();
    SqliteStoreOptions store;
    store.path = options.store.path;
    engine.reset();
    engine = std::make_unique<Engine>(
        options, std::make_unique<FailingStore>(open_sqlite_store(store), control));
    return control;
  }
  // Of one that was not drained.
  std::uint64_t restart_and_recover() {
    restart();
    return engine->recover();
  }

  TempDirectory directory;
  Options options = loopback_options();
  Logger logger;
  LoggedLines lines{logger, LogLevel::warning};
  std::unique_ptr<Engine> engine;
};

TEST_P(EngineDurable, DeliversAndForgets) {
  FaultReceiver receiver;
  SubmitOptions want;
  want.want_ids = true;
  const SubmitResult result = engine->submit(hooks_to(receiver.url(), {"1", "2"}), want);
  EXPECT_EQ(result.accepted, 2u);
  EXPECT_EQ(engine->find_hook(to_string(result.ids.at(1)))->state, "waiting");
  engine->flush();
  EXPECT_TRUE(engine->wait_idle(patience));
  EXPECT_EQ(engine->find_hook(to_string(result.ids.at(1)))->state, "delivered");
  const DrainReport report = engine->drain(patience);
  EXPECT_EQ(report.left + report.stored_failed, 0u);
  EXPECT_EQ(restart_and_recover(), 0u);
  EXPECT_THAT(bodies(receiver.requests()), ElementsAre("[1,2]"));
}

// A bag that was filled by several commits is one batch afterwards too: same members, same order.
TEST_P(EngineDurable, WhatWaitsInABagComesBackAsOneBatch) {
  FaultReceiver receiver;
  SubmitOptions want;
  want.want_ids = true;
  std::vector<std::string> ids;
  for (const char* payload : {"1", " \"two\"", "{\"n\":3}"}) {
    ids.push_back(
        to_string(engine->submit(hooks_to(receiver.url("/a"), {payload}), want).ids.at(0)));
  }
  for (const std::string& id : ids) EXPECT_EQ(engine->find_hook(id)->state, "waiting");
  restart();
  EXPECT_EQ(receiver.request_count(), 0u);
  std::vector<std::uint64_t> found;
  EXPECT_EQ(engine->recover([&](std::uint64_t hooks) { found.push_back(hooks); }), 3u);
  EXPECT_EQ(found.back(), 3u);
  EXPECT_TRUE(engine->wait_idle(patience));
  EXPECT_THAT(bodies(receiver.requests()), ElementsAre("[1, \"two\",{\"n\":3}]"));
  EXPECT_EQ(receiver.requests().at(0).header("Postbag-Batch-Size"), "3");
  for (const std::string& id : ids) EXPECT_EQ(engine->find_hook(id)->state, "delivered");
}

TEST_P(EngineDurable, FindsNothingUnlessAsked) {
  FaultReceiver receiver;
  EXPECT_TRUE(engine->submit(receiver.url("/old"), "1").ok());
  restart();
  EXPECT_TRUE(engine->submit(receiver.url("/new"), "2").ok());
  engine->flush();
  EXPECT_TRUE(engine->wait_idle(patience));
  EXPECT_EQ(engine->recover(), 1u);
  EXPECT_TRUE(engine->wait_idle(patience));
  EXPECT_THAT(bodies(receiver.requests()), ElementsAre("[2]", "[1]"));
}

// An embedder who did not know of recover() had a graveyard, and not one line said so.
TEST_P(EngineDurable, SaysThatStoredHooksWaitForTheRecovery) {
  EXPECT_TRUE(engine->submit(hooks_to(refusing_url(), {"1", "2"})).ok());
  EXPECT_THAT(lines.all(), IsEmpty());
  restart();
  const std::string line =
      "hooks of an earlier run wait in the store for recover(), or `postbag serve`: 2";
  EXPECT_THAT(lines.all(), ElementsAre(line));
  engine.reset();
  // The daemon, which recovers, opens it like this.
  engine = std::make_unique<Engine>(
      options, open_sqlite_store({.path = options.store.path, .count_pending = false}), logger);
  EXPECT_THAT(lines.all(), ElementsAre(line));
}

// It was the limit in the engine's options, which need not be the store's.
TEST_P(EngineDurable, ShowsTheLimitOfItsStore) {
  engine.reset();
  engine = std::make_unique<Engine>(
      options, open_sqlite_store({.path = options.store.path, .max_bytes = 1 << 20}), logger);
  EXPECT_EQ(engine->status().store_limit, 1u << 20);
}

// The call that a producer repeats when the engine died under it waited for its whole timeout.
TEST_P(EngineDurable, ARepeatOfWhatAnEarlierRunDeliveredHearsThatItIsForgotten) {
  FaultReceiver receiver;
  const std::string url = receiver.url();
  EXPECT_EQ(engine->submit(hook_with_id(url, "1", "sent")).accepted, 1u);
  engine->flush();
  EXPECT_TRUE(engine->wait_idle(patience));
  EXPECT_EQ(engine->submit(hook_with_id(url, "2", "waits")).accepted, 1u);
  restart();
  SubmitOptions listening;
  const auto outcomes = std::make_shared<Outcomes>(true);
  listening.listener = outcomes;
  // What waits for the recovery still has its outcome before it.
  EXPECT_EQ(engine->submit(hook_with_id(url, "2", "waits"), listening).duplicates, 1u);
  EXPECT_EQ(engine->submit(hook_with_id(url, "1", "sent"), listening).duplicates, 1u);
  EXPECT_TRUE(outcomes->wait_forgotten(1));
  engine->flush();  // behind them on the shard, and the listing behind them in the store
  EXPECT_THAT(failed_rows(*engine), IsEmpty());
  EXPECT_EQ(outcomes->forgotten(), 1u);
  EXPECT_EQ(outcomes->calls(), 0u);
}

// A recovery that also found what its own life had stored sent it twice.
TEST_P(EngineDurable, HooksAcceptedBeforeTheRecoveryAreNotFoundByIt) {
  FaultReceiver receiver;
  EXPECT_TRUE(engine->submit(receiver.url(), "1").ok());
  restart();
  EXPECT_TRUE(engine->submit(receiver.url(), "2").ok());
  EXPECT_EQ(engine->recover(), 1u);
  engine->flush();
  EXPECT_TRUE(engine->wait_idle(patience));
  EXPECT_THAT(bodies(receiver.requests()), ElementsAre("[1]", "[2]"));
  EXPECT_EQ(engine->status().delivered, 2u);
}

TEST_P(EngineDurable, WhatComesDuringTheRecoveryComesBehindIt) {
  FaultReceiver receiver;
  options.defaults.batch.size = 1;
  SubmitOptions want;
  want.want_ids = true;
  restart();
  receiver.push(FaultReply::status(500));
  options.defaults.retry.retries = 1;
  options.defaults.retry.retry_interval = hours(1);
  options.defaults.retry.max_retrying = 1;
  restart();
  const SubmitResult old = engine->submit(hooks_to(receiver.url(), {"1", "2", "3"}), want);
  ASSERT_TRUE(eventually([&] { return engine->status().retrying == 1; }));
  options.defaults.retry.retry_interval = milliseconds(1);
  restart();
  std::vector<std::future<SubmitResult>> calls;
  std::future<std::optional<HookStatus>> status;
  const auto held = [&] {
    EXPECT_TRUE(engine->status().recovering);
    calls.push_back(submit_async(*engine, hooks_to(receiver.url(), {"4"})));
    calls.push_back(submit_async(*engine, hooks_to(receiver.url(), {"5"})));
    status =
        std::async(std::launch::async, [&] { return engine->find_hook(to_string(old.ids.at(2))); });
  };
  const auto progress = [&](std::uint64_t hooks) {
    EXPECT_EQ(hooks, 3u);
    EXPECT_EQ(receiver.request_count(), 1u);
    EXPECT_EQ(calls[0].wait_for(Duration::zero()), std::future_status::timeout);
  };
  EXPECT_EQ(engine->recover(progress, held), 3u);
  EXPECT_FALSE(engine->status().recovering);
  for (auto& call : calls) EXPECT_TRUE(call.get().ok());
  EXPECT_TRUE(status.get().has_value());
  EXPECT_TRUE(engine->wait_idle(patience));
  EXPECT_THAT(bodies(receiver.requests()), ElementsAre("[1]", "[1]", "[2]", "[3]", "[4]", "[5]"));
}

TEST_P(EngineDurable, ADrainKeepsTheScheduleAndTheBatchGoesOn) {
  FaultReceiver receiver;
  for (int i = 0; i < 2; ++i) receiver.push(FaultReply::status(503));
  options.defaults.retry.retries = 2;
  options.defaults.retry.retry_interval = hours(1);
  restart();
  const HeaderView headers[] = {{"X-A", "1"}};
  const std::string url = receiver.url("/a");
  HookView hook;
  hook.target = url;
  hook.body = "{\"a\" : 1}";
  hook.group = "g";
  hook.headers = headers;
  HookList hooks;
  hooks.add(hook);
  hooks.add(hook);
  EXPECT_TRUE(engine->submit(std::move(hooks)).ok());
  const DrainReport report = engine->drain(patience);
  EXPECT_FALSE(report.timed_out);
  EXPECT_EQ(report.left, 2u);
  EXPECT_EQ(report.stored_failed, 0u);
  EXPECT_THAT(failed_rows(*engine), IsEmpty());
  // The wait that is left is not longer than the policy of today allows, whatever it was.
  options.defaults.retry.retry_interval = milliseconds(1);
  EXPECT_EQ(restart_and_recover(), 2u);
  EXPECT_TRUE(engine->wait_idle(patience));
  const auto requests = receiver.requests();
  ASSERT_EQ(requests.size(), 3u);
  for (std::size_t at = 0; at < requests.size(); ++at) {
    EXPECT_EQ(requests[at].body, "[{\"a\" : 1},{\"a\" : 1}]");
    EXPECT_EQ(requests[at].header("X-A"), "1");
    EXPECT_EQ(requests[at].header("Postbag-Attempt"), std::to_string(at + 1));
    EXPECT_EQ(requests[at].header("Postbag-Batch-Id"), requests[0].header("Postbag-Batch-Id"));
  }
  EXPECT_EQ(engine->drain(patience).left, 0u);
  EXPECT_EQ(restart_and_recover(), 0u);
}

TEST_P(EngineDurable, AttemptsOfBothLivesAreCounted) {
  FaultReceiver receiver(always(500));
  options.defaults.retry.retries = 1;
  options.defaults.retry.retry_interval = hours(1);
  restart();
  EXPECT_TRUE(engine->submit(receiver.url(), "1").ok());
  EXPECT_EQ(engine->drain(patience).left, 1u);
  options.defaults.retry.retry_interval = milliseconds(1);
  EXPECT_EQ(restart_and_recover(), 1u);
  EXPECT_TRUE(engine->wait_idle(patience));
  EXPECT_EQ(receiver.request_count(), 2u);
  restart();
  const auto rows = failed_rows(*engine);
  ASSERT_EQ(rows.size(), 1u);
  EXPECT_EQ(rows[0].attempts, 2u);
  EXPECT_EQ(rows[0].body, "1");
  EXPECT_EQ(engine->recover(), 0u);
}

// The attempt that was broken off is made again, with the same number.
TEST_P(EngineDurable, WithoutADrainTheHooksStay) {
  FaultReceiver receiver(hanging());
  options.defaults.batch.size = 2;
  restart();
  EXPECT_TRUE(engine->submit(hooks_to(receiver.url(), {"1", "2", "3"})).ok());
  ASSERT_TRUE(receiver.wait_for_requests(1));
  restart();
  receiver.release();
  EXPECT_THAT(failed_rows(*engine), IsEmpty());
  EXPECT_EQ(engine->recover(), 3u);
  EXPECT_TRUE(engine->wait_idle(patience));
  const auto requests = receiver.requests();
  EXPECT_THAT(bodies(requests), ElementsAre("[1,2]", "[1,2]", "[3]"));
  EXPECT_EQ(requests.at(0).header("Postbag-Batch-Id"), requests.at(1).header("Postbag-Batch-Id"));
  EXPECT_EQ(requests.at(1).header("Postbag-Attempt"), "1");
}

// Calls of the last moment: each is accepted and there, or refused and not.
TEST_P(EngineDurable, EndsWithCallsUnderWay) {
  FaultReceiver receiver;
  std::vector<std::future<SubmitResult>> answers;
  for (int i = 0; i < 50; ++i) {
    answers.push_back(submit_async(*engine, hooks_to(receiver.url(), {std::to_string(i)})));
  }
  restart();
  std::size_t accepted = 0;
  for (auto& answer : answers) {
    const SubmitResult result = answer.get();
    accepted += result.accepted;
    EXPECT_TRUE(result.ok() || result.error == Errc::stopping) << result.message;
  }
  EXPECT_EQ(engine->recover(), accepted);
  EXPECT_TRUE(engine->wait_idle(patience));
  EXPECT_EQ(hooks_by_path(receiver)["/"].size(), accepted);
}

TEST_P(EngineDurable, GivenIdsAreKnownAfterARestart) {
  FaultReceiver receiver;
  const std::string url = receiver.url();
  EXPECT_EQ(engine->submit(hook_with_id(url, "1", "one")).accepted, 1u);
  EXPECT_EQ(engine->submit(hook_with_id(url, "2", "two")).accepted, 1u);
  engine->flush();
  EXPECT_TRUE(engine->wait_idle(patience));
  restart();
  EXPECT_EQ(engine->submit(hook_with_id(url, "1", "one")).duplicates, 1u);
  EXPECT_EQ(engine->submit(hook_with_id(url, "other", "two")).error, Errc::not_json);
  EXPECT_EQ(engine->submit(hook_with_id(url, "3", "two")).error, Errc::id_conflict);
  engine->flush();
  EXPECT_TRUE(engine->wait_idle(patience));
  EXPECT_THAT(bodies(receiver.requests()), ElementsAre("[1,2]"));
}

TEST_P(EngineDurable, AnIdReportedAsFailedIsFreeAfterARestartToo) {
  std::atomic<bool> fails = true;
  FaultReceiver receiver(replying([&](const FaultRequest& request) {
    return FaultReply::status(fails && request.path == "/" ? 500 : 200);
  }));
  SubmitOptions listening;
  const auto outcomes = std::make_shared<Outcomes>(true);
  listening.listener = outcomes;
  EXPECT_TRUE(engine->submit(hook_with_id(receiver.url(), "1", "one"), listening).ok());
  EXPECT_TRUE(engine->submit(hook_with_id(receiver.url("/b"), "2", "two")).ok());
  engine->flush();
  ASSERT_TRUE(outcomes->wait_settled(1));
  EXPECT_TRUE(engine->wait_idle(patience));
  EXPECT_EQ(restart_and_recover(), 0u);
  fails = false;
  const std::size_t before = receiver.request_count();
  EXPECT_EQ(engine->submit(hook_with_id(receiver.url("/b"), "2", "two")).duplicates, 1u);
  EXPECT_EQ(engine->submit(hook_with_id(receiver.url(), "1", "one")).accepted, 1u);
  engine->flush();
  EXPECT_TRUE(engine->wait_idle(patience));
  EXPECT_EQ(receiver.request_count(), before + 1);
  restart();
  EXPECT_EQ(engine->submit(hook_with_id(receiver.url(), "1", "one")).duplicates, 1u);
}

TEST_P(EngineDurable, FindsAHookByItsIdInEveryState) {
  FaultReceiver receiver(always(500));
  SubmitOptions want;
  want.want_ids = true;
  EXPECT_TRUE(engine->submit(receiver.url(), "1").ok());
  const SubmitResult second = engine->submit(hooks_to(receiver.url(), {"2", "3"}), want);
  const std::string id = to_string(second.ids.at(1));
  EXPECT_TRUE(engine->submit(hook_with_id(receiver.url(), "4", "own")).ok());
  restart();
  EXPECT_FALSE(engine->find_hook(id));  // nobody asked for what is in the store
  options.defaults.retry.retries = 1;
  options.defaults.retry.retry_interval = hours(1);
  EXPECT_EQ(restart_and_recover(), 4u);
  EXPECT_TRUE(eventually([&] { return engine->find_hook(id)->state == "retrying"; }));
  EXPECT_EQ(engine->find_hook("own")->state, "retrying");
  EXPECT_EQ(engine->cancel("*").cancelled, 4u);
  EXPECT_EQ(engine->find_hook(id)->state, "failed");
  EXPECT_EQ(engine->find_hook("own")->state, "failed");
  const auto rows = failed_rows(*engine);
  EXPECT_THAT(bodies(rows), ElementsAre("1", "2", "3", "4"));
  EXPECT_EQ(rows.at(2).id, id);
  EXPECT_EQ(rows.at(3).id, "own");
  EXPECT_EQ(rows.at(2).attempts, 1u);
  EXPECT_EQ(restart_and_recover(), 0u);
  EXPECT_EQ(engine->find_hook(id)->state, "failed");
}

// Batches that are in the store only have to be read before their hooks can be failed rows.
TEST_P(EngineDurable, CancelsWhatItFoundInTheStore) {
  FaultReceiver receiver(hanging());
  options.defaults.batch.size = 2;
  restart();
  EXPECT_TRUE(engine->submit(hooks_to(receiver.url(), {"1", "2", "3", "4", "5"})).ok());
  ASSERT_TRUE(receiver.wait_for_requests(1));
  EXPECT_EQ(restart_and_recover(), 5u);
  ASSERT_TRUE(receiver.wait_for_requests(2));
  EXPECT_EQ(engine->cancel("*").cancelled, 3u);
  EXPECT_TRUE(eventually([&] { return failed_rows(*engine).size() == 3; }));
  EXPECT_THAT(bodies(failed_rows(*engine)), ElementsAre("3", "4", "5"));
  receiver.release();
  EXPECT_TRUE(engine->wait_idle(patience));
  EXPECT_EQ(engine->status().delivered, 2u);
  EXPECT_EQ(restart_and_recover(), 0u);
}

// It made four billion rows, and those of later chunks were overwritten.
TEST_P(EngineDurable, ADamagedNumberOfHooksIsOneFailedRow) {
  FaultReceiver refusing(always(400));
  FaultReceiver receiver(hanging());
  for (const char* payload : {"1", "2", "3"}) {
    EXPECT_TRUE(engine->submit(receiver.url(std::string("/") + payload), payload).ok());
  }
  EXPECT_TRUE(engine->submit(refusing.url(), "4").ok());
  EXPECT_EQ(engine->cancel(refusing.url()).cancelled, 1u);
  ASSERT_TRUE(eventually([&] { return failed_rows(*engine).size() == 1; }));
  engine.reset();
  SQLite::Database(options.store.path, SQLite::OPEN_READWRITE)
      .exec("UPDATE chunk SET hooks = -28 WHERE target LIKE '%/2'");
  receiver.release();
  EXPECT_EQ(restart_and_recover(), 3u);
  EXPECT_TRUE(engine->wait_idle(patience));
  EXPECT_THAT(lines.all(), Contains(StartsWith("1 hooks of the store cannot be sent")));
  auto arrived = hooks_by_path(receiver);
  EXPECT_THAT(arrived["/1"], ElementsAre("1"));
  EXPECT_THAT(arrived["/3"], ElementsAre("3"));
  EXPECT_EQ(arrived.count("/2"), 0u);
  const auto rows = failed_rows(*engine);
  ASSERT_EQ(rows.size(), 2u);
  EXPECT_EQ(rows[0].reason, Reason::corrupt_payload);
  EXPECT_EQ(rows[1].reason, Reason::cancelled);
  EXPECT_EQ(rows[1].body, "4");
  EXPECT_EQ(restart_and_recover(), 0u);
}

TEST_P(EngineDurable, RetriedRowsAreGoneForGood) {
  std::atomic<int> status = 503;
  FaultReceiver receiver(replying([&](const FaultRequest&) { return FaultReply::status(status); }));
  options.defaults.batch.size = 100;
  restart();
  HookList hooks;
  for (int i = 0; i < 2'500; ++i) hooks.add(receiver.url(), std::to_string(i));
  EXPECT_TRUE(engine->submit(std::move(hooks)).ok());
  EXPECT_TRUE(engine->wait_idle(patience));
  restart();
  EXPECT_EQ(engine->retry_failed({}).failed, 2'500u);
  const auto rows = failed_rows(*engine);
  ASSERT_EQ(rows.size(), 2'500u);
  EXPECT_EQ(rows.back().attempts, 2u);
  status = 200;
  RetryOptions limited;
  limited.limit = 1'500;
  EXPECT_EQ(engine->retry_failed(limited).delivered, 1'500u);
  restart();
  EXPECT_EQ(failed_rows(*engine).size(), 1'000u);
  EXPECT_EQ(failed_rows(*engine).front().body, "1500");
  EXPECT_EQ(engine->retry_failed({}).delivered, 1'000u);
  restart();
  EXPECT_THAT(failed_rows(*engine), IsEmpty());
  EXPECT_EQ(engine->recover(), 0u);
}

TEST_P(EngineDurable, RecoversManyBatchesInOrder) {
  FaultReceiver receiver;
  constexpr int hooks_count = 3'000, targets_count = 30;
  HookList hooks;
  options.defaults.batch.size = 7;
  options.engine.threads = 2;
  options.defaults.delivery.in_flight = 1;
  {
    // Nothing is delivered in the first life: the target is down.
    options.defaults.retry.retries = 5;
    options.defaults.retry.retry_interval = hours(1);
    options.defaults.retry.max_retrying = 1;
    options.defaults.delivery.ordered = true;
  }
  restart();
  for (int i = 0; i < targets_count; ++i) receiver.push(FaultReply::status(500));
  for (int i = 0; i < hooks_count; ++i) {
    hooks.add(receiver.url("/" + std::to_string(i % targets_count)), std::to_string(i));
  }
  EXPECT_TRUE(engine->submit(std::move(hooks)).ok());
  ASSERT_TRUE(receiver.wait_for_requests(targets_count));
  ASSERT_TRUE(eventually([&] { return engine->status().retrying == targets_count; }));
  options.defaults.retry.retry_interval = milliseconds(1);
  EXPECT_EQ(restart_and_recover(), std::uint64_t{hooks_count});
  EXPECT_TRUE(engine->wait_idle(std::chrono::seconds(60)));
  auto arrived = hooks_by_path(receiver);
  ASSERT_EQ(arrived.size(), std::size_t{targets_count});
  for (int target = 0; target < targets_count; ++target) {
    auto& payloads = arrived.at("/" + std::to_string(target));
    ASSERT_GT(payloads.size(), 7u);
    payloads.erase(payloads.begin(), payloads.begin() + 7);  // of the first life
    ASSERT_EQ(payloads.size(), std::size_t{hooks_count / targets_count});
    for (std::size_t at = 0; at < payloads.size(); ++at) {
      ASSERT_EQ(payloads[at], std::to_string(target + static_cast<int>(at) * targets_count));
    }
  }
}

TEST_P(EngineDurable, BacksUpWhileItWorks) {
  FaultReceiver receiver;
  EXPECT_TRUE(engine->submit(receiver.url(), "1").ok());
  EXPECT_FALSE(engine->backup(directory.file("copy.db")));
  EXPECT_TRUE(engine->backup(directory.file("copy.db")));  // never over a file that is there
  engine.reset();
  options.store.path = directory.file("copy.db");
  EXPECT_EQ(restart_and_recover(), 1u);
  EXPECT_TRUE(engine->wait_idle(patience));
  EXPECT_THAT(bodies(receiver.requests()), ElementsAre("[1]"));
}

// The hook that failed was given by a call that the id was not any more: what was kept of the call
// that has it went, and after a restart its repeat was sent again.
TEST_P(EngineDurable, AFailureForgetsNoIdThatAnotherCallHas) {
  options.engine.max_memory = 1 << 20;  // 5,957 ids
  options.defaults.batch.size = 2'000;
  ASSERT_EQ(restart_and_recover(), 0u);
  FaultReceiver receiver(hanging(500));
  const auto outcomes = std::make_shared<Outcomes>(true);
  SubmitOptions listening;
  listening.listener = outcomes;
  const std::string url = receiver.url("/a");
  EXPECT_EQ(engine->submit(hook_with_id(url, "1", "mine"), listening).accepted, 1u);
  engine->flush();
  ASSERT_TRUE(receiver.wait_for_requests(1));
  const std::string other = receiver.url("/b");
  for (int round = 0; round < 6; ++round) {
    HookList others;
    for (int i = 0; i < 1'000; ++i) {
      HookView hook;
      const std::string id = "other-" + std::to_string(1'000 * round + i);
      hook.target = other;
      hook.body = "1";
      hook.id = id;
      others.add(hook);
    }
    EXPECT_TRUE(engine->submit(std::move(others)).ok());
    EXPECT_EQ(engine->cancel(other).cancelled, 1'000u);
  }
  const auto again = [&] { return engine->submit(hook_with_id(url, "1", "mine")); };
  EXPECT_EQ(again().accepted, 1u) << "its id was to be forgotten";
  receiver.release();
  ASSERT_TRUE(outcomes->wait_settled(1));
  EXPECT_FALSE(outcomes->all().at(0).delivered);
  EXPECT_EQ(again().duplicates, 1u);
  restart_and_recover();
  EXPECT_EQ(again().duplicates, 1u);
}

// One slice of the store's thread was all of it, and nothing was accepted before its end.
TEST_P(EngineDurable, AcceptsBetweenTheSlicesOfABackup) {
  const auto control = restart_with_control();
  FaultReceiver receiver;
  EXPECT_TRUE(engine->submit(receiver.url(), "1").ok());
  control->hold_backup();
  auto backup =
      std::async(std::launch::async, [&] { return engine->backup(directory.file("copy.db")); });
  ASSERT_TRUE(control->wait_backup_step());
  auto call = submit_async(*engine, hooks_to(receiver.url(), {"2"}));
  EXPECT_EQ(call.wait_for(patience), std::future_status::ready);
  control->release_backup();
  EXPECT_FALSE(backup.get());
  EXPECT_TRUE(call.get().ok());
  engine.reset();
  options.store.path = directory.file("copy.db");
  EXPECT_EQ(restart_and_recover(), 2u);
}

// A stop waited for all of it, and a kill left half a file of the wanted name.
TEST_P(EngineDurable, AStopEndsABackup) {
  const auto control = restart_with_control();
  control->hold_backup();
  auto backup =
      std::async(std::launch::async, [&] { return engine->backup(directory.file("copy.db")); });
  ASSERT_TRUE(control->wait_backup_step());
  EXPECT_TRUE(std::filesystem::exists(directory.file("copy.db.part")));
  EXPECT_FALSE(std::filesystem::exists(directory.file("copy.db")));
  EXPECT_FALSE(engine->drain(patience).timed_out);
  EXPECT_EQ(backup.wait_for(patience), std::future_status::ready);
  control->release_backup();
  EXPECT_EQ(backup.get(), Errc::stopping);
  EXPECT_FALSE(std::filesystem::exists(directory.file("copy.db")));
  EXPECT_FALSE(std::filesystem::exists(directory.file("copy.db.part")));
}

// Of a client that is gone: it went on for nobody.
TEST_P(EngineDurable, WhoeverAskedForABackupCanEndIt) {
  const auto control = restart_with_control();
  control->hold_backup();
  std::stop_source gone;
  auto backup = std::async(std::launch::async, [&] {
    return engine->backup(directory.file("copy.db"), gone.get_token());
  });
  ASSERT_TRUE(control->wait_backup_step());
  gone.request_stop();
  EXPECT_EQ(backup.wait_for(patience), std::future_status::ready);
  control->release_backup();
  EXPECT_EQ(backup.get(), Errc::stopping);
  EXPECT_FALSE(std::filesystem::exists(directory.file("copy.db.part")));
  EXPECT_FALSE(engine->backup(directory.file("copy.db")));
}

INSTANTIATE_TEST_SUITE_P(All, EngineDurable, testing::Values(Durability::fsync, Durability::os),
                         [](const auto& test) { return std::string(durability_name(test.param)); });

}  // namespace
}  // namespace postbag::test

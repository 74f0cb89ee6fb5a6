// Attempts, failed rows, and retry-failed-hooks, with real sockets and hooks in memory.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <stop_token>

#include "tests/support/engine_support.h"
#include "tests/support/failing_store.h"

namespace postbag::test {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

// `count` failed rows, {"n":0} and on, spread over `targets` paths of the receiver, one attempt
// each.
void make_failed(Engine& engine, const FaultReceiver& receiver, int count, int targets) {
  HookList hooks;
  for (int i = 0; i < count; ++i) {
    hooks.add(receiver.url("/" + std::to_string(i % targets)), "{\"n\":" + std::to_string(i) + "}");
  }
  ASSERT_TRUE(engine.submit(std::move(hooks)).ok());
  engine.flush();
  ASSERT_TRUE(engine.wait_idle(patience));
}

// A receiver that says 503 until it is healed.
struct Patient {
  std::atomic<bool> healed = false;
  FaultReceiver receiver{replying(
      [this](const FaultRequest&) { return FaultReply::status(healed ? 200 : 503, "sick"); })};
  std::map<std::string, std::vector<std::string>> healed_hooks(std::size_t requests_before) const {
    std::map<std::string, std::vector<std::string>> hooks;
    const auto requests = receiver.requests();
    for (std::size_t at = requests_before; at < requests.size(); ++at) {
      for (auto& payload : payloads_of(requests[at].body)) {
        hooks[requests[at].path].push_back(payload);
      }
    }
    return hooks;
  }
};

// --- Attempts

TEST(EngineAttempts, RepeatTheSameBytesUnderTheSameId) {
  FaultReceiver receiver;
  Options options = loopback_options();
  options.defaults.retry.retries = 3;
  const auto engine = make_engine(options);
  receiver.push(FaultReply::status(500));
  receiver.push(FaultReply::status(404));
  receiver.push(FaultReply::status(301, {}, {{"Location", "/elsewhere"}}));
  EXPECT_TRUE(engine->submit(hooks_to(receiver.url("/a"), {"1", "{\"b\": 2}"})).ok());
  engine->flush();
  EXPECT_TRUE(engine->wait_idle(patience));
  const auto requests = receiver.requests();
  ASSERT_EQ(requests.size(), 4u);
  for (std::size_t at = 0; at < requests.size(); ++at) {
    EXPECT_EQ(requests[at].path, "/a");
    EXPECT_EQ(requests[at].body, "[1,{\"b\": 2}]");
    EXPECT_EQ(requests[at].header("Postbag-Attempt"), std::to_string(at + 1));
    EXPECT_EQ(requests[at].header("Postbag-Batch-Id"), requests[0].header("Postbag-Batch-Id"));
  }
  const EngineStatus status = engine->status();
  EXPECT_EQ(status.attempts, 4u);
  EXPECT_EQ(status.attempts_failed, 3u);
  EXPECT_EQ(status.delivered, 2u);
  EXPECT_THAT(failed_rows(*engine), IsEmpty());
}

TEST(EngineAttempts, LaterHooksGoToLaterBatches) {
  FaultReceiver receiver(replying([](const FaultRequest& request) {
    return FaultReply::status(request.index == 0 ? 500 : 200);
  }));
  Options options = loopback_options();
  options.defaults.retry.retries = 1;
  const auto engine = make_engine(options);
  EXPECT_TRUE(engine->submit(receiver.url(), "1").ok());
  engine->flush();
  ASSERT_TRUE(receiver.wait_for_requests(1));
  EXPECT_TRUE(engine->submit(receiver.url(), "2").ok());
  engine->flush();
  EXPECT_TRUE(engine->wait_idle(patience));
  const auto requests = receiver.requests();
  ASSERT_EQ(requests.size(), 3u);
  EXPECT_THAT(bodies(requests), testing::UnorderedElementsAre("[1]", "[1]", "[2]"));
  std::set<std::string> ids;
  for (const auto& request : requests) ids.insert(request.header("Postbag-Batch-Id"));
  EXPECT_EQ(ids.size(), 2u);
}

TEST(EngineAttempts, ThenTheHooksAreFailedRows) {
  FaultReceiver receiver(replying([](const FaultRequest&) {
    return FaultReply::status(503, "busy " + std::string(5000, 'x'), {{"Retry-Hint", "later"}});
  }));
  Options options = loopback_options();
  options.defaults.retry.retries = 2;
  const auto engine = make_engine(options);
  const std::string url = receiver.url("/a?key=1");
  const HeaderView headers[] = {{"X-One", "1"}};
  HookView hook;
  hook.target = url;
  hook.body = " {\"a\": 1}";
  hook.group = "g";
  hook.event = "push";
  hook.id = "mine";
  hook.headers = headers;
  HookList hooks;
  hooks.add(hook);
  EXPECT_TRUE(engine->submit(std::move(hooks)).ok());
  engine->flush();
  EXPECT_TRUE(engine->wait_idle(patience));
  EXPECT_EQ(receiver.request_count(), 3u);
  const auto rows = failed_rows(*engine);
  ASSERT_EQ(rows.size(), 1u);
  const FailedHook& row = rows[0];
  EXPECT_EQ(row.id, "mine");
  EXPECT_EQ(row.target, url);
  EXPECT_EQ(row.body, " {\"a\": 1}");
  EXPECT_EQ(row.group, "g");
  EXPECT_EQ(row.event, "push");
  EXPECT_EQ(row.headers, "X-One: 1\r\n");
  EXPECT_EQ(reason_token(row.reason, row.status), "status_503");
  EXPECT_EQ(row.status, 503);
  EXPECT_EQ(row.attempts, 3u);
  EXPECT_GT(row.first_at, 0);
  EXPECT_LE(row.first_at, row.last_at);
  EXPECT_EQ(row.response_excerpt, "busy " + std::string(1019, 'x'));
  EXPECT_THAT(row.response_headers, HasSubstr("Retry-Hint: later"));
  EXPECT_EQ(engine->find_hook("mine")->state, "failed");
  EXPECT_EQ(engine->find_hook("mine")->attempts, 3u);
  EXPECT_EQ(engine->status().given_up, 1u);
}

// It stood in the store, in `failed show` and in GET /v1/failed.
TEST(EngineAttempts, AFailedRowKeepsNoValueOfASentHeader) {
  FaultReceiver receiver(replying([](const FaultRequest&) {
    return FaultReply::status(403, "no such key: policy-key", {{"X-Api-Key", "policy-key"}});
  }));
  Options options = loopback_options();
  options.defaults.delivery.headers = {{"x-api-key", "policy-key"}};
  const auto engine = make_engine(options);
  EXPECT_TRUE(engine->submit(receiver.url("/"), "1").ok());
  engine->flush();
  EXPECT_TRUE(engine->wait_idle(patience));
  const auto rows = failed_rows(*engine);
  ASSERT_EQ(rows.size(), 1u);
  EXPECT_EQ(rows[0].response_excerpt, "no such key: ***");
  EXPECT_THAT(rows[0].response_headers, HasSubstr("X-Api-Key: ***\r\n"));
}

TEST(EngineAttempts, NobodyListens) {
  const std::string url = refusing_url();
  const auto engine = make_engine();
  EXPECT_TRUE(engine->submit(url, "1").ok());
  engine->flush();
  EXPECT_TRUE(engine->wait_idle(patience));
  const auto rows = failed_rows(*engine);
  ASSERT_EQ(rows.size(), 1u);
  EXPECT_EQ(rows[0].reason, Reason::connect_refused);
  EXPECT_EQ(rows[0].status, 0);
  EXPECT_EQ(rows[0].attempts, 1u);
  EXPECT_EQ(engine->targets().at(0).last_reason, "connect_refused");
}

TEST(EngineAttempts, FailedHooksAreDroppedWhereTheOperatorChoseSo) {
  FaultReceiver receiver(always(500));
  Options options = loopback_options();
  options.store.keep_failed = false;
  const auto engine = make_engine(options);
  EXPECT_TRUE(engine->submit(hooks_to(receiver.url(), {"1", "2"})).ok());
  engine->flush();
  EXPECT_TRUE(engine->wait_idle(patience));
  EXPECT_THAT(failed_rows(*engine), IsEmpty());
  EXPECT_EQ(engine->status().discarded, 2u);
}

// --- Failed rows

TEST(EngineFailed, AreListedInPagesAndPurged) {
  FaultReceiver receiver(always(500));
  const auto engine = make_engine();
  make_failed(*engine, receiver, 10, 2);
  SliceLimits limits;
  limits.rows = 4;
  FailedPage page;
  ASSERT_FALSE(engine->list_failed({}, {}, limits, page));
  EXPECT_EQ(page.rows.size(), 4u);
  ASSERT_TRUE(page.next);
  const FailedKey last = page.rows.back().key;
  ASSERT_FALSE(engine->list_failed({}, page.next, limits, page));
  EXPECT_GT(page.rows.front().key, last);
  FailedFilter one;
  one.target = "*/1";
  EXPECT_EQ(failed_rows(*engine, one).size(), 5u);
  EXPECT_EQ(engine->purge_failed(one).purged, 5u);
  EXPECT_EQ(engine->purge_failed(one).purged, 0u);
  const auto left = failed_rows(*engine);
  ASSERT_EQ(left.size(), 5u);
  EXPECT_EQ(engine->purge_failed({}, 2).purged, 2u);
  ASSERT_EQ(failed_rows(*engine).size(), 3u);
  EXPECT_EQ(failed_rows(*engine).front().key, left[2].key) << "the oldest go first";
  EXPECT_EQ(engine->purge_failed({}, 100).purged, 3u);
  EXPECT_THAT(failed_rows(*engine), IsEmpty());
}

// Its rows came back after a power loss.
TEST(EngineFailed, APurgeThatItsLimitEndsIsSynced) {
  const auto control = std::make_shared<StoreControl>();
  FaultReceiver receiver(always(500));
  Engine engine(loopback_options(), std::make_unique<FailingStore>(make_memory_store(), control));
  make_failed(engine, receiver, 3, 1);
  const std::size_t before = control->commits().size();
  EXPECT_EQ(engine.purge_failed({}, 2).purged, 2u);
  const auto commits = control->commits();
  ASSERT_EQ(commits.size(), before + 1);
  EXPECT_TRUE(commits.back().sync);
}

TEST(EngineCancel, MovesWhatIsNotOnTheWire) {
  FaultReceiver receiver(hanging());
  Options options = loopback_options();
  options.defaults.batch.size = 2;
  const auto engine = make_engine(options);
  EXPECT_TRUE(engine->submit(hooks_to(receiver.url("/a"), {"1", "2", "3", "4", "5"})).ok());
  EXPECT_TRUE(engine->submit(receiver.url("/b"), "6").ok());
  ASSERT_TRUE(receiver.wait_for_requests(1));
  EXPECT_EQ(engine->cancel("*/nothing").cancelled, 0u);
  EXPECT_EQ(engine->cancel("*/a").cancelled, 3u);
  const auto rows = failed_rows(*engine);  // stored already
  EXPECT_THAT(bodies(rows), ElementsAre("3", "4", "5"));
  for (const FailedHook& row : rows) {
    EXPECT_EQ(row.reason, Reason::cancelled);
    EXPECT_EQ(row.attempts, 0u);
  }
  receiver.release();
  EXPECT_TRUE(engine->submit(receiver.url("/a"), "7").ok());
  engine->flush();
  EXPECT_TRUE(engine->wait_idle(patience));
  EXPECT_THAT(hooks_by_path(receiver)["/a"], ElementsAre("1", "2", "7"));
  EXPECT_THAT(hooks_by_path(receiver)["/b"], ElementsAre("6"));
}

// --- retry-failed-hooks

TEST(EngineRetry, DeliversEveryRowOldestFirstAndDeletesIt) {
  Patient patient;
  Options options = loopback_options();
  options.defaults.batch.size = 100;
  const auto engine = make_engine(options);
  make_failed(*engine, patient.receiver, 3'500, 3);
  ASSERT_EQ(failed_rows(*engine).size(), 3'500u);
  const std::size_t before = patient.receiver.request_count();
  const RetryPlan plan = engine->plan_retry({});
  EXPECT_EQ(plan.hooks, 3'500u);
  EXPECT_EQ(plan.targets, 3u);
  EXPECT_EQ(plan.skipped, 0u);
  std::uint64_t bytes = 0;
  for (const std::string& body : bodies(failed_rows(*engine))) bytes += body.size();
  EXPECT_EQ(plan.bytes, bytes);
  patient.healed = true;
  RetryOptions retry;
  std::vector<RetryProgress> reports;
  retry.progress = [&](const RetryProgress& progress) {
    reports.push_back(progress);
    return true;
  };
  const RetryProgress done = engine->retry_failed(retry);
  EXPECT_EQ(done.delivered, 3'500u);
  EXPECT_EQ(done.failed + done.skipped, 0u);
  ASSERT_FALSE(reports.empty());
  EXPECT_EQ(reports.back().delivered, 3'500u);
  EXPECT_THAT(failed_rows(*engine), IsEmpty());
  EXPECT_EQ(plan.requests, patient.receiver.request_count() - before);
  const auto hooks = patient.healed_hooks(before);
  ASSERT_EQ(hooks.size(), 3u);
  for (int target = 0; target < 3; ++target) {
    int next = target;
    for (const std::string& payload : hooks.at("/" + std::to_string(target))) {
      ASSERT_EQ(payload, "{\"n\":" + std::to_string(next) + "}");
      next += 3;
    }
    EXPECT_GE(next, 3'500);
  }
}

TEST(EngineRetry, ARowThatFailsAgainCountsOn) {
  FaultReceiver receiver;
  Options options = loopback_options();
  options.defaults.retry.retries = 1;
  const auto engine = make_engine(options);
  for (const int status : {500, 501, 502, 503, 504, 505, 506}) {
    receiver.push(FaultReply::status(status));
  }
  make_failed(*engine, receiver, 1, 1);
  const FailedHook before = failed_rows(*engine).at(0);
  EXPECT_EQ(before.attempts, 2u);
  EXPECT_EQ(before.status, 501);
  RetryProgress done = engine->retry_failed({});
  EXPECT_EQ(done.delivered, 0u);
  EXPECT_EQ(done.failed, 1u);
  FailedHook after = failed_rows(*engine).at(0);
  EXPECT_EQ(after.key, before.key);
  EXPECT_EQ(after.id, before.id);
  EXPECT_EQ(after.body, before.body);
  EXPECT_EQ(after.attempts, 4u);
  EXPECT_EQ(after.status, 503);
  EXPECT_EQ(after.first_at, before.first_at);
  EXPECT_GE(after.last_at, before.last_at);
  RetryOptions more;
  more.retries = 2;  // instead of the target's 1
  done = engine->retry_failed(more);
  EXPECT_EQ(done.failed, 1u);
  EXPECT_EQ(failed_rows(*engine).at(0).attempts, 7u);
  EXPECT_EQ(receiver.request_count(), 7u);
  EXPECT_EQ(receiver.requests().back().header("Postbag-Attempt"), "3");
  EXPECT_EQ(engine->retry_failed({}).delivered, 1u);
  EXPECT_THAT(failed_rows(*engine), IsEmpty());
}

TEST(EngineRetry, SkipsWhatThePolicyForbidsByNow) {
  Patient patient;
  Options options = loopback_options();
  const auto engine = make_engine(options);
  make_failed(*engine, patient.receiver, 5, 1);
  options.defaults.network.allow.clear();
  engine->reload(options);
  patient.healed = true;
  EXPECT_EQ(engine->plan_retry({}).skipped, 5u);
  EXPECT_EQ(engine->plan_retry({}).hooks, 0u);
  const RetryProgress done = engine->retry_failed({});
  EXPECT_EQ(done.skipped, 5u);
  EXPECT_EQ(done.delivered + done.failed, 0u);
  EXPECT_EQ(failed_rows(*engine).size(), 5u);
  options.defaults.network.allow = {"127.0.0.1"};
  engine->reload(options);
  EXPECT_EQ(engine->retry_failed({}).delivered, 5u);  // and are free to be taken again
}

TEST(EngineRetry, TakesWhatTheFilterAndTheLimitSay) {
  Patient patient;
  const auto engine = make_engine();
  make_failed(*engine, patient.receiver, 10, 2);
  const std::size_t before = patient.receiver.request_count();
  patient.healed = true;
  RetryOptions retry;
  retry.filter.target = "*/1";
  retry.limit = 3;
  EXPECT_EQ(engine->plan_retry(retry).hooks, 3u);
  EXPECT_EQ(engine->retry_failed(retry).delivered, 3u);
  const auto hooks = patient.healed_hooks(before);
  EXPECT_THAT(hooks.at("/1"), ElementsAre("{\"n\":1}", "{\"n\":3}", "{\"n\":5}"));
  EXPECT_EQ(hooks.size(), 1u);
  EXPECT_EQ(failed_rows(*engine).size(), 7u);
  retry = {};
  retry.filter.reason = "connect_refused";
  EXPECT_EQ(engine->retry_failed(retry).delivered, 0u);
  retry = {};
  retry.filter.ids = {failed_rows(*engine).at(2).id};
  EXPECT_EQ(engine->retry_failed(retry).delivered, 1u);
  EXPECT_EQ(engine->retry_failed({}).delivered, 6u);
}

TEST(EngineRetry, KeepsGroupsAndHeadersApart) {
  Patient patient;
  const auto engine = make_engine();
  const std::string url = patient.receiver.url("/a");
  HookList hooks;
  const HeaderView headers[] = {{"X-A", "1, 2: 3"}, {"X-B", "x"}};
  for (const char* group : {"", "g", "", "g"}) {
    HookView hook;
    hook.target = url;
    hook.body = *group == 'g' ? "2" : "1";
    hook.group = group;
    if (*group == 'g') hook.headers = headers;
    hooks.add(hook);
  }
  EXPECT_TRUE(engine->submit(std::move(hooks)).ok());
  engine->flush();
  EXPECT_TRUE(engine->wait_idle(patience));
  const std::size_t before = patient.receiver.request_count();
  patient.healed = true;
  EXPECT_EQ(engine->retry_failed({}).delivered, 4u);
  auto requests = patient.receiver.requests();
  requests.erase(requests.begin(), requests.begin() + static_cast<std::ptrdiff_t>(before));
  EXPECT_THAT(bodies(requests), testing::UnorderedElementsAre("[1,1]", "[2,2]"));
  for (const auto& request : requests) {
    EXPECT_EQ(request.header("X-A"), request.body == "[2,2]" ? "1, 2: 3" : "");
    EXPECT_EQ(request.header("X-B"), request.body == "[2,2]" ? "x" : "");
  }
}

// Many times, so that one run reads rows while the other deletes them.
TEST(EngineRetry, TwoRunsAtOnceNeverSendARowTwice) {
  for (int round = 0; round < 5; ++round) {
    Patient patient;
    Options options = loopback_options();
    options.engine.threads = 2;
    options.defaults.batch.size = 10;
    const auto engine = make_engine(options);
    make_failed(*engine, patient.receiver, 2'000, 8);
    const std::size_t before = patient.receiver.request_count();
    patient.healed = true;
    std::vector<std::future<RetryProgress>> runs;
    for (int run = 0; run < 3; ++run) {
      runs.push_back(std::async(std::launch::async, [&] { return engine->retry_failed({}); }));
    }
    std::uint64_t delivered = 0;
    for (auto& run : runs) delivered += run.get().delivered;
    EXPECT_EQ(delivered, 2'000u);
    std::set<std::string> seen;
    std::size_t arrived = 0;
    for (const auto& [path, hooks] : patient.healed_hooks(before)) {
      arrived += hooks.size();
      seen.insert(hooks.begin(), hooks.end());
    }
    EXPECT_EQ(arrived, 2'000u);
    EXPECT_EQ(seen.size(), 2'000u);
    EXPECT_THAT(failed_rows(*engine), IsEmpty());
  }
}

TEST(EngineRetry, StopsWhenNobodyWantsMore) {
  constexpr std::size_t rows = 25'000;  // more than are under way at once
  std::atomic<bool> hangs = false;
  FaultReceiver receiver(replying([&](const FaultRequest&) {
    return hangs ? FaultReply::hang().then(FaultReply::status(200)) : FaultReply::status(503);
  }));
  Options options = loopback_options();
  const auto engine = make_engine(options);
  make_failed(*engine, receiver, rows, 1);
  hangs = true;
  RetryOptions retry;
  retry.progress = [&](const RetryProgress&) {
    receiver.release();
    return false;
  };
  const RetryProgress done = engine->retry_failed(retry);
  EXPECT_EQ(done.failed + done.skipped, 0u);
  EXPECT_LT(done.delivered, rows);
  EXPECT_TRUE(done.stopped);
  EXPECT_FALSE(done.error);
  EXPECT_EQ(done.delivered + failed_rows(*engine).size(), rows);
  const RetryProgress rest = engine->retry_failed({});
  EXPECT_EQ(rest.delivered, rows - done.delivered);
  EXPECT_FALSE(rest.stopped);
}

// Of rows that go one by one, one after the other.
struct StoppableRun {
  explicit StoppableRun(int rows, std::uint32_t retries = 0, Duration retry_interval = hours(1)) {
    Options options = loopback_options();
    engine = make_engine(options);
    make_failed(*engine, receiver, rows, 1);
    before = receiver.request_count();
    options.defaults.batch.size = 1;
    options.defaults.retry.retries = retries;
    options.defaults.retry.retry_interval = retry_interval;
    engine->reload(options);
    retry.stop = stop.get_token();
    retry.leave = leave.get_token();
  }
  void begin() {
    run = std::async(std::launch::async, [this] { return engine->retry_failed(retry); });
  }
  std::size_t sent() const { return receiver.request_count() - before; }

  std::atomic<bool> hangs = false;
  FaultReceiver receiver{replying([this](const FaultRequest&) {
    return hangs ? FaultReply::hang().then(FaultReply::status(200)) : FaultReply::status(503);
  })};
  std::unique_ptr<Engine> engine;
  std::size_t before = 0;
  std::stop_source stop, leave;
  RetryOptions retry;
  std::future<RetryProgress> run;
};

// All rows that were read already, up to 20,000, were sent, each with all of its retries.
TEST(EngineRetry, AStoppedRunSendsNothingMore) {
  StoppableRun one(600);
  one.hangs = true;
  one.begin();
  ASSERT_TRUE(one.receiver.wait_for_requests(one.before + 1));
  ASSERT_TRUE(eventually([&] { return one.engine->status().batches_held == 600; }));
  one.stop.request_stop();
  EXPECT_TRUE(eventually([&] { return one.engine->status().batches_held == 1; }));
  one.receiver.release();
  const RetryProgress done = one.run.get();
  EXPECT_EQ(one.sent(), 1u);
  EXPECT_EQ(done.delivered, 1u);
  EXPECT_EQ(done.failed + done.skipped, 0u);
  EXPECT_TRUE(done.stopped);
  const auto rows = failed_rows(*one.engine);
  ASSERT_EQ(rows.size(), 599u);
  for (const FailedHook& row : rows) EXPECT_EQ(row.attempts, 1u);
  EXPECT_EQ(one.engine->retry_failed({}).delivered, 599u) << "they are free to be taken again";
}

// It waited for the last retry of each.
TEST(EngineRetry, AStoppedRunWaitsForNoRetry) {
  StoppableRun one(100, 1);
  one.begin();
  const RetryPolicy usual;
  ASSERT_TRUE(one.receiver.wait_for_requests(one.before + usual.max_retrying));
  ASSERT_TRUE(eventually([&] { return one.engine->status().retrying == usual.max_retrying; }));
  one.stop.request_stop();
  const RetryProgress done = one.run.get();
  EXPECT_EQ(one.sent(), usual.max_retrying);
  EXPECT_EQ(done.failed, usual.max_retrying);
  EXPECT_EQ(done.delivered + done.skipped, 0u);
  const auto rows = failed_rows(*one.engine);
  ASSERT_EQ(rows.size(), 100u);
  for (const FailedHook& row : rows) EXPECT_EQ(row.attempts, 1u) << "as it was";
}

TEST(EngineRetry, AStopBeforeTheRunSendsNothing) {
  StoppableRun one(3);
  one.stop.request_stop();
  one.begin();
  const RetryProgress done = one.run.get();
  EXPECT_EQ(done.failed, 0u);
  EXPECT_TRUE(done.stopped);
  EXPECT_EQ(one.sent(), 0u);
}

TEST(EngineRetry, ARunThatIsLeftEndsWithoutItsRowsOnTheWire) {
  StoppableRun one(3);
  one.hangs = true;
  one.begin();
  ASSERT_TRUE(one.receiver.wait_for_requests(one.before + 1));
  one.leave.request_stop();
  const RetryProgress left = one.run.get();
  EXPECT_EQ(left.delivered, 0u) << "what it sent is not answered yet";
  EXPECT_TRUE(left.stopped);
  EXPECT_TRUE(eventually([&] { return one.engine->status().batches_held == 1; }));
  RetryOptions all;
  auto next = std::async(std::launch::async, [&] { return one.engine->retry_failed(all); });
  EXPECT_TRUE(eventually([&] { return one.engine->status().batches_held == 3; }));
  one.receiver.release();
  EXPECT_EQ(next.get().delivered, 2u) << "the first row was still under way";
  EXPECT_TRUE(eventually([&] { return failed_rows(*one.engine).empty(); }));
  EXPECT_EQ(one.sent(), 3u);
}

// 20,000 rows of 100 KB for a target that does not answer took two gigabytes.
TEST(EngineRetry, RowsUnderWayAreBoundedInBytes) {
  constexpr std::size_t rows = 200, row_bytes = 100'000;
  std::atomic<bool> hangs = false;
  FaultReceiver receiver(replying([&](const FaultRequest&) {
    return hangs ? FaultReply::hang().then(FaultReply::status(200)) : FaultReply::status(503);
  }));
  Options options = loopback_options();
  options.engine.max_memory = 16 << 20;
  const auto engine = make_engine(options);
  for (std::size_t row = 0; row < rows; ++row) {
    ASSERT_TRUE(engine->submit(receiver.url(), "\"" + std::string(row_bytes, 'x') + "\"").ok());
    engine->flush();
    ASSERT_TRUE(engine->wait_idle(patience));
  }
  hangs = true;
  RetryOptions retry;
  std::uint64_t memory_bytes = 0;
  retry.progress = [&](const RetryProgress&) {  // after a second of waiting
    memory_bytes = std::max(memory_bytes, engine->status().memory_bytes);
    receiver.release();
    return true;
  };
  EXPECT_EQ(engine->retry_failed(retry).delivered, rows);
  EXPECT_GT(memory_bytes, row_bytes);
  EXPECT_LT(memory_bytes, options.engine.max_memory / 4);
}

TEST(EngineRetry, APurgeLeavesWhatIsUnderWay) {
  std::atomic<bool> hangs = false;
  FaultReceiver receiver(replying([&](const FaultRequest&) {
    return hangs ? FaultReply::hang().then(FaultReply::status(500)) : FaultReply::status(503);
  }));
  const auto engine = make_engine();
  make_failed(*engine, receiver, 4, 2);
  const std::size_t before = receiver.request_count();
  hangs = true;
  RetryOptions retry;
  retry.filter.target = "*/0";
  auto run = std::async(std::launch::async, [&] { return engine->retry_failed(retry); });
  ASSERT_TRUE(receiver.wait_for_requests(before + 1));
  EXPECT_EQ(engine->purge_failed({}).purged, 2u);
  receiver.release();
  EXPECT_EQ(run.get().failed, 2u);
  const auto rows = failed_rows(*engine);
  EXPECT_THAT(bodies(rows), ElementsAre("{\"n\":0}", "{\"n\":2}"));
  EXPECT_EQ(rows.at(0).attempts, 2u);
}

// "deleted 0", "delivered 0, skipped 0", exit code 0, with the rows in the list.
TEST(EngineRetry, APurgeAndASecondRunSayWhatAnotherRunHas) {
  std::atomic<bool> hangs = false;
  FaultReceiver receiver(replying([&](const FaultRequest&) {
    return hangs ? FaultReply::hang().then(FaultReply::status(200)) : FaultReply::status(503);
  }));
  const auto engine = make_engine();
  make_failed(*engine, receiver, 5, 2);
  const std::size_t before = receiver.request_count();
  hangs = true;
  RetryOptions retry;
  retry.filter.target = "*/0";
  auto run = std::async(std::launch::async, [&] { return engine->retry_failed(retry); });
  ASSERT_TRUE(receiver.wait_for_requests(before + 1));
  const RetryProgress second = engine->retry_failed(retry);
  EXPECT_EQ(second.claimed, 3u);
  EXPECT_EQ(second.delivered + second.failed + second.skipped, 0u);
  const PurgeResult nothing = engine->purge_failed(retry.filter);
  EXPECT_EQ(nothing.purged, 0u);
  EXPECT_EQ(nothing.claimed, 3u);
  const PurgeResult all = engine->purge_failed({});
  EXPECT_EQ(all.purged, 2u);
  EXPECT_EQ(all.claimed, 3u);
  receiver.release();
  const RetryProgress first = run.get();
  EXPECT_EQ(first.delivered, 3u);
  EXPECT_EQ(first.claimed, 0u);
  EXPECT_EQ(engine->purge_failed({}).claimed, 0u);
}

TEST(EngineRetry, EndsWithTheDrain) {
  std::atomic<bool> hangs = false;
  FaultReceiver receiver(replying(
      [&](const FaultRequest&) { return hangs ? FaultReply::hang() : FaultReply::status(503); }));
  Options options = loopback_options();
  options.defaults.batch.size = 1;
  const auto engine = make_engine(options);
  make_failed(*engine, receiver, 10, 1);
  const std::size_t before = receiver.request_count();
  hangs = true;
  auto run = std::async(std::launch::async, [&] { return engine->retry_failed({}); });
  ASSERT_TRUE(receiver.wait_for_requests(before + 1));
  const DrainReport report = engine->drain(Duration::zero());
  EXPECT_TRUE(report.timed_out);
  EXPECT_EQ(report.stored_failed, 0u);  // they are rows already
  const RetryProgress done = run.get();
  EXPECT_EQ(done.delivered, 0u);
  EXPECT_EQ(done.failed, 0u) << "no attempt of theirs has ended";
  EXPECT_EQ(done.error, Errc::stopping) << "a run that was cut short looked like one that was done";
  EXPECT_TRUE(done.stopped);
  const auto rows = failed_rows(*engine);
  ASSERT_EQ(rows.size(), 10u);
  for (const FailedHook& row : rows) EXPECT_EQ(row.attempts, 1u);
  EXPECT_EQ(engine->retry_failed({}).error, Errc::stopping) << "nothing starts any more";
}

}  // namespace
}  // namespace postbag::test

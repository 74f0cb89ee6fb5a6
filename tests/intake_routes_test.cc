// The routes of intake beside POST /v1/hooks.
#include <string>
#include <tuple>
#include <vector>

#include "cli/intake/blocking_call.h"
#include "postbag/outcome.h"
#include "tests/support/intake_fixture.h"
#include "tests/support/temp_directory.h"

namespace postbag {
namespace {

using test::get;
using test::IntakeClient;
using test::IntakeTest;
using test::one_hook;
using test::post;
using test::request;
using test::Response;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

TEST_F(IntakeTest, UnknownRoutesAndMethods) {
  start();
  for (const std::string path :
       {"/", "/v1", "/v1/hooks/", "/v1/hook", "/v1/failed/", "/V1/status"}) {
    EXPECT_EQ(ask(get(path)).status, 404) << path;
  }
  const std::vector<std::tuple<std::string, std::string, std::string>> cases = {
      {"GET", "/v1/hooks", "POST, DELETE"},   {"PUT", "/v1/failed", "GET, HEAD, DELETE"},
      {"DELETE", "/v1/hooks/a", "GET, HEAD"}, {"GET", "/v1/failed/retry", "POST"},
      {"OPTIONS", "/v1/flush", "POST"},       {"post", "/v1/flush", "POST"},
  };
  for (const auto& [method, path, allow] : cases) {
    const Response response = ask(request(method, path));
    EXPECT_EQ(response.status, 405) << method << path;
    EXPECT_EQ(response.field("Allow"), allow) << path;
  }
  // The answer to HEAD has no body: the next answer must follow at once.
  IntakeClient client = connect();
  client.send(request("HEAD", "/v1/flush"));
  const Response head = client.read_response(false);
  EXPECT_EQ(head.status, 405);
  client.send(get("/v1/status"));
  EXPECT_EQ(client.read_response().status, 200);
}

// Load balancers probe with it.
TEST_F(IntakeTest, HeadIsAGetWithoutItsBody) {
  start();
  for (const char* path : {"/healthz/ready", "/v1/status", "/metrics", "/v1/failed"}) {
    IntakeClient client = connect();
    client.send(request("HEAD", path));
    const Response head = client.read_response(false);
    EXPECT_EQ(head.status, 200) << path;
    EXPECT_NE(head.field("Content-Length"), "0") << path;
    client.send(get(path));
    const Response whole = client.read_response();
    EXPECT_EQ(whole.status, 200) << path;
    EXPECT_NE(whole.body, "") << path;
  }
  EXPECT_EQ(ask(get("/v1/status?x=1")).status, 400);
}

TEST_F(IntakeTest, Status) {
  start();
  backend_.engine_status.pending = 3;
  backend_.engine_status.failed = 4;
  backend_.engine_status.accepted_per_second = 2.5;
  const Response response = ask(get("/v1/status"));
  EXPECT_THAT(response.body, StartsWith(R"({"pending":3,"failed":4,"delivered":0,)"));
  EXPECT_THAT(response.body, HasSubstr(R"("accepted_per_second":2.5,)"));
  EXPECT_THAT(response.body, HasSubstr(R"("durability":"memory")"));

  const Response metrics = ask(get("/metrics"));
  EXPECT_THAT(metrics.field("Content-Type"), StartsWith("text/plain; version=0.0.4"));
  EXPECT_THAT(metrics.body,
              HasSubstr("# TYPE postbag_pending_hooks gauge\npostbag_pending_hooks 3\n"));
  EXPECT_THAT(metrics.body,
              HasSubstr("# TYPE postbag_accepted_total counter\npostbag_accepted_total 0\n"));
}

TEST_F(IntakeTest, Health) {
  start();
  EXPECT_EQ(ask(get("/healthz/live")).status, 200);
  EXPECT_EQ(ask(get("/healthz/ready")).status, 200);
  backend_.engine_status.recovering = true;
  EXPECT_EQ(ask(get("/healthz/ready")).status, 503);
  EXPECT_EQ(ask(get("/healthz/live")).status, 200);
  backend_.engine_status.recovering = false;
  backend_.engine_status.healthy = false;
  EXPECT_EQ(ask(get("/healthz/ready")).status, 503);
  EXPECT_EQ(ask(get("/healthz/live")).status, 503);
}

// It said "not ready", whatever the reason.
TEST_F(IntakeTest, ReadinessAndStatusSayWhyItIsNotReady) {
  start();
  const auto expect_state = [&](const std::string& state) {
    EXPECT_THAT(ask(get("/healthz/ready")).body,
                HasSubstr(R"("code":"not_ready","message":"not ready: )" + state));
    const std::string token = state.substr(0, state.find(','));
    EXPECT_THAT(ask(get("/v1/status")).body, HasSubstr(R"("state":")" + token + '"'));
  };
  EXPECT_THAT(ask(get("/v1/status")).body, HasSubstr(R"("state":"running")"));
  EXPECT_THAT(ask(get("/metrics")).body, HasSubstr("\npostbag_recovering 0\n"));
  backend_.engine_status.disk_low = true;  // every call was 507, and this said ready
  expect_state("disk_low, the store has no room for more");
  EXPECT_EQ(ask(get("/healthz/ready")).status, 503);
  EXPECT_EQ(ask(get("/healthz/live")).status, 200);
  EXPECT_THAT(ask(get("/metrics")).body, HasSubstr("\npostbag_disk_low 1\n"));
  backend_.engine_status.recovering = true;
  expect_state("recovering");
  EXPECT_THAT(ask(get("/metrics")).body, HasSubstr("\npostbag_recovering 1\n"));
  server_->stop_accepting();  // the engine does not drain yet
  expect_state("draining");
  EXPECT_THAT(ask(get("/metrics")).body, HasSubstr("\npostbag_draining 1\n"));
  backend_.engine_status.healthy = false;
  expect_state("failed");
}

// What asks through a proxy on this machine names the daemon as the public does.
TEST_F(IntakeTest, HealthIsAnsweredWhateverHostIsNamed) {
  for (const bool has_tokens : {false, true}) {
    if (has_tokens) options_.tokens = {"secret"};
    start();
    for (const std::string path : {"/healthz/live", "/healthz/ready"}) {
      EXPECT_EQ(ask("GET " + path + " HTTP/1.1\r\nHost: hooks.example.com\r\n\r\n").status, 200);
    }
    server_->stop();
  }
}

TEST_F(IntakeTest, HooksAndTargets) {
  start();
  HookStatus hook;
  hook.id = "abc";
  hook.target = "https://a/";
  hook.state = "retrying";
  hook.attempts = 2;
  hook.reason = "status_503";
  hook.status = 503;
  backend_.hook = hook;
  EXPECT_EQ(ask(get("/v1/hooks/abc")).body,
            R"({"id":"abc","target":"https://a/","state":"retrying","attempts":2,)"
            R"("reason":"status_503","status":503})");
  EXPECT_EQ(ask(get("/v1/hooks/abd")).status, 404);
  // It said that there were 0 attempts and the answer was 0.
  HookStatus gone;
  gone.id = "abc";
  gone.state = "delivered";
  backend_.hook = gone;
  EXPECT_EQ(ask(get("/v1/hooks/abc")).body, R"({"id":"abc","state":"delivered"})");

  TargetStatus target;
  target.url = "https://a/b";
  target.log_name = "https://a/#12345678";
  target.state = "ok";
  target.waiting = 5;
  target.last_attempt_ms = 1000;
  backend_.target_list = {target};
  EXPECT_EQ(
      ask(get("/v1/targets?limit=7")).body,
      R"({"targets":[{"url":"https://a/b","log_name":"https://a/#12345678","state":"ok","waiting":5,"in_flight":0,"retrying":0,)"
      R"("delivered":0,"given_up":0,"last_status":0,"last_reason":"",)"
      R"("last_attempt_at":"1970-01-01T00:00:01.000Z"}]})");
  EXPECT_EQ(backend_.last_limit, 7u);
}

TEST_F(IntakeTest, FlushAndCancel) {
  start();
  EXPECT_EQ(ask(request("POST", "/v1/flush")).body, R"({"bags":7})");
  EXPECT_EQ(backend_.last_text, "flush *");
  ask(request("POST", "/v1/flush?target=https%3A%2F%2Fa%2F"));
  EXPECT_EQ(backend_.last_text, "flush https://a/");
  EXPECT_EQ(ask(request("DELETE", "/v1/hooks?target=https://a/*")).body, R"({"cancelled":8})");
  EXPECT_EQ(backend_.last_text, "cancel https://a/*");
  backend_.cancel_error = make_error_code(Errc::store_failed);
  EXPECT_EQ(ask(request("DELETE", "/v1/hooks?target=*")).status, 503);
  EXPECT_EQ(ask(request("DELETE", "/v1/hooks")).status, 400);
  EXPECT_EQ(ask(request("POST", "/v1/flush?all=true")).status, 400);
  const Response nonsense = ask(request("POST", "/v1/flush?target=nonsense"));
  EXPECT_EQ(nonsense.status, 422);
  EXPECT_THAT(nonsense.body, HasSubstr("url_syntax"));
  backend_.throw_next = true;
  EXPECT_EQ(ask(request("POST", "/v1/flush")).status, 422);
}

// Failed hooks

FailedHook failed_row(FailedKey key) {
  FailedHook row;
  row.key = key;
  row.id = "id-" + std::to_string(key);
  row.target = "https://a/";
  row.headers = "X-A: 1\r\nX-B: \"2\"\r\n";
  row.body = "{}";
  row.reason = Reason::status;
  row.status = 503;
  row.attempts = 6;
  row.first_at = 1000;
  row.last_at = 2500;
  return row;
}

TEST_F(IntakeTest, ListsFailedHooks) {
  start();
  backend_.rows = {failed_row(1), failed_row(2), failed_row(3)};
  backend_.rows[1].body = "\xff";
  const Response response = ask(get("/v1/failed?header_values=true"));
  EXPECT_EQ(response.status, 200);
  const std::string begin =
      R"("target":"https://a/","group":"","event":"",)"
      R"("content_type":"application/json","reason":"status_503","status":503,"attempts":6,)"
      R"("first_at":"1970-01-01T00:00:01.000Z",)"
      R"("last_at":"1970-01-01T00:00:02.500Z",)"
      R"("headers":{"X-A":"1","X-B":"\"2\""},)";
  const std::string end = R"("response_headers":"","response_excerpt":""})";
  EXPECT_EQ(response.body, R"({"failed":[{"id":"id-1",)" + begin + R"("body":"{}",)" + end +
                               R"(,{"id":"id-2",)" + begin + R"("body_base64":"/w==",)" + end +
                               R"(,{"id":"id-3",)" + begin + R"("body":"{}",)" + end +
                               R"(],"next":null})");
  // A token to a target is no business of whoever may look.
  EXPECT_THAT(ask(get("/v1/failed")).body, HasSubstr(R"("headers":{"X-A":"***","X-B":"***"},)"));
}

// What came between the end of the workers and that of intake was told that they are busy.
TEST(WorkerPool, SaysWhyItTakesNothing) {
  WorkerPool pool(1, 0);
  EXPECT_FALSE(pool.try_run([] {}));
  EXPECT_EQ(why_not_started(pool).code, "full");
  pool.stop();
  EXPECT_FALSE(pool.try_run([] {}));
  EXPECT_EQ(why_not_started(pool).code, "stopping");
  EXPECT_EQ(why_not_started(pool).status, 503);
}

// The benchmark of intake asks so, too.
TEST_F(IntakeTest, AProbeMayHaveABody) {
  start();
  IntakeClient client = connect();
  client.send("GET /healthz/live HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}");
  EXPECT_EQ(client.read_response().status, 200);
}

// {"event": "y"} in the body of a retry was passed over: every failed hook was sent again.
TEST_F(IntakeTest, ABodyWhereTheQueryIsMeantIsRefused) {
  start();
  backend_.retry_steps = {{1, 0, 0, 1}};
  const std::string form = "application/x-www-form-urlencoded";
  for (const std::string path :
       {"/v1/failed/retry", "/v1/failed/plan", "/v1/flush", "/v1/failed/retry?event=x"}) {
    const Response response = ask(post(path, R"({"event":"y"})"));
    EXPECT_EQ(response.status, 400) << path;
    EXPECT_THAT(response.body, HasSubstr(R"("code":"bad_query")")) << path;
    EXPECT_EQ(ask(post(path, "")).status, 200) << path;
  }
  EXPECT_EQ(ask(post("/v1/flush", "target=https://a/", form)).status, 400);
  EXPECT_EQ(ask(post("/v1/failed/retry", "event=y", form)).status, 200);
  EXPECT_EQ(backend_.last_filter.event, "y");
}

TEST_F(IntakeTest, IdsOfAQueryAreIdsAndNotTooMany) {
  start();
  std::string form;
  for (int i = 0; i < 30'000; ++i) form += "id=a" + std::to_string(i) + "&";
  const auto plan = [&](const std::string& ids) {
    return ask(post("/v1/failed/plan", ids, "application/x-www-form-urlencoded"));
  };
  EXPECT_EQ(plan(form).status, 200);
  EXPECT_EQ(backend_.last_filter.ids.size(), 30'000u);
  EXPECT_THAT(plan(form + "id=b").body, HasSubstr("more than 30000 ids"));
  EXPECT_EQ(plan("id=a%20b").status, 400);
}

TEST_F(IntakeTest, ListsInPages) {
  start();
  for (FailedKey key = 1; key <= 5; ++key) backend_.rows.push_back(failed_row(key));
  backend_.slice_rows = 1;  // slices of the store are smaller than a page
  const Response first = ask(get("/v1/failed?limit=2&bodies=false"));
  EXPECT_THAT(first.body, HasSubstr(R"("id-1")"));
  EXPECT_THAT(first.body, HasSubstr(R"("id-2")"));
  EXPECT_THAT(first.body, Not(HasSubstr(R"("id-3")")));
  EXPECT_THAT(first.body, Not(HasSubstr(R"("body")")));
  EXPECT_THAT(first.body, HasSubstr(R"("next":"2")"));
  const Response rest = ask(get("/v1/failed?limit=9&after=2"));
  EXPECT_THAT(rest.body, HasSubstr(R"("id-3")"));
  EXPECT_THAT(rest.body, HasSubstr(R"("id-5")"));
  EXPECT_THAT(rest.body, HasSubstr(R"("next":null)"));
}

TEST_F(IntakeTest, FiltersReachTheEngine) {
  start();
  ask(
      get("/v1/failed?target=https://a/*&group=g&event=e&status=503&reason=status_503&id=a&id=b"
          "&since=2026-01-02T03:04:05Z&until=2026-01-02T05:04:05%2B01:00"));
  const FailedFilter filter = backend_.last_filter;
  EXPECT_EQ(filter.target, "https://a/*");
  EXPECT_EQ(filter.group, "g");
  EXPECT_EQ(filter.event, "e");
  EXPECT_EQ(filter.status, 503);
  EXPECT_EQ(filter.reason, "status_503");
  EXPECT_THAT(filter.ids, ElementsAre("a", "b"));
  EXPECT_EQ(filter.since, 1'767'323'045'000);
  EXPECT_EQ(filter.until, 1'767'323'045'000 + 3'600'000);
  for (const std::string query :
       {"taget=a", "status=abc", "limit=0", "limit=10001", "since=x", "id="}) {
    EXPECT_EQ(ask(get("/v1/failed?" + query)).status, 400) << query;
  }
}

TEST_F(IntakeTest, PurgeWantsAFilterOrAll) {
  start();
  EXPECT_EQ(ask(request("DELETE", "/v1/failed")).status, 400);
  EXPECT_EQ(ask(request("DELETE", "/v1/failed?all=false")).status, 400);
  EXPECT_EQ(ask(request("DELETE", "/v1/failed?all=true&group=g")).status, 400);
  EXPECT_EQ(ask(request("DELETE", "/v1/failed?group=g&limit=0")).status, 400);
  EXPECT_EQ(ask(request("DELETE", "/v1/failed?limit=1")).status, 400);
  EXPECT_EQ(backend_.purges, 0);
  EXPECT_EQ(ask(request("DELETE", "/v1/failed?all=true")).body, R"({"purged":9})");
  EXPECT_EQ(ask(request("DELETE", "/v1/failed?group=g")).body, R"({"purged":9})");
  EXPECT_EQ(backend_.last_filter.group, "g");
  EXPECT_EQ(backend_.purges, 2);
  EXPECT_EQ(ask(request("DELETE", "/v1/failed?group=g&limit=3")).body, R"({"purged":3})");
}

TEST_F(IntakeTest, APurgeAndARetrySayHowManyRowsAnotherRunHas) {
  start();
  backend_.purge_claimed = 28;
  EXPECT_EQ(ask(request("DELETE", "/v1/failed?all=true")).body, R"({"purged":9,"claimed":28})");
  backend_.retry_steps = {{0, 0, 0, 30, {}, false, 28}};
  EXPECT_EQ(ask(request("POST", "/v1/failed/retry")).body,
            R"({"delivered":0,"failed":0,"skipped":0,"claimed":28})");
}

TEST_F(IntakeTest, APurgeThatFailsIsNotAnsweredAsDone) {
  start();
  backend_.purge_error = Errc::store_failed;
  EXPECT_EQ(ask(request("DELETE", "/v1/failed?all=true")).status, 503);
}

TEST_F(IntakeTest, RetryAnswersAtTheEnd) {
  start();
  backend_.retry_steps = {{1, 0, 0, 5}, {3, 1, 1, 5}};
  const Response response =
      ask(request("POST", "/v1/failed/retry?target=https://a/*&limit=5&retries=0"));
  EXPECT_EQ(response.status, 200);
  EXPECT_EQ(response.body, R"({"delivered":3,"failed":1,"skipped":1})");
  EXPECT_EQ(backend_.last_filter.target, "https://a/*");
  EXPECT_EQ(backend_.last_retry_limit, 5u);
  EXPECT_EQ(backend_.last_retries, 0u);
  EXPECT_EQ(ask(request("POST", "/v1/failed/plan?group=g")).body,
            R"({"hooks":10,"targets":2,"requests":3,"bytes":400,"skipped":1})");
}

TEST_F(IntakeTest, APlanOfRowsThatCannotBeReadIsAnError) {
  start();
  backend_.plan_error = make_error_code(Errc::store_io);
  const Response response = ask(request("POST", "/v1/failed/plan"));
  EXPECT_EQ(response.status, 500);
  EXPECT_THAT(response.body, HasSubstr(R"("code":"store_io")"));
}

TEST_F(IntakeTest, ARetryThatWasCutShortIsAnError) {
  start();
  backend_.retry_steps = {{3, 1, 1, 5, make_error_code(Errc::store_failed)}};
  const Response response = ask(request("POST", "/v1/failed/retry"));
  EXPECT_EQ(response.status, 503);
  EXPECT_THAT(response.body, testing::HasSubstr("\"store_failed\""));
  IntakeClient client = connect();
  client.send("POST /v1/failed/retry HTTP/1.1\r\nHost: a\r\nAccept: application/x-ndjson\r\n\r\n");
  std::string last;
  for (std::string line = client.read_chunk(); !line.empty(); line = client.read_chunk())
    last = line;
  EXPECT_EQ(last, response.body + "\n");
}

TEST_F(IntakeTest, RetryStreamsItsProgress) {
  start();
  backend_.retry_steps = {{1, 0, 0, 5}, {3, 1, 1, 5}};
  backend_.hold_retry();
  IntakeClient client = connect();
  client.send("POST /v1/failed/retry HTTP/1.1\r\nHost: a\r\nAccept: application/x-ndjson\r\n\r\n");
  EXPECT_EQ(client.read_chunk(), R"({"delivered":1,"failed":0,"skipped":0,"total":5,"done":false})"
                                 "\n");
  backend_.release_all();
  std::string last;
  for (std::string line = client.read_chunk(); !line.empty(); line = client.read_chunk())
    last = line;
  EXPECT_EQ(last, R"({"delivered":3,"failed":1,"skipped":1,"total":5,"done":true})"
                  "\n");
  client.send(get("/v1/status"));  // the connection goes on
  EXPECT_EQ(client.read_response().status, 200);
}

TEST_F(IntakeTest, RetryStopsWhenTheClientGoesAway) {
  start();
  for (const std::string accept : {"application/x-ndjson", "application/json"}) {
    backend_.retry_until_stopped();
    {
      IntakeClient client = connect();
      client.send("POST /v1/failed/retry HTTP/1.1\r\nHost: a\r\nAccept: " + accept + "\r\n\r\n");
      backend_.wait_for_retry();
    }
    EXPECT_TRUE(backend_.wait_for_retry_end());
  }
}

// Whoever sends a request and a FIN, as `nc -N` does, got no answer, and its run was stopped.
TEST_F(IntakeTest, RetryAnswersAClientThatHasFinishedSending) {
  start();
  backend_.retry_steps = {{3, 1, 1, 5}};
  backend_.hold_retry();
  IntakeClient client = connect();
  client.send(request("POST", "/v1/failed/retry"));
  backend_.wait_for_retry();
  client.finish_sending();
  EXPECT_EQ(client.read_response().status, 100);  // asks whether anybody is there
  backend_.release_all();
  const Response response = client.read_response();
  EXPECT_EQ(response.status, 200);
  EXPECT_EQ(response.body, R"({"delivered":3,"failed":1,"skipped":1})");
}

// It went on for nobody, and held a worker.
TEST_F(IntakeTest, ABackupEndsWhenTheClientGoesAway) {
  test::TempDirectory directory;
  options_.unix_socket = directory.file("sock");
  start();
  backend_.hold_backup();
  {
    IntakeClient client(options_.unix_socket);
    client.send(request("POST", "/v1/store/backup?path=/backup.db"));
    backend_.wait_for_backup();
  }
  EXPECT_TRUE(backend_.wait_for_backup_stop());
  backend_.release_all();
}

TEST_F(IntakeTest, BlockingCallsDoNotBlockIntake) {
  start();
  backend_.hold_retry();
  backend_.retry_steps = {{0, 0, 0, 0}, {0, 0, 0, 0}};
  std::vector<IntakeClient> clients;
  for (int i = 0; i < 2; ++i) {
    clients.push_back(connect());
    clients.back().send(request("POST", "/v1/failed/retry"));
  }
  // Asked in turn with the others on one thread: the third run finds the two under way.
  IntakeClient third = connect();
  backend_.wait_for_retry(2);
  third.send(request("POST", "/v1/failed/retry"));
  EXPECT_EQ(third.read_response().status, 503);
  EXPECT_EQ(ask(post("/v1/hooks", one_hook)).status, 202);
  EXPECT_EQ(ask(request("POST", "/v1/flush")).status, 200);
  backend_.release_all();
  for (IntakeClient& client : clients) EXPECT_EQ(client.read_response().status, 200);
}

}  // namespace
}  // namespace postbag

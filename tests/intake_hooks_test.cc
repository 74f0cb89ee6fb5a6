// POST /v1/hooks over real sockets: bodies, errors, ?wait=delivered.
#include <atomic>
#include <memory>
#include <string>
#include <tuple>
#include <vector>

#include "postbag/outcome.h"
#include "tests/support/eventually.h"
#include "tests/support/intake_fixture.h"
#include "tests/support/temp_directory.h"

namespace postbag {
namespace {

using test::fake_id;
using test::get;
using test::IntakeClient;
using test::IntakeTest;
using test::one_hook;
using test::post;
using test::Response;
using testing::HasSubstr;
using testing::StartsWith;

// POST /v1/hooks

TEST_F(IntakeTest, OneHookIsAccepted) {
  start();
  const Response response = ask(post("/v1/hooks", one_hook));
  EXPECT_EQ(response.status, 202);
  EXPECT_EQ(response.field("Content-Type"), "application/json");
  EXPECT_THAT(response.field("Date"), HasSubstr(" GMT"));
  EXPECT_EQ(response.body, R"({"accepted":1,"duplicates":0,"ids":[")" + fake_id(0) +
                               R"("],"durability":"fsync"})");
  const auto hooks = backend_.hooks();
  ASSERT_EQ(hooks.size(), 1u);
  EXPECT_EQ(hooks[0].target, "https://a/");
  EXPECT_EQ(hooks[0].body, R"({"n":1})");
}

TEST_F(IntakeTest, KeepAliveServesOneAfterTheOther) {
  start();
  IntakeClient client = connect();
  for (int i = 0; i < 100; ++i) {
    client.send(post("/v1/hooks", R"({"target":"t","data":)" + std::to_string(i) + "}"));
    ASSERT_EQ(client.read_response().status, 202) << i;
  }
  const auto hooks = backend_.hooks();
  ASSERT_EQ(hooks.size(), 100u);
  EXPECT_EQ(hooks[99].body, "99");
}

TEST_F(IntakeTest, PipelinedRequestsAreAnsweredInOrder) {
  start();
  IntakeClient client = connect();
  std::string requests;
  for (int i = 0; i < 1000; ++i) {
    requests +=
        post("/v1/hooks", R"({"target":"t","id":"i)" + std::to_string(i) + R"(","data":1})");
    if (i % 3 == 0) requests += get("/v1/nothing");
  }
  client.send(requests);
  for (int i = 0; i < 1000; ++i) {
    const Response response = client.read_response();
    ASSERT_EQ(response.status, 202) << i;
    ASSERT_THAT(response.body, HasSubstr("\"i" + std::to_string(i) + "\"")) << i;
    if (i % 3 == 0) {
      ASSERT_EQ(client.read_response().status, 404);
    }
  }
}

TEST_F(IntakeTest, ARequestMayArriveByteByByte) {
  start();
  IntakeClient client = connect();
  for (const char c : post("/v1/hooks", one_hook)) client.send(std::string(1, c));
  EXPECT_EQ(client.read_response().status, 202);
  client.send("\r\n" + get("/v1/status"));  // an empty line between requests is let pass
  EXPECT_EQ(client.read_response().status, 200);
}

TEST_F(IntakeTest, ArrayOfAThousand) {
  start();
  std::string body = "[";
  for (int i = 0; i < 1000; ++i) {
    body += (i == 0 ? "" : ",") + (R"({"target":"t","data":)" + std::to_string(i));
    body += i % 2 == 0 ? R"(,"id":"own-)" + std::to_string(i) + "\"}" : "}";
  }
  body += "]";
  const Response response = ask(post("/v1/hooks", body, "application/json; charset=utf-8"));
  EXPECT_EQ(response.status, 202);
  EXPECT_THAT(response.body, StartsWith(R"({"accepted":1000,"duplicates":0,"ids":["own-0",")" +
                                        fake_id(1) + R"(","own-2",")" + fake_id(3) + "\","));
  const auto hooks = backend_.hooks();
  ASSERT_EQ(hooks.size(), 1000u);
  EXPECT_EQ(hooks[999].body, "999");
  EXPECT_EQ(backend_.calls(), 1u);
}

TEST_F(IntakeTest, TenThousandLines) {
  start();
  std::string body;
  std::string ids;
  for (int i = 0; i < 10'000; ++i) {
    body += R"({"target":"https://a/","data":{"n":)" + std::to_string(i) + R"(,"text":")" +
            std::string(200, 'x') + "\"}}\n";
    ids += (i == 0 ? "\"" : ",\"") + fake_id(static_cast<std::size_t>(i)) + "\"";
  }
  const Response response = ask(post("/v1/hooks", body, "application/x-ndjson"));
  EXPECT_EQ(response.status, 202);
  EXPECT_EQ(response.body,
            R"({"accepted":10000,"duplicates":0,"ids":[)" + ids + R"(],"durability":"fsync"})");
  const auto hooks = backend_.hooks();
  ASSERT_EQ(hooks.size(), 10'000u);
  EXPECT_THAT(hooks[9999].body, StartsWith("{\"n\":9999,"));
}

TEST_F(IntakeTest, ChunkedBody) {
  start();
  IntakeClient client = connect();
  client.send(
      "POST /v1/hooks HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
      "Transfer-Encoding: chunked\r\n\r\n");
  for (const char* c = one_hook; *c != '\0'; ++c) client.send(std::string("1\r\n") + *c + "\r\n");
  client.send("0\r\n\r\n" + get("/v1/status"));
  EXPECT_EQ(client.read_response().status, 202);
  EXPECT_EQ(client.read_response().status, 200);
  ASSERT_EQ(backend_.hooks().size(), 1u);
  EXPECT_EQ(backend_.hooks()[0].body, R"({"n":1})");
}

TEST_F(IntakeTest, RawPayload) {
  start();
  const Response response =
      ask(post("/v1/hooks", "{ \"a\": 1 }", "text/plain",
               "Postbag-Target: https://a/\r\nPostbag-Event: push\r\nPostbag-Group: g\r\n"
               "Idempotency-Key: key-1\r\nX-Other: not forwarded\r\n"));
  EXPECT_EQ(response.status, 202);
  EXPECT_THAT(response.body, HasSubstr(R"("ids":["key-1"])"));
  const auto hooks = backend_.hooks();
  ASSERT_EQ(hooks.size(), 1u);
  EXPECT_EQ(hooks[0].body, "{ \"a\": 1 }");
  EXPECT_EQ(hooks[0].event, "push");
  EXPECT_EQ(hooks[0].group, "g");
  EXPECT_EQ(hooks[0].id, "key-1");
  EXPECT_EQ(hooks[0].content_type, "text/plain");
  EXPECT_TRUE(hooks[0].headers.empty());
  EXPECT_EQ(ask(post("/v1/hooks", "1", "text/plain")).status, 422);
  EXPECT_EQ(ask(post("/v1/hooks", "1", "text/plain",
                     "Postbag-Target: https://a/\r\nPostbag-Target: https://b/\r\n"))
                .status,
            422);
}

// They were passed over: whoever repeated a call with an Idempotency-Key had delivered twice.
TEST_F(IntakeTest, HeadersOfARawPayloadAreRefusedBesideJson) {
  start();
  const std::vector<std::pair<std::string, std::string>> names = {{"idempotency-key", "'id'"},
                                                                  {"Postbag-Target", "'target'"},
                                                                  {"Postbag-Event", "'event'"},
                                                                  {"POSTBAG-GROUP", "'group'"}};
  for (const auto& [name, key] : names) {
    for (const char* type : {"application/json; charset=utf-8", "application/x-ndjson"}) {
      const Response response = ask(post("/v1/hooks", one_hook, type, name + ": k\r\n"));
      EXPECT_EQ(response.status, 422) << name;
      EXPECT_THAT(response.body, StartsWith(R"({"error":{"code":"bad_hook",)"));
      EXPECT_THAT(response.body, HasSubstr("has the key " + key));
    }
  }
  EXPECT_EQ(backend_.calls(), 0u);
  EXPECT_EQ(ask(post("/v1/hooks", one_hook, "application/json", "Postbag-Else: k\r\n")).status,
            202);
}

// They were passed over: a misspelt event or id was lost without a word.
TEST_F(IntakeTest, UnknownPostbagHeadersOfARawPayloadAreRefused) {
  start();
  const std::string target = "Postbag-Target: https://a/\r\n";
  for (const std::string name : {"Postbag-Evnt", "postbag-id", "POSTBAG-", "Postbag-Target-Id"}) {
    const Response response = ask(post("/v1/hooks", "1", "text/plain", target + name + ": k\r\n"));
    EXPECT_EQ(response.status, 422) << name;
    EXPECT_THAT(response.body, StartsWith(R"({"error":{"code":"bad_hook",)"));
    EXPECT_THAT(response.body, HasSubstr("known are Postbag-Target, Postbag-Event"));
  }
  EXPECT_EQ(backend_.calls(), 0u);
  EXPECT_EQ(ask(post("/v1/hooks", "1", "text/plain", target + "Postbagger: k\r\n")).status, 202);
}

// The message spoke of an id, and of no header.
TEST_F(IntakeTest, AQuotedIdempotencyKeyIsToldThatItIsQuoted) {
  start();
  const std::string fields = "Postbag-Target: https://a/\r\nIdempotency-Key: \"8e03978e-40d5\"\r\n";
  const Response response = ask(post("/v1/hooks", "1", "text/plain", fields));
  EXPECT_EQ(response.status, 422);
  EXPECT_THAT(response.body, HasSubstr("Idempotency-Key must be 1 to 64 characters"));
  EXPECT_THAT(response.body, HasSubstr("without quotes"));
  EXPECT_EQ(backend_.calls(), 0u);
}

// curl calls what it sends a form; the answer named only the way that was not meant.
TEST_F(IntakeTest, ARefusedFirstContactSaysWhatWasTakenForWhat) {
  start();
  const std::vector<std::tuple<std::string, std::string, std::string>> cases = {
      {one_hook, "application/x-www-form-urlencoded",
       "with Content-Type application/x-www-form-urlencoded the body is one raw payload, which "
       "needs the header Postbag-Target; hooks as JSON need Content-Type application/json"},
      {one_hook, "a/" + std::string(200, 'x'), "\"with this Content-Type the body is one raw "},
      {R"({"event":"e","x":1})", "application/json",
       "a hook has an unknown key; allowed are target, data, event, group, id, headers"},
  };
  for (const auto& [body, type, message] : cases) {
    EXPECT_THAT(ask(post("/v1/hooks", body, type)).body, HasSubstr(message));
  }
}

TEST_F(IntakeTest, ErrorsOfTheBody) {
  start();
  const std::vector<std::tuple<std::string, int, std::string>> cases = {
      {post("/v1/hooks", "{"), 400, R"("code":"bad_json")"},
      {post("/v1/hooks", ""), 422, R"("code":"empty")"},
      {post("/v1/hooks", "[]"), 422, R"("code":"empty")"},
      {post("/v1/hooks", std::string("[") + one_hook + ",{}]"), 422, R"("index":1)"},
      {post("/v1/hooks", "not json", "text/plain", "Postbag-Target: t\r\n"), 422,
       R"("code":"not_json")"},
      {post("/v1/hooks", "1", "text/plain", "Postbag-Target: https://a/\r\nIdempotency-Key:\r\n"),
       422, R"("index":0)"},
      {post("/v1/hooks", one_hook, "nonsense"), 415, R"("code":"content_type")"},
      {post("/v1/hooks", one_hook, "application/json", "Content-Encoding: gzip\r\n"), 415,
       R"("code":"content_type")"},
      {"POST /v1/hooks HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}", 415, "content_type"},
      {post("/v1/hooks?wait=always", one_hook), 400, R"("code":"bad_query")"},
      {post("/v1/hooks?timeout=5", one_hook), 400, R"("code":"bad_query")"},
      {post("/v1/hooks?wait=delivered&timeout=11m", one_hook), 400, R"("code":"bad_query")"},
      {post("/v1/hooks?weit=delivered", one_hook), 400, R"("code":"bad_query")"},
  };
  for (const auto& [text, status, code] : cases) {
    const Response response = ask(text);
    EXPECT_EQ(response.status, status) << text;
    EXPECT_THAT(response.body, StartsWith(R"({"error":{"code":")")) << text;
    EXPECT_THAT(response.body, HasSubstr(code)) << text;
  }
  EXPECT_EQ(backend_.calls(), 0u);
}

TEST_F(IntakeTest, ErrorsOfTheEngine) {
  start();
  const std::vector<std::tuple<Errc, int, bool>> cases = {
      {Errc::bad_hook, 422, true},      {Errc::not_json, 422, true},
      {Errc::too_large, 413, true},     {Errc::url_syntax, 422, true},
      {Errc::header, 422, true},        {Errc::target_forbidden, 422, true},
      {Errc::id_conflict, 409, true},   {Errc::full, 503, false},
      {Errc::stopping, 503, false},     {Errc::disk_low, 507, false},
      {Errc::store_failed, 503, false},
  };
  for (const auto& [errc, status, index] : cases) {
    SubmitResult result;
    result.error = errc;
    result.index = 7;
    result.message = "because";
    backend_.answer_next_with(result);
    const Response response = ask(post("/v1/hooks", one_hook));
    EXPECT_EQ(response.status, status);
    EXPECT_EQ(response.body, R"({"error":{"code":")" + std::string(error_token(errc)) +
                                 R"(","message":"because")" + (index ? R"(,"index":7}})" : "}}"));
    EXPECT_EQ(response.field("Retry-After"), status == 503 ? "1" : "") << response.body;
  }
}

// Hook 0 was named: a producer that leaves out what is named leaves out all, one by one.
TEST_F(IntakeTest, AnErrorOfTheWholeCallNamesNoHook) {
  start();
  SubmitResult result;
  result.error = Errc::too_large;
  result.index = SubmitResult::whole_call;
  result.message = "because";
  backend_.answer_next_with(result);
  EXPECT_EQ(ask(post("/v1/hooks", one_hook)).body,
            R"({"error":{"code":"too_large","message":"because"}})");
}

TEST_F(IntakeTest, TooLargeIsRefusedBeforeItIsRead) {
  options_.max_body = 100;
  start();
  const std::string exact = R"({"target":"t","data":")" + std::string(76, 'x') + "\"}";
  ASSERT_EQ(exact.size(), 100u);
  EXPECT_EQ(ask(post("/v1/hooks", exact)).status, 202);

  IntakeClient client = connect();
  client.send(
      "POST /v1/hooks HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
      "Content-Length: 101\r\nExpect: 100-continue\r\n\r\n");
  const Response response = client.read_response();
  EXPECT_EQ(response.status, 413);
  EXPECT_THAT(response.body, HasSubstr(R"("code":"too_large")"));
  EXPECT_EQ(response.field("Connection"), "close");
  EXPECT_TRUE(client.at_end());

  EXPECT_EQ(ask("POST /v1/hooks HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
                "Transfer-Encoding: chunked\r\n\r\n65\r\n")
                .status,
            413);
}

TEST_F(IntakeTest, TheAnswerToATooLargeBodyIsNotLost) {
  options_.max_body = 1000;
  start();
  IntakeClient client = connect();
  // Far more than the socket buffers hold: the server must take it off before it closes.
  client.send(post("/v1/hooks", std::string(8 << 20, ' ')));
  EXPECT_EQ(client.read_response().status, 413);
}

// The connection was closed so long after the answer, whatever still came, and the answer lost.
TEST_F(IntakeTest, AnEarlyAnswerWaitsForTheEndOfASlowBody) {
  struct Clock {
    std::atomic<TimePoint> time{TimePoint(std::chrono::hours(1))};
    std::atomic<int> looks{0};
  };
  const auto clock = std::make_shared<Clock>();
  const test::TempDirectory directory;
  options_.max_body = 1000;
  options_.limits.linger_timeout = std::chrono::seconds(2);
  options_.sweep_interval = std::chrono::milliseconds(1);
  options_.unix_socket = directory.file("sock");
  options_.clock = [clock] {
    clock->looks += 1;
    return clock->time.load();
  };
  start();
  // Returns when the server has looked at all deadlines since.
  const auto pass = [&](Duration duration) {
    clock->time = clock->time.load() + duration;
    const int before = clock->looks;
    EXPECT_TRUE(test::eventually([&] { return clock->looks >= before + 3; }));
  };
  IntakeClient client(options_.unix_socket);
  client.send(
      "POST /v1/hooks HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
      "Content-Length: 60000000\r\n\r\n");
  ASSERT_TRUE(test::eventually([&] { return client.has_input(); }));
  for (int part = 0; part < 4; ++part) {
    client.send(" ");
    ASSERT_TRUE(test::eventually([&] { return client.unread_bytes() == 0; }));
    pass(std::chrono::milliseconds(1'500));
    ASSERT_FALSE(client.is_closed()) << part;
  }
  EXPECT_EQ(client.read_response().status, 413);
  pass(options_.limits.linger_timeout);
  EXPECT_TRUE(test::eventually([&] { return client.is_closed(); }));
}

TEST_F(IntakeTest, BodiesInFlightAreBounded) {
  options_.max_body = 1000;
  options_.bodies_bytes_max = 0;  // two of the largest
  start();
  backend_.hold_submits();
  const std::string body = R"({"target":"t","data":")" + std::string(850, 'x') + "\"}";
  IntakeClient first = connect();
  IntakeClient second = connect();
  first.send(post("/v1/hooks", body));
  backend_.wait_for_calls(1);
  second.send(post("/v1/hooks", body));
  backend_.wait_for_calls(2);
  const Response refused = ask(post("/v1/hooks", body));
  EXPECT_EQ(refused.status, 503);
  EXPECT_THAT(refused.body, HasSubstr(R"("code":"full")"));
  EXPECT_THAT(refused.body, HasSubstr(" bytes that they may have at a time"));
  backend_.release_all();
  EXPECT_EQ(first.read_response().status, 202);
  EXPECT_EQ(second.read_response().status, 202);
  EXPECT_EQ(ask(post("/v1/hooks", body)).status, 202);
}

TEST_F(IntakeTest, ExpectContinue) {
  start();
  IntakeClient client = connect();
  const std::string body = one_hook;
  client.send(
      "POST /v1/hooks HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
      "Expect: 100-continue\r\nContent-Length: " +
      std::to_string(body.size()) + "\r\n\r\n");
  EXPECT_EQ(client.read_response().status, 100);
  client.send(body);
  EXPECT_EQ(client.read_response().status, 202);
}

// ?wait=delivered

TEST_F(IntakeTest, WaitUntilAllAreDelivered) {
  start();
  IntakeClient client = connect();
  client.send(post("/v1/hooks?wait=delivered&timeout=10m",
                   R"([{"target":"t","data":1,"id":"a"},{"target":"t","data":2}])"));
  backend_.wait_for_calls(1);
  const auto listener = backend_.listener();
  ASSERT_TRUE(listener);
  EXPECT_TRUE(listener->hook_done(1, {true, Reason::none, 204}));
  EXPECT_TRUE(listener->hook_done(0, {true, Reason::none, 200}));
  const Response response = client.read_response();
  EXPECT_EQ(response.status, 200);
  EXPECT_EQ(response.body,
            R"({"accepted":2,"duplicates":0,"ids":["a",")" + fake_id(1) +
                R"("],"durability":"fsync","outcomes":[)"
                R"({"id":"a","state":"delivered","reason":"","status":200},{"id":")" +
                fake_id(1) + R"(","state":"delivered","reason":"","status":204}]})");
}

// Of a repeat whose hook was delivered before: its answer is not remembered, and was not 0.
TEST_F(IntakeTest, ARepeatThatWasDeliveredBeforeHasNoStatus) {
  start();
  IntakeClient client = connect();
  client.send(post("/v1/hooks?wait=delivered", R"({"target":"t","data":1,"id":"a"})"));
  backend_.wait_for_calls(1);
  EXPECT_TRUE(backend_.listener()->hook_done(0, {true, Reason::none, 0}));
  EXPECT_THAT(
      client.read_response().body,
      HasSubstr(R"("outcomes":[{"id":"a","state":"delivered","reason":"","status":null}])"));
}

TEST_F(IntakeTest, WaitTakesOverWhatFails) {
  start();
  backend_.hold_submits();  // outcomes may come before the answer to submit()
  IntakeClient client = connect();
  client.send(post("/v1/hooks?wait=delivered",
                   R"([{"target":"t","data":1,"id":"a"},{"target":"t","data":2,"id":"b"}])"));
  backend_.wait_for_calls(1);
  const auto listener = backend_.listener();
  EXPECT_TRUE(listener->hook_done(0, {true, Reason::none, 200}));
  EXPECT_TRUE(listener->hook_done(1, {false, Reason::status, 503}));
  listener->hook_settled(1);
  backend_.release_all();
  const Response response = client.read_response();
  EXPECT_EQ(response.status, 502);
  EXPECT_THAT(response.body,
              StartsWith(R"({"error":{"code":"not_delivered","message":"1 of 2 hooks could not be )"
                         R"(delivered; they are not kept, but for ids that another call relies)"));
  EXPECT_THAT(response.body,
              HasSubstr(R"("outcomes":[{"id":"a","state":"delivered","reason":"","status":200},)"
                        R"({"id":"b","state":"failed","reason":"status_503","status":503}])"));
  EXPECT_FALSE(listener->hook_done(1, {false, Reason::status, 503}));
}

// Only a hook with an id can be another call's too.
TEST_F(IntakeTest, WaitSaysThatAHookWithoutAnIdIsNotKept) {
  start();
  IntakeClient client = connect();
  client.send(post("/v1/hooks?wait=delivered", R"({"target":"t","data":1})"));
  backend_.wait_for_calls(1);
  EXPECT_TRUE(backend_.listener()->hook_done(0, {false, Reason::status, 503}));
  backend_.listener()->hook_settled(0);
  EXPECT_THAT(client.read_response().body, HasSubstr(R"(delivered; they are not kept"})"));
}

// "Not kept" was said before the store had let go of it.
TEST_F(IntakeTest, WaitSaysThatAHookIsNotKeptOnceItIsGone) {
  start();
  IntakeClient client = connect();
  client.send(post("/v1/hooks?wait=delivered&timeout=10m",
                   R"([{"target":"t","data":1,"id":"a"},{"target":"t","data":2,"id":"b"}])"));
  backend_.wait_for_calls(1);
  const auto listener = backend_.listener();
  EXPECT_TRUE(listener->hook_done(1, {false, Reason::status, 503}));
  EXPECT_TRUE(listener->hook_done(0, {true, Reason::none, 200}));
  for (int turn = 0; turn < 3; ++turn) EXPECT_EQ(ask(get("/healthz/live")).status, 200);
  EXPECT_FALSE(client.has_input());
  listener->hook_settled(1);
  EXPECT_EQ(client.read_response().status, 502);
}

TEST_F(IntakeTest, WaitEndsAtItsTimeout) {
  start();
  IntakeClient client = connect();
  client.send(post("/v1/hooks?wait=delivered&timeout=50ms",
                   R"([{"target":"t","data":1,"id":"a"},{"target":"t","data":2,"id":"b"}])"));
  const Response response = client.read_response();
  EXPECT_EQ(response.status, 504);
  EXPECT_THAT(response.body, HasSubstr(R"("code":"timeout")"));
  EXPECT_THAT(response.body, HasSubstr(R"("accepted":2)"));
  EXPECT_THAT(response.body, HasSubstr(R"("outcomes":[])"));
  // What fails from now on is kept.
  EXPECT_FALSE(backend_.listener()->hook_done(0, {false, Reason::status, 500}));
}

// It waited for its whole timeout, and said then that they had no outcome yet.
TEST_F(IntakeTest, WaitEndsAtOnceWhereNothingIsRemembered) {
  start();
  IntakeClient client = connect();
  client.send(post("/v1/hooks?wait=delivered&timeout=10m",
                   R"([{"target":"t","data":1,"id":"a"},{"target":"t","data":2,"id":"b"}])"));
  backend_.wait_for_calls(1);
  const auto listener = backend_.listener();
  listener->hook_forgotten(0);
  listener->hook_forgotten(0);
  for (int turn = 0; turn < 3; ++turn) EXPECT_EQ(ask(get("/healthz/live")).status, 200);
  EXPECT_FALSE(client.has_input());
  EXPECT_TRUE(listener->hook_done(1, {true, Reason::none, 200}));
  const Response response = client.read_response();
  EXPECT_EQ(response.status, 504);
  EXPECT_THAT(response.body,
              StartsWith(R"({"error":{"code":"not_remembered","message":"of 1 of 2 hooks the )"
                         R"(outcome is not remembered: they were delivered before the start)"));
  EXPECT_THAT(response.body,
              HasSubstr(R"("outcomes":[{"id":"b","state":"delivered","reason":"","status":200}])"));
}

TEST_F(IntakeTest, WaitSaysAtItsTimeoutWhatIsOpenAndWhatIsNotRemembered) {
  start();
  backend_.hold_submits();  // until the timeout is over
  IntakeClient client = connect();
  client.send(post("/v1/hooks?wait=delivered&timeout=1ms",
                   R"([{"target":"t","data":1,"id":"a"},{"target":"t","data":2,"id":"b"}])"));
  backend_.wait_for_calls(1);
  backend_.listener()->hook_forgotten(1);
  backend_.release_all();
  const Response response = client.read_response();
  EXPECT_EQ(response.status, 504);
  EXPECT_THAT(response.body,
              StartsWith(R"({"error":{"code":"timeout","message":"1 of 2 hooks have no outcome )"
                         R"(yet; they stay accepted; of 1 of 2 hooks the outcome is not )"));
}

TEST_F(IntakeTest, WaitAnswersARefusalAtOnce) {
  start();
  SubmitResult full;
  full.error = Errc::full;
  backend_.answer_next_with(full);
  EXPECT_EQ(ask(post("/v1/hooks?wait=delivered", one_hook)).status, 503);
}

TEST_F(IntakeTest, WaitAnswersAClientThatHasFinishedSending) {
  start();
  IntakeClient client = connect();
  client.send(post("/v1/hooks?wait=delivered&timeout=10m", one_hook));
  client.finish_sending();
  EXPECT_EQ(client.read_response().status, 100);  // asks whether anybody is there
  EXPECT_TRUE(backend_.listener()->hook_done(0, {true, Reason::none, 200}));
  EXPECT_EQ(client.read_response().status, 200);
  EXPECT_TRUE(client.at_end());
}

// It may be gone: nobody would keep the hook then.
TEST_F(IntakeTest, WaitTakesNothingOverForAClientThatHasFinishedSending) {
  start();
  IntakeClient client = connect();
  client.send(post("/v1/hooks?wait=delivered&timeout=10m",
                   R"([{"target":"t","data":1,"id":"a"},{"target":"t","data":2,"id":"b"}])"));
  client.finish_sending();
  EXPECT_EQ(client.read_response().status, 100);
  EXPECT_TRUE(backend_.listener()->hook_done(1, {true, Reason::none, 200}));
  EXPECT_FALSE(backend_.listener()->hook_done(0, {false, Reason::status, 503}));
  EXPECT_FALSE(backend_.listener()->hook_done(0, {false, Reason::status, 503}));
  const Response response = client.read_response();
  EXPECT_EQ(response.status, 504);
  EXPECT_THAT(response.body, HasSubstr("they stay accepted"));
  EXPECT_THAT(response.body,
              HasSubstr(R"("outcomes":[{"id":"b","state":"delivered","reason":"","status":200}])"));
}

TEST_F(IntakeTest, WaitLetsGoWhenTheClientIsGone) {
  start();
  {
    IntakeClient client = connect();
    client.send(post("/v1/hooks?wait=delivered", one_hook));
    backend_.wait_for_calls(1);
  }
  // The server notices by itself and lets go of the listener; then a failed hook is not taken over
  // any more.
  const auto listener = backend_.listener();
  while (listener.use_count() > 2) {
    EXPECT_EQ(ask(get("/healthz/live")).status, 200);  // each round trip gives its thread a turn
  }
  EXPECT_FALSE(listener->hook_done(0, {false, Reason::status, 500}));
}

}  // namespace
}  // namespace postbag

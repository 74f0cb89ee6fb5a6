// The intake server over real sockets, in front of an engine that does as the test says.
#include "cli/intake/server.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <string>
#include <system_error>
#include <vector>

#include "postbag/outcome.h"
#include "tests/support/fake_intake_backend.h"
#include "tests/support/intake_client.h"
#include "tests/support/temp_directory.h"

namespace postbag {
namespace {

using test::fake_id;
using test::FakeIntakeBackend;
using test::IntakeClient;
using test::make_stale_unix_socket;
using test::Response;
using test::TempDirectory;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

class IntakeTest : public testing::Test {
 protected:
  void SetUp() override {
    options_.listen = "127.0.0.1:0";
    options_.durability = Durability::fsync;
  }
  void TearDown() override {
    backend_.release_all();
    if (server_) server_->stop();
  }

  IntakeServer& start() {
    server_ = std::make_unique<IntakeServer>(backend_, options_);
    server_->start();
    return *server_;
  }
  IntakeClient connect() { return IntakeClient(server_->port()); }
  // One request on a connection of its own.
  Response ask(const std::string& request) {
    IntakeClient client = connect();
    client.send(request);
    return client.read_response();
  }

  FakeIntakeBackend backend_;
  IntakeServerOptions options_;
  std::unique_ptr<IntakeServer> server_;
};

std::string post(const std::string& path, const std::string& body,
                 const std::string& type = "application/json", const std::string& fields = "") {
  return "POST " + path + " HTTP/1.1\r\nHost: a\r\nContent-Type: " + type +
         "\r\nContent-Length: " + std::to_string(body.size()) + "\r\n" + fields + "\r\n" + body;
}
std::string get(const std::string& path, const std::string& fields = "") {
  return "GET " + path + " HTTP/1.1\r\nHost: a\r\n" + fields + "\r\n";
}
std::string request(const std::string& method, const std::string& path) {
  return method + " " + path + " HTTP/1.1\r\nHost: a\r\n\r\n";
}

constexpr const char* one_hook = R"({"target":"https://a/","data":{"n":1}})";

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

TEST_F(IntakeTest, ErrorsOfTheBody) {
  start();
  const std::vector<std::tuple<std::string, int, std::string>> cases = {
      {post("/v1/hooks", "{"), 400, R"("code":"bad_json")"},
      {post("/v1/hooks", ""), 422, R"("code":"empty")"},
      {post("/v1/hooks", "[]"), 422, R"("code":"empty")"},
      {post("/v1/hooks", std::string("[") + one_hook + ",{}]"), 422, R"("index":1)"},
      {post("/v1/hooks", "not json", "text/plain", "Postbag-Target: t\r\n"), 422,
       R"("code":"not_json")"},
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
  options_.max_body = 1000;
  options_.linger_timeout = std::chrono::milliseconds(500);
  options_.sweep_interval = std::chrono::milliseconds(5);
  start();
  IntakeClient client = connect();
  client.send(
      "POST /v1/hooks HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
      "Content-Length: 60000000\r\n\r\n");
  const auto end = std::chrono::steady_clock::now() + 2 * options_.linger_timeout;
  while (std::chrono::steady_clock::now() < end) client.send(" ");
  EXPECT_EQ(client.read_response().status, 413);
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

// Framing

TEST_F(IntakeTest, SmuggledRequestsAreNeverServed) {
  start();
  const std::string smuggled = post("/v1/hooks", one_hook);
  const std::string line = "POST /v1/hooks HTTP/1.1\r\n";
  const std::string good = "Host: a\r\nContent-Type: application/json\r\n";
  const std::vector<std::string> heads = {
      line + good + "Transfer-Encoding: xchunked\r\n\r\n",
      line + good + "Transfer-Encoding: chunked, identity\r\n\r\n",
      line + good + "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n",
      line + good + "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
      line + good + "Content-Length: 0\r\nContent-Length: 5\r\n\r\n",
      line + good + "Content-Length: 0, 0\r\n\r\n",
      line + good + "Content-Length: +0\r\n\r\n",
      line + good + "Content-Length : 0\r\n\r\n",
      line + good + "X: a\r\n Content-Length: 5\r\n\r\n",
      line + good + "X: a\nContent-Length: 0\r\n\r\n",
      line + good + "X: a\rContent-Length: 0\r\n\r\n",
      line + good + "Host: b\r\n\r\n",
      line + "Content-Type: application/json\r\n\r\n",
      "POST /v1/hooks HTTP/1.0\r\n" + good + "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
      line + good + "Transfer-Encoding: chunked\r\n\r\n0;x=y\r\n\r\n",
      line + good + "Transfer-Encoding: chunked\r\n\r\n1\nx0\r\n\r\n",
      "GET http://a/v1/status HTTP/1.1\r\n" + good + "\r\n",
      line + good + std::string("X: \0\r\n\r\n", 8),
      "GET / HTTP/1.1\nHost: a\n\n",
  };
  for (const std::string& head : heads) {
    IntakeClient client = connect();
    client.send(head + smuggled);
    const Response response = client.read_response();
    EXPECT_EQ(response.status, 400) << head;
    EXPECT_EQ(response.field("Connection"), "close") << head;
    EXPECT_TRUE(client.at_end()) << head;  // no second answer
  }
  EXPECT_EQ(backend_.calls(), 0u);
}

TEST_F(IntakeTest, UnreadBodiesAreNotTakenForRequests) {
  start();
  const std::string smuggled = post("/v1/hooks", one_hook);
  for (const std::string& path : {std::string("/v1/nothing"), std::string("/v1/status")}) {
    IntakeClient client = connect();
    client.send(post(path, smuggled));
    const Response response = client.read_response();
    EXPECT_THAT(response.status, testing::AnyOf(404, 405));
    EXPECT_TRUE(client.at_end());
  }
  EXPECT_EQ(backend_.calls(), 0u);
}

TEST_F(IntakeTest, HeadsAreLimited) {
  start();
  EXPECT_EQ(ask("GET /" + std::string(20'000, 'a')).status, 431);
  std::string fields;
  for (int i = 0; i < 100; ++i) fields += "X: a\r\n";
  EXPECT_EQ(ask(get("/v1/status", fields)).status, 431);
  EXPECT_EQ(ask("\x16\x03\x01\x02").status,
            400);  // TLS on the plain port: at once, not after a timeout
}

TEST_F(IntakeTest, Http10) {
  start();
  IntakeClient client = connect();
  client.send("GET /v1/status HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
  Response response = client.read_response();
  EXPECT_EQ(response.status, 200);
  EXPECT_EQ(response.field("Connection"), "keep-alive");
  client.send("GET /v1/status HTTP/1.0\r\n\r\n");
  response = client.read_response();
  EXPECT_EQ(response.field("Connection"), "close");
  EXPECT_TRUE(client.at_end());
}

TEST_F(IntakeTest, SlowClients) {
  options_.head_timeout = options_.body_timeout = std::chrono::milliseconds(20);
  options_.sweep_interval = std::chrono::milliseconds(5);
  start();
  EXPECT_EQ(ask("GET /v1/st").status, 408);
  const std::string whole = post("/v1/hooks", one_hook);
  const Response response = ask(whole.substr(0, whole.size() - 1));
  EXPECT_EQ(response.status, 408);
  EXPECT_EQ(response.field("Connection"), "close");
  EXPECT_EQ(backend_.calls(), 0u);
}

TEST_F(IntakeTest, IdleConnectionsAreClosedWithoutAWord) {
  options_.idle_timeout = std::chrono::milliseconds(20);
  options_.sweep_interval = std::chrono::milliseconds(5);
  start();
  IntakeClient client = connect();
  EXPECT_TRUE(client.at_end());
}

TEST_F(IntakeTest, ConnectionsAreCapped) {
  options_.connections_max = 2;
  start();
  IntakeClient first = connect();
  IntakeClient second = connect();
  first.send(get("/healthz/live"));
  second.send(get("/healthz/live"));
  EXPECT_EQ(first.read_response().status, 200);
  EXPECT_EQ(second.read_response().status, 200);
  IntakeClient third = connect();
  EXPECT_TRUE(third.at_end());
  first.send(get("/healthz/live"));
  EXPECT_EQ(first.read_response().status, 200);
}

// Tokens, routes

TEST_F(IntakeTest, AWebPageOfAnotherOriginIsRefused) {
  start();
  for (const std::string& field :
       {std::string("Origin: https://evil.example\r\n"), std::string("oRIGIN: null\r\n"),
        std::string("Sec-Fetch-Site: cross-site\r\n"), std::string("Sec-Fetch-Site: same-site\r\n"),
        std::string("Sec-Fetch-Site: none\r\nSec-Fetch-Site: cross-site\r\n")}) {
    for (const char* path : {"/v1/hooks", "/v1/flush", "/v1/failed/retry"}) {
      const Response response = ask(post(path, "1", "text/plain", field));
      EXPECT_EQ(response.status, 403) << path << field;
      EXPECT_THAT(response.body, HasSubstr("\"origin\"")) << path << field;
    }
  }
  EXPECT_EQ(backend_.calls(), 0u);
  EXPECT_EQ(backend_.last_text, "");
  EXPECT_EQ(ask(post("/v1/hooks", one_hook, "application/json", "Sec-Fetch-Site: none\r\n")).status,
            202);
  EXPECT_EQ(ask(get("/v1/status", "Sec-Fetch-Site: same-origin\r\n")).status, 200);
}

TEST_F(IntakeTest, ATokenLetsAWebPageIn) {
  options_.tokens = {"secret"};
  start();
  const std::string origin = "Origin: https://admin.example\r\n";
  EXPECT_EQ(ask(get("/v1/status", origin)).status, 401);
  EXPECT_EQ(ask(get("/v1/status", origin + "Authorization: Bearer secret\r\n")).status, 200);
  EXPECT_EQ(ask(get("/healthz/live", origin)).status, 403);
}

TEST_F(IntakeTest, TheUnixSocketAsksForNoOrigin) {
  TempDirectory directory;
  options_.unix_socket = directory.file("control.sock");
  start();
  IntakeClient client(options_.unix_socket);
  client.send(get("/v1/status", "Origin: https://a.example\r\n"));
  EXPECT_EQ(client.read_response().status, 200);
}

TEST_F(IntakeTest, Tokens) {
  options_.tokens = {"secret-1", "", "secret-2 "};
  start();
  for (const std::string fields :
       {"", "Authorization: Bearer wrong\r\n", "Authorization: Basic secret-1\r\n",
        "Authorization: Bearer secret-1\r\nAuthorization: Bearer secret-1\r\n"}) {
    const Response response = ask(get("/v1/status", fields));
    EXPECT_EQ(response.status, 401) << fields;
    EXPECT_EQ(response.field("WWW-Authenticate"), "Bearer");
    EXPECT_THAT(response.body, HasSubstr(R"("code":"unauthorized")"));
    EXPECT_EQ(ask(get("/v1/nothing", fields)).status, 401);
    EXPECT_EQ(ask(get("/metrics", fields)).status, 401);
    EXPECT_EQ(ask(get("/healthz/live", fields)).status, 200);
    EXPECT_EQ(ask(post("/v1/hooks", one_hook, "application/json", fields)).status, 401);
  }
  EXPECT_EQ(ask(get("/v1/status?token=secret-1")).status, 401);
  EXPECT_EQ(backend_.calls(), 0u);
  EXPECT_EQ(ask(get("/v1/status", "Authorization: Bearer secret-1\r\n")).status, 200);
  EXPECT_EQ(
      ask(post("/v1/hooks", one_hook, "application/json", "authorization: bearer secret-2\r\n"))
          .status,
      202);
}

TEST_F(IntakeTest, ATokenFileWithoutATokenIsRefused) {
  options_.tokens = {"", " "};
  EXPECT_THROW(IntakeServer(backend_, options_), std::invalid_argument);
}

TEST_F(IntakeTest, UnknownRoutesAndMethods) {
  start();
  for (const std::string path :
       {"/", "/v1", "/v1/hooks/", "/v1/hook", "/v1/failed/", "/V1/status"}) {
    EXPECT_EQ(ask(get(path)).status, 404) << path;
  }
  const std::vector<std::tuple<std::string, std::string, std::string>> cases = {
      {"GET", "/v1/hooks", "POST, DELETE"}, {"PUT", "/v1/failed", "GET, DELETE"},
      {"DELETE", "/v1/hooks/a", "GET"},     {"GET", "/v1/failed/retry", "POST"},
      {"OPTIONS", "/v1/flush", "POST"},     {"post", "/v1/flush", "POST"},
  };
  for (const auto& [method, path, allow] : cases) {
    const Response response = ask(request(method, path));
    EXPECT_EQ(response.status, 405) << method << path;
    EXPECT_EQ(response.field("Allow"), allow) << path;
  }
  // The answer to HEAD has no body: the next answer must follow at once.
  IntakeClient client = connect();
  client.send(request("HEAD", "/v1/status"));
  const Response head = client.read_response(false);
  EXPECT_EQ(head.status, 405);
  client.send(get("/v1/status"));
  EXPECT_EQ(client.read_response().status, 200);
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
  backend_.is_ready = false;
  EXPECT_EQ(ask(get("/healthz/ready")).status, 503);
  EXPECT_EQ(ask(get("/healthz/live")).status, 200);
  backend_.is_live = false;
  EXPECT_EQ(ask(get("/healthz/live")).status, 503);
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

  TargetStatus target;
  target.url = "https://a/";
  target.state = "ok";
  target.waiting = 5;
  target.last_attempt_ms = 1000;
  backend_.target_list = {target};
  EXPECT_EQ(
      ask(get("/v1/targets?limit=7")).body,
      R"({"targets":[{"url":"https://a/","state":"ok","waiting":5,"in_flight":0,"retrying":0,)"
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
  EXPECT_EQ(ask(request("DELETE", "/v1/hooks")).status, 400);
  EXPECT_EQ(ask(request("POST", "/v1/flush?all=true")).status, 400);
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
  const Response response = ask(get("/v1/failed"));
  EXPECT_EQ(response.status, 200);
  const std::string begin = R"("target":"https://a/","group":"","event":"","content_type":"",)"
                            R"("reason":"status_503","status":503,"attempts":6,)"
                            R"("first_at":"1970-01-01T00:00:01.000Z",)"
                            R"("last_at":"1970-01-01T00:00:02.500Z",)"
                            R"("headers":{"X-A":"1","X-B":"\"2\""},)";
  const std::string end = R"("response_headers":"","response_excerpt":""})";
  EXPECT_EQ(response.body, R"({"failed":[{"id":"id-1",)" + begin + R"("body":"{}",)" + end +
                               R"(,{"id":"id-2",)" + begin + R"("body_base64":"/w==",)" + end +
                               R"(,{"id":"id-3",)" + begin + R"("body":"{}",)" + end +
                               R"(],"next":null})");
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
  EXPECT_EQ(ask(request("DELETE", "/v1/failed?group=g&limit=1")).status, 400);
  EXPECT_EQ(backend_.purges, 0);
  EXPECT_EQ(ask(request("DELETE", "/v1/failed?all=true")).body, R"({"purged":9})");
  EXPECT_EQ(ask(request("DELETE", "/v1/failed?group=g")).body, R"({"purged":9})");
  EXPECT_EQ(backend_.last_filter.group, "g");
  EXPECT_EQ(backend_.purges, 2);
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
  backend_.release_all();
  const Response response = client.read_response();
  EXPECT_EQ(response.status, 502);
  EXPECT_THAT(response.body, StartsWith(R"({"error":{"code":"not_delivered",)"));
  EXPECT_THAT(response.body,
              HasSubstr(R"("outcomes":[{"id":"a","state":"delivered","reason":"","status":200},)"
                        R"({"id":"b","state":"failed","reason":"status_503","status":503}])"));
  EXPECT_FALSE(listener->hook_done(1, {false, Reason::status, 503}));
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

TEST_F(IntakeTest, WaitAnswersARefusalAtOnce) {
  start();
  SubmitResult full;
  full.error = Errc::full;
  backend_.answer_next_with(full);
  EXPECT_EQ(ask(post("/v1/hooks?wait=delivered", one_hook)).status, 503);
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

// The Unix socket, start and end

TEST_F(IntakeTest, UnixSocketNeedsNoTokenAndHasTheControlRoutes) {
  TempDirectory directory;
  options_.unix_socket = directory.path() + "/postbag.db.sock";
  options_.tokens = {"secret"};
  start();
  struct stat info {};
  ASSERT_EQ(::stat(options_.unix_socket.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 07777, 0600u);
  IntakeClient client(options_.unix_socket);
  client.send(get("/v1/status"));
  EXPECT_EQ(client.read_response().status, 200);
  client.send(post("/v1/hooks", one_hook));
  EXPECT_EQ(client.read_response().status, 202);
  client.send(request("POST", "/v1/store/backup?path=/backup.db"));
  EXPECT_EQ(client.read_response().status, 200);
  EXPECT_EQ(backend_.last_text, "backup /backup.db");
  client.send(request("POST", "/v1/store/backup?path=backup.db"));
  EXPECT_EQ(client.read_response().status, 400);
  backend_.backup_error = Errc::store_cannot_create;
  client.send(request("POST", "/v1/store/backup?path=/backup.db"));
  const Response response = client.read_response();
  EXPECT_EQ(response.status, 500);
  EXPECT_THAT(response.body, HasSubstr(error_token(Errc::store_cannot_create)));

  IntakeClient tcp = connect();
  tcp.send(
      "POST /v1/store/backup?path=/x HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer secret\r\n\r\n");
  EXPECT_EQ(tcp.read_response().status, 404);

  server_->stop();
  EXPECT_NE(::stat(options_.unix_socket.c_str(), &info), 0);
}

TEST_F(IntakeTest, UnixSocketOfADeadProcessIsReplaced) {
  TempDirectory directory;
  options_.unix_socket = directory.path() + "/sock";
  make_stale_unix_socket(options_.unix_socket);
  start();
  IntakeClient client(options_.unix_socket);
  client.send(get("/v1/status"));
  EXPECT_EQ(client.read_response().status, 200);

  IntakeServer second(backend_, options_);
  try {
    second.start();
    FAIL() << "a socket that is served was taken over";
  } catch (const std::system_error& error) {
    EXPECT_EQ(error.code(), std::errc::address_in_use);
    EXPECT_THAT(error.what(), HasSubstr(options_.unix_socket));
  }
  client.send(get("/v1/status"));
  EXPECT_EQ(client.read_response().status, 200);
}

TEST_F(IntakeTest, OtherFilesAreNotReplacedByTheSocket) {
  TempDirectory directory;
  options_.unix_socket = directory.path() + "/file";
  std::fclose(std::fopen(options_.unix_socket.c_str(), "w"));
  server_ = std::make_unique<IntakeServer>(backend_, options_);
  EXPECT_THROW(server_->start(), std::system_error);
  options_.unix_socket = "/" + std::string(200, 'x');
  server_ = std::make_unique<IntakeServer>(backend_, options_);
  EXPECT_THROW(server_->start(), std::system_error);
}

TEST_F(IntakeTest, ListenAddresses) {
  start();
  EXPECT_EQ(server_->address(), "127.0.0.1:" + std::to_string(server_->port()));
  IntakeServerOptions taken = options_;
  taken.listen = server_->address();
  IntakeServer second(backend_, taken);
  try {
    second.start();
    FAIL() << "the port is taken";
  } catch (const std::system_error& error) {
    EXPECT_EQ(error.code(), std::errc::address_in_use);
    EXPECT_THAT(error.what(), HasSubstr("intake.listen"));
  }
  for (const std::string listen :
       {"127.0.0.1", "localhost:", ":0", "127.0.0.1:x", "127.0.0.1:65536", "example.com:0", "::1:0",
        "[127.0.0.1]:0", "127.0.0.1:-1"}) {
    IntakeServerOptions bad = options_;
    bad.listen = listen;
    IntakeServer server(backend_, bad);
    EXPECT_THROW(server.start(), std::invalid_argument) << listen;
  }
}

TEST_F(IntakeTest, StoppingRefusesWhatChangesAnything) {
  start();
  IntakeClient kept = connect();
  kept.send(get("/v1/status"));
  EXPECT_EQ(kept.read_response().status, 200);
  server_->stop_accepting();
  kept.send(post("/v1/hooks", one_hook));
  const Response response = kept.read_response();
  EXPECT_EQ(response.status, 503);
  EXPECT_THAT(response.body, HasSubstr(R"("code":"stopping")"));
  EXPECT_EQ(response.field("Connection"), "close");
  EXPECT_TRUE(kept.at_end());
  EXPECT_EQ(ask(request("POST", "/v1/failed/retry")).status, 503);
  EXPECT_EQ(ask(get("/healthz/ready")).status, 503);
  EXPECT_EQ(ask(get("/healthz/live")).status, 200);
  EXPECT_EQ(ask(get("/v1/status")).status, 200);
  EXPECT_EQ(backend_.calls(), 0u);
}

TEST_F(IntakeTest, StopGivesOutTheAnswersThereAre) {
  start();
  backend_.hold_submits();
  IntakeClient submitting = connect();
  submitting.send(post("/v1/hooks", one_hook));
  backend_.wait_for_calls(1);
  backend_.release_all();
  IntakeClient waiting = connect();
  waiting.send(post("/v1/hooks?wait=delivered&timeout=10m", one_hook));
  backend_.wait_for_calls(2);
  IntakeClient idle = connect();
  server_->stop();
  EXPECT_EQ(submitting.read_response().status, 202);
  EXPECT_EQ(waiting.read_response().status, 504);
  EXPECT_TRUE(idle.at_end());
}

TEST_F(IntakeTest, StopEndsRunsOfRetry) {
  start();
  backend_.retry_until_stopped();
  IntakeClient client = connect();
  client.send(request("POST", "/v1/failed/retry"));
  backend_.wait_for_retry();
  server_->stop();
  EXPECT_EQ(client.read_response().status, 200);
}

TEST_F(IntakeTest, TheEngineMayAnswerWhenTheServerIsGone) {
  start();
  backend_.hold_submits();
  IntakeClient client = connect();
  client.send(post("/v1/hooks", one_hook));
  backend_.wait_for_calls(1);
  IntakeClient waiting = connect();
  waiting.send(post("/v1/hooks?wait=delivered", one_hook));
  backend_.wait_for_calls(2);
  server_->stop();
  server_.reset();
  EXPECT_TRUE(client.at_end());
  backend_.release_all();
  EXPECT_FALSE(backend_.listener()->hook_done(0, {false, Reason::status, 500}));
}

}  // namespace
}  // namespace postbag

// Intake as an HTTP server: framing, limits, who may come in, sockets, start and end.
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <mutex>
#include <string>
#include <system_error>
#include <vector>

#include "cli/intake/api_error.h"
#include "cli/intake/full_watch.h"
#include "postbag/outcome.h"
#include "tests/support/eventually.h"
#include "tests/support/intake_fixture.h"
#include "tests/support/logged_lines.h"
#include "tests/support/temp_directory.h"

namespace postbag {
namespace {

using test::eventually;
using test::get;
using test::IntakeClient;
using test::IntakeTest;
using test::LoggedLines;
using test::make_stale_unix_socket;
using test::one_hook;
using test::post;
using test::request;
using test::Response;
using test::TempDirectory;
using testing::ElementsAre;
using testing::HasSubstr;

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
  options_.limits.head_timeout = options_.limits.body_timeout = std::chrono::milliseconds(20);
  options_.sweep_interval = std::chrono::milliseconds(5);
  start();
  const Response slow = ask("GET /v1/st");
  EXPECT_EQ(slow.status, 408);
  // Not the "timeout" of a wait for outcomes.
  EXPECT_THAT(slow.body, HasSubstr(R"("code":"request_timeout")"));
  const std::string whole = post("/v1/hooks", one_hook);
  const Response response = ask(whole.substr(0, whole.size() - 1));
  EXPECT_EQ(response.status, 408);
  EXPECT_EQ(response.field("Connection"), "close");
  EXPECT_EQ(backend_.calls(), 0u);
}

TEST_F(IntakeTest, IdleConnectionsAreClosedWithoutAWord) {
  options_.limits.idle_timeout = std::chrono::milliseconds(20);
  options_.sweep_interval = std::chrono::milliseconds(5);
  start();
  IntakeClient client = connect();
  EXPECT_TRUE(client.at_end());
}

// Full costs whoever keeps a connection that it does not use, not the next request.
TEST_F(IntakeTest, AtTheLimitTheLongestIdleConnectionIsClosed) {
  options_.connections_max = 2;
  start();
  IntakeClient first = connect();
  IntakeClient second = connect();
  for (IntakeClient* client : {&first, &second, &first}) {
    client->send(get("/healthz/live"));
    EXPECT_EQ(client->read_response().status, 200);
  }
  EXPECT_EQ(ask(get("/healthz/live")).status, 200);
  EXPECT_TRUE(second.at_end());
  first.send(get("/healthz/live"));
  EXPECT_EQ(first.read_response().status, 200);
}

TEST_F(IntakeTest, WithEveryConnectionBusyANewOneIsAnsweredFull) {
  options_.connections_max = 2;
  start();
  IntakeClient first = connect();
  IntakeClient second = connect();
  first.send("GET /healthz/live HTTP/1.1\r\n");
  second.send("G");
  const Response full = ask(post("/v1/hooks", one_hook));
  EXPECT_EQ(full.status, 503);
  EXPECT_THAT(full.body, HasSubstr("\"full\""));
  EXPECT_THAT(full.body, HasSubstr("all 2 connections"));
  EXPECT_EQ(full.field("Retry-After"), "1");
  EXPECT_EQ(backend_.calls(), 0u);
  first.send("Host: a\r\n\r\n");
  EXPECT_EQ(first.read_response().status, 200);
  second.send("ET /metrics HTTP/1.1\r\nHost: a\r\n\r\n");
  EXPECT_THAT(second.read_response().body, HasSubstr("postbag_intake_turned_away_total 1\n"));
}

// At night "503s: why?" had no answer: nothing was logged, and what did not reach the engine was
// not counted.
TEST_F(IntakeTest, FullIsLoggedWithItsCauseWhenItBegins) {
  options_.sweep_interval = std::chrono::milliseconds(1);
  std::mutex mutex;
  std::vector<std::string> lines;
  Logger logger{LogLevel::warning};
  logger.write = [&](LogLevel, std::string_view line) {
    const std::lock_guard lock(mutex);
    lines.emplace_back(line);
  };
  server_ = std::make_unique<IntakeServer>(backend_, options_, logger);
  server_->start();
  SubmitResult full;
  full.error = Errc::full;
  full.message = "max_memory is reached";
  for (int i = 0; i < 2; ++i) {
    backend_.answer_next_with(full);
    EXPECT_EQ(ask(post("/v1/hooks", one_hook)).status, 503);
    EXPECT_TRUE(eventually([&] {
      const std::lock_guard lock(mutex);
      return !lines.empty();
    }));
  }
  EXPECT_THAT(ask(get("/metrics")).body,
              HasSubstr("\npostbag_intake_errors_total{code=\"full\"} 2\n"));
  server_->stop();
  EXPECT_EQ(lines.front(), "requests are answered 503 full: max_memory is reached");
}

TEST(FullWatch, SaysThatItBeganAndThatItEnded) {
  const TimePoint start{};
  const auto at = [&](int seconds) { return start + std::chrono::seconds(seconds); };
  const char* cause = R"({"error":{"code":"full","message":"no room for \"x\""}})";
  FullWatch watch(std::chrono::seconds(10));
  EXPECT_EQ(watch.look(at(0), 0, ""), std::nullopt);
  EXPECT_EQ(watch.look(at(1), 3, cause), "requests are answered 503 full: no room for \"x\"");
  EXPECT_EQ(watch.look(at(2), 3, cause), std::nullopt);
  EXPECT_EQ(watch.look(at(5), 5, cause), std::nullopt);
  EXPECT_EQ(watch.look(at(14), 5, cause), std::nullopt);
  EXPECT_EQ(watch.look(at(15), 5, cause), "no request is answered 503 full any more; 5 were");
  EXPECT_EQ(watch.look(at(99), 5, cause), std::nullopt);
  EXPECT_EQ(watch.look(at(100), 6, "{"), "requests are answered 503 full: ");
  EXPECT_EQ(watch.look(at(110), 6, "{"), "no request is answered 503 full any more; 1 were");
}

TEST(ErrorCode, EveryErrorOfTheEngineHasOne) {
  for (int value = 1; value < 256; ++value) {
    const std::string_view token = error_token(static_cast<Errc>(value));
    const bool is_known =
        make_error_code(static_cast<Errc>(value)).message().find("unknown") == std::string::npos;
    if (is_known) {
      EXPECT_EQ(ErrorCode(static_cast<Errc>(value)).name(), token);
    }
  }
  EXPECT_EQ(ErrorCode(static_cast<Errc>(255)).name(), "internal");
}

TEST_F(IntakeTest, ErrorsAreCountedByTheirCodes) {
  start();
  const auto counted = [&](const std::string& code) {
    const std::string metrics = ask(get("/metrics")).body;
    const std::string name = "\npostbag_intake_errors_total{code=\"" + code + "\"} ";
    const std::size_t at = metrics.find(name);
    return at == std::string::npos ? -1 : std::stoi(metrics.substr(at + name.size()));
  };
  EXPECT_EQ(counted("bad_json"), 0);
  for (int i = 0; i < 2; ++i) ask(post("/v1/hooks", "{"));
  EXPECT_EQ(counted("bad_json"), 2);
  ask("GET /v1/status HTTP/1.1\r\n\r\n");
  EXPECT_EQ(counted("bad_request"), 1);
  ask(get("/nothing"));
  EXPECT_EQ(counted("not_found"), 1);
  ask(request("POST", "/v1/store/backup?path=/x"));
  EXPECT_EQ(counted("not_found"), 2);
  ask(post("/v1/hooks", one_hook, "application/json", "Origin: https://evil.example\r\n"));
  EXPECT_EQ(counted("origin"), 1);
  backend_.throw_next = true;
  ask(request("POST", "/v1/flush"));
  EXPECT_EQ(counted("bad_argument"), 1);
  backend_.engine_status.healthy = false;
  ask(get("/healthz/live"));
  EXPECT_EQ(counted("not_live"), 1);
  EXPECT_EQ(counted("internal"), 0);
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

// DNS rebinding: the page's own name leads here, and a GET of it bears no Origin.
TEST_F(IntakeTest, AHostThatAStrangerCanOwnIsRefused) {
  start();
  const auto status = [&](const std::string& host) {
    return ask("GET /v1/failed HTTP/1.1\r\nHost: " + host + "\r\n\r\n").status;
  };
  for (const char* host : {"evil.example", "evil.example:8420", "127.0.0.1.evil.example", "a.b."}) {
    EXPECT_EQ(status(host), 403) << host;
  }
  for (const char* host : {"localhost", "LOCALHOST:8420", "127.0.0.1", "127.0.0.1:8420", "[::1]",
                           "[::1]:8420", "app.localhost", "postbag", "postbag:80", "x."}) {
    EXPECT_EQ(status(host), 200) << host;
  }
}

TEST_F(IntakeTest, ATokenLetsAnyHostIn) {
  options_.tokens = {"secret"};
  start();
  const std::string host = "GET /v1/status HTTP/1.1\r\nHost: postbag.example\r\n";
  EXPECT_EQ(ask(host + "Authorization: Bearer secret\r\n\r\n").status, 200);
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

// A token that had leaked worked on until a restart.
TEST_F(IntakeTest, OtherTokensHoldAtOnceAndOnOpenConnections) {
  options_.tokens = {"old"};
  IntakeServer& server = start();
  IntakeClient client = connect();
  const auto status = [&](const std::string& token) {
    client.send(get("/v1/status", token.empty() ? "" : "Authorization: Bearer " + token + "\r\n"));
    return client.read_response().status;
  };
  EXPECT_EQ(status("old"), 200);
  server.set_tokens({{"new", "newer"}});
  EXPECT_EQ(status("old"), 401);
  EXPECT_EQ(status("new"), 200);
  EXPECT_THROW(server.set_tokens({{" "}}), std::invalid_argument);
  EXPECT_EQ(status("newer"), 200);
  server.set_tokens(std::nullopt);
  EXPECT_EQ(status(""), 200);
  server.set_tokens({{"last"}});
  EXPECT_EQ(status(""), 401);
}

TEST_F(IntakeTest, ATokenFileWithoutATokenIsRefused) {
  options_.tokens = {"", " "};
  EXPECT_THROW(IntakeServer(backend_, options_), std::invalid_argument);
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

// All commands said that another process has the store, for as long as the daemon ran.
TEST_F(IntakeTest, AUnixSocketThatWasRemovedIsBoundAnew) {
  TempDirectory directory;
  options_.unix_socket = directory.path() + "/sock";
  options_.sweep_interval = std::chrono::milliseconds(1);
  options_.socket_check_interval = Duration::zero();
  Logger logger;
  LoggedLines lines(logger, LogLevel::warning);
  server_ = std::make_unique<IntakeServer>(backend_, options_, logger);
  server_->start();
  for (std::size_t time = 1; time <= 3; ++time) {
    ASSERT_EQ(::unlink(options_.unix_socket.c_str()), 0);
    ASSERT_TRUE(eventually([&] { return lines.all().size() == time; }));
    EXPECT_THAT(lines.all().back(), HasSubstr(options_.unix_socket + " was removed: bound anew"));
    IntakeClient client(options_.unix_socket);
    client.send(get("/v1/status"));
    EXPECT_EQ(client.read_response().status, 200);
  }
  // What somebody else put there is his.
  const std::string other = directory.path() + "/other";
  std::fclose(std::fopen(other.c_str(), "w"));
  ASSERT_EQ(::rename(other.c_str(), options_.unix_socket.c_str()), 0);
  ASSERT_TRUE(eventually([&] {
    return lines.all().back().find("another file that is not a socket") != std::string::npos;
  }));
  server_->stop();
  EXPECT_EQ(::access(options_.unix_socket.c_str(), F_OK), 0);
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

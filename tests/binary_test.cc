// The executable as a user has it: exit codes, files, sockets, signals. The binary is
// POSTBAG_BINARY of the environment, or the one that was built along.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <algorithm>
#include <filesystem>
#include <string>
#include <vector>

#include "cli/daemon_answers.h"
#include "cli/demo/ledger.h"
#include "tests/support/binary_support.h"
#include "tests/support/eventually.h"
#include "tests/support/intake_client.h"

namespace postbag::test {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

class BinaryTest : public BinaryFixture {};
using Target = BinaryTarget;

std::size_t count_of(const std::string& text, const std::string& part) {
  std::size_t count = 0;
  for (std::size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) {
    ++count;
  }
  return count;
}

constexpr const char* no_retries = "[retry]\nretries = 0\n";

// --- Exit codes and files ---

TEST_F(BinaryTest, ExitCodes) {
  EXPECT_EQ(run({}).exit_code, 64);
  EXPECT_EQ(run({"nonsense"}).exit_code, 64);
  EXPECT_EQ(run({"failed", "purge"}).exit_code, 64);
  EXPECT_EQ(run({"failed", "list", "--since", "yesterday"}).exit_code, 64);
  EXPECT_EQ(run({"config", "show", "-c", "missing.toml"}).exit_code, 66);
  EXPECT_EQ(run({"send", "missing.ndjson"}).exit_code, 66);
  // A relative path is nothing without the folder that it is looked for in.
  const ProcessResult list = run({"failed", "list"});
  EXPECT_EQ(list.exit_code, 66);
  EXPECT_THAT(list.err, HasSubstr("postbag.db (in " + folder_.path() + "): no such file"));
  const ProcessResult check = run({"store", "check"});
  EXPECT_EQ(check.exit_code, 66);
  EXPECT_EQ(check.err, list.err);
  const ProcessResult flush = run({"flush"});
  EXPECT_EQ(flush.exit_code, 69);
  EXPECT_THAT(flush.err, HasSubstr("postbag.db.sock (in " + folder_.path() + ")"));
  EXPECT_EQ(run({"cancel", "--target", "*"}).exit_code, 69);
  EXPECT_EQ(run({"serve", "--help"}).exit_code, 0);
  const ProcessResult version = run({"version", "--json"});
  EXPECT_EQ(version.exit_code, 0);
  EXPECT_NE(json_text(version.out, "version"), "");
}

TEST_F(BinaryTest, ConfigInitCheckShow) {
  EXPECT_EQ(run({"config", "init"}).exit_code, 0);
  const std::string text = read_file("postbag.toml");
  EXPECT_THAT(text, HasSubstr("[store]"));
  const ProcessResult again = run({"config", "init"});
  EXPECT_EQ(again.exit_code, 73);
  EXPECT_THAT(again.err, HasSubstr("postbag.toml"));
  EXPECT_EQ(read_file("postbag.toml"), text);
  EXPECT_EQ(run({"config", "check"}).exit_code, 0);
  EXPECT_EQ(run({"config", "init", "-c", "other.toml"}).exit_code, 0);
  const ProcessResult show = run({"config", "show"});
  EXPECT_EQ(show.exit_code, 0);
  EXPECT_THAT(show.out, HasSubstr("retry_interval"));
}

TEST_F(BinaryTest, BadConfigurationIsNamedAndStopsEveryCommand) {
  write_file("postbag.toml", "[batch]\nsize = 10\nsiez = 3\n");
  for (const auto& command : std::vector<std::vector<std::string>>{
           {"serve"}, {"config", "check"}, {"send"}, {"failed", "list"}}) {
    const ProcessResult result = run(command);
    EXPECT_EQ(result.exit_code, 78) << command.front();
    EXPECT_THAT(result.err, HasSubstr("postbag.toml:3:")) << command.front();
    EXPECT_THAT(result.err, HasSubstr("siez")) << command.front();
  }
}

TEST_F(BinaryTest, SecretsAreMasked) {
  write_config("[delivery]\nheaders = { Authorization = \"Bearer canary-8842\" }\n");
  const ProcessResult show = run({"config", "show"});
  EXPECT_EQ(show.exit_code, 0) << show.err;
  EXPECT_THAT(show.out, HasSubstr("Authorization"));
  EXPECT_THAT(show.out + show.err, Not(HasSubstr("canary")));
}

// --- send, failed, retry without a daemon ---

TEST_F(BinaryTest, SendDeliversByteForByteInOrder) {
  write_config();
  Target target;
  const ProcessResult result =
      run({"send", "--json"}, hook(target.url(), "{\"n\": 1.0}") + "\n" +
                                  hook(target.url(), "\"zoë\"") + hook(target.url(), "[ 3 ]"));
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(number(result, "accepted"), 3u);
  EXPECT_EQ(number(result, "delivered"), 3u);
  EXPECT_EQ(number(result, "failed"), 0u);
  EXPECT_THAT(target.bodies(), ::testing::ElementsAre("[{\"n\": 1.0},\"zoë\",[ 3 ]]"));
}

TEST_F(BinaryTest, SendCutsWhatIsLeftWithoutWaitingForItsTimer) {
  write_config("", "time = \"1h\"");
  Target target;
  write_file("lines", "1\n2\n");
  const ProcessResult result = run({"send", "--durable", "--target", target.url(), "lines"});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_THAT(target.bodies(), ::testing::ElementsAre("[1,2]"));
}

TEST_F(BinaryTest, FailuresGoToTheStoreAndTheRetryCommandDeliversThem) {
  write_config(no_retries);
  Target target;
  target.answer_with(500);
  const ProcessResult sent =
      run({"send", "--json"}, hook(target.url(), "1") + hook(target.url(), "2"));
  EXPECT_EQ(sent.exit_code, 1) << sent.err;
  EXPECT_EQ(number(sent, "failed"), 2u);

  const ProcessResult status = run({"status", "--json"});
  EXPECT_EQ(status.exit_code, 0) << status.err;
  EXPECT_EQ(number(status, "failed"), 2u);
  const ProcessResult listed = run({"failed", "list", "--json", "--status", "500"});
  EXPECT_EQ(listed.exit_code, 0) << listed.err;
  const auto page = parse_failed_page(listed.out);
  ASSERT_TRUE(page);
  ASSERT_EQ(page->rows.size(), 2u);
  EXPECT_EQ(page->rows[0].body, "1");
  EXPECT_EQ(page->rows[0].attempts, 1u);
  EXPECT_THAT(run({"failed", "list", "--json", "--status", "404"}).out, HasSubstr("\"failed\":[]"));
  EXPECT_EQ(run({"failed", "show", page->rows[0].id}).exit_code, 0);
  EXPECT_EQ(run({"failed", "show", "no-such-id"}).exit_code, 66);

  const ProcessResult plan = run({"retry-failed-hooks", "--dry-run", "--json"});
  EXPECT_EQ(plan.exit_code, 0) << plan.err;
  EXPECT_EQ(number(plan, "hooks"), 2u);
  EXPECT_EQ(number(plan, "requests"), 1u);

  const ProcessResult again = run({"retry-failed-hooks", "--json"});
  EXPECT_EQ(again.exit_code, 1) << again.err;
  EXPECT_EQ(number(again, "failed"), 2u);
  target.answer_with(200);
  const ProcessResult retried = run({"retry-failed-hooks", "--json"});
  EXPECT_EQ(retried.exit_code, 0) << retried.err;
  EXPECT_EQ(number(retried, "delivered"), 2u);
  EXPECT_THAT(target.bodies(), ::testing::ElementsAre("[1,2]"));
  EXPECT_THAT(run({"failed", "list", "--json"}).out, HasSubstr("\"failed\":[]"));
  EXPECT_EQ(run({"store", "check"}).exit_code, 0);
}

TEST_F(BinaryTest, RetryIsFilteredAndLimited) {
  write_config(no_retries);
  Target target;
  target.answer_with(500);
  EXPECT_EQ(run({"send"}, hook(target.url("a"), "1") + hook(target.url("a"), "2") +
                              hook(target.url("b"), "3"))
                .exit_code,
            1);
  target.answer_with(200);
  EXPECT_EQ(
      number(run({"retry-failed-hooks", "--json", "--target", "*/a", "--limit", "1"}), "delivered"),
      1u);
  EXPECT_THAT(target.payloads(), ::testing::ElementsAre("1"));
  EXPECT_EQ(number(run({"failed", "purge", "--json", "--target", "*/a"}), "purged"), 1u);
  EXPECT_EQ(number(run({"retry-failed-hooks", "--json"}), "delivered"), 1u);
  EXPECT_THAT(target.payloads(), ::testing::ElementsAre("1", "3"));
}

TEST_F(BinaryTest, PurgeTakesALimitWithAndWithoutADaemon) {
  write_config(no_retries);
  Target target;
  target.answer_with(500);
  const std::string lines = hook(target.url(), "1") + hook(target.url(), "2");
  EXPECT_EQ(run({"send"}, lines + hook(target.url(), "3")).exit_code, 1);
  const std::vector<std::string> purge_one = {"failed", "purge", "--all", "--limit", "1", "--json"};
  EXPECT_EQ(number(run(purge_one), "purged"), 1u);
  const auto daemon = serve();
  EXPECT_EQ(number(run(purge_one), "purged"), 1u);
  EXPECT_EQ(number(run({"status", "--json"}), "failed"), 1u);
  stop(*daemon);
}

TEST_F(BinaryTest, ExportIsWhatSendReads) {
  write_config(no_retries);
  Target target;
  target.answer_with(500);
  EXPECT_EQ(run({"send"}, "{\"target\":\"" + target.url() +
                              "\",\"data\":{\"a\":1},\"event\":\"push\",\"id\":\"my-id\","
                              "\"headers\":{\"X-Key\":\"v\"}}\n")
                .exit_code,
            1);
  const ProcessResult exported = run({"failed", "export"});
  EXPECT_EQ(exported.exit_code, 0);
  EXPECT_THAT(exported.out, HasSubstr("\"X-Key\":\"v\""));
  EXPECT_THAT(exported.out, HasSubstr("\"id\":\"my-id\""));
  EXPECT_EQ(run({"failed", "export", "out.ndjson"}).exit_code, 0);
  EXPECT_EQ(read_file("out.ndjson"), exported.out);
  EXPECT_EQ(run({"failed", "export", "out.ndjson"}).exit_code, 73);
  EXPECT_EQ(run({"failed", "purge", "--all"}).exit_code, 0);
  target.answer_with(200);
  const ProcessResult sent = run({"send", "out.ndjson"});
  EXPECT_EQ(sent.exit_code, 0) << sent.err;
  EXPECT_THAT(target.payloads(), ::testing::ElementsAre("{\"a\":1}"));
}

TEST_F(BinaryTest, BadLinesAreNamed) {
  write_config();
  Target target;
  const ProcessResult syntax = run({"send"}, hook(target.url(), "1") + "{\"target\": 7}\n");
  EXPECT_EQ(syntax.exit_code, 65);
  EXPECT_THAT(syntax.err, HasSubstr("line 2"));
  const ProcessResult forbidden = run({"send"}, "\n" + hook("http://10.0.0.1/", "1"));
  EXPECT_EQ(forbidden.exit_code, 65);
  EXPECT_THAT(forbidden.err, HasSubstr("line 2"));
  EXPECT_THAT(forbidden.err, HasSubstr("10.0.0.1"));
  EXPECT_THAT(target.payloads(), ::testing::IsEmpty());
}

TEST_F(BinaryTest, SendEndsOnASignalAndKeepsWhatItHas) {
  write_config(no_retries, "time = \"1h\"");
  Target target;
  ChildProcess send({binary(), "send", "--json"}, folder_.path());
  // More than one group: when the second one is on its way the first has been handed over.
  std::string lines;
  for (int i = 0; i < 1000; ++i) lines += hook(target.url(), std::to_string(i));
  send.write_input(lines);
  ASSERT_TRUE(target.wait_for_deliveries(1));  // input is still open
  send.signal(SIGINT);
  ASSERT_TRUE(send.wait_for_err("stopped early"));  // before wait() ends the input
  const ProcessResult result = send.wait();
  EXPECT_EQ(result.exit_code, 1) << "there was more input";
  EXPECT_EQ(number(result, "delivered"), target.payloads().size());
  EXPECT_EQ(number(result, "accepted"), number(result, "delivered") + number(result, "failed"));
}

// --- The daemon ---

TEST_F(BinaryTest, ServeTakesHooksAndDrainsOnSigterm) {
  write_config("", "time = \"1h\"");
  Target target;
  const auto daemon = serve();
  ControlClient client = control();
  const ControlAnswer answer =
      post_hooks(client, hook(target.url(), "1") + hook(target.url(), "2"));
  EXPECT_EQ(answer.status, 202) << answer.body;
  EXPECT_EQ(json_text(answer.body, "durability"), "fsync");
  EXPECT_EQ(number(run({"status", "--json"}), "pending"), 2u);
  daemon->signal(SIGTERM);
  const ProcessResult ended = daemon->wait();
  EXPECT_EQ(ended.exit_code, 0) << ended.err;
  EXPECT_THAT(ended.err, HasSubstr("listening on 127.0.0.1:"));
  EXPECT_THAT(ended.err, HasSubstr("postbag.db (fsync)"));
  EXPECT_THAT(target.bodies(), ::testing::ElementsAre("[1,2]"));
  EXPECT_EQ(number(run({"status", "--json"}), "pending"), 0u);
}

TEST_F(BinaryTest, OneProcessHoldsTheStore) {
  write_config();
  const auto daemon = serve();
  const ProcessResult second = run({"serve"});
  EXPECT_EQ(second.exit_code, 75);
  EXPECT_THAT(second.err, HasSubstr("sqlite3"));
  EXPECT_EQ(run({"store", "check"}).exit_code, 75);
  EXPECT_EQ(run({"store", "salvage", "x.db"}).exit_code, 75);
  EXPECT_EQ(run({"store", "backup", "copy.db"}).exit_code, 0);
  EXPECT_EQ(run({"store", "backup", "copy.db"}).exit_code, 73);
  const ProcessResult nowhere = run({"store", "backup", "no/copy.db"});
  EXPECT_EQ(nowhere.exit_code, 73);
  EXPECT_THAT(nowhere.err, HasSubstr("/no/copy.db: "));
  stop(*daemon);
  EXPECT_EQ(run({"store", "check"}).exit_code, 0);
  write_file("copy.toml", "[store]\npath = \"copy.db\"\n");
  EXPECT_EQ(run({"store", "check", "-c", "copy.toml"}).exit_code, 0);
  EXPECT_EQ(run({"store", "backup", "copy2.db"}).exit_code, 0);
  write_file("copy3.db.part", "of one that was killed");
  const ProcessResult beside_a_part = run({"store", "backup", "copy3.db"});
  EXPECT_EQ(beside_a_part.exit_code, 73);
  EXPECT_THAT(beside_a_part.err, HasSubstr("copy3.db.part is there already"));
}

TEST_F(BinaryTest, AnotherOpenerWithoutASocketIsBusy) {
  write_config("", "time = \"1h\"");
  Target target;
  ChildProcess send({binary(), "send"}, folder_.path());
  std::string lines;
  for (int i = 0; i < 200; ++i) lines += hook(target.url(), "1");
  send.write_input(lines);
  ASSERT_TRUE(target.wait_for_requests(1));  // so it has the store; its input is still open
  const ProcessResult list = run({"failed", "list"});
  EXPECT_EQ(list.exit_code, 75);
  EXPECT_THAT(list.err, HasSubstr("none answers at postbag.db.sock"));
  EXPECT_EQ(run({"serve"}).exit_code, 75);
}

TEST_F(BinaryTest, FlushAndCancelThroughTheDaemon) {
  write_config("", "time = \"1h\"");
  Target target;
  const auto daemon = serve();
  ControlClient client = control();
  ASSERT_EQ(post_hooks(client, hook(target.url("a"), "1") + hook(target.url("b"), "2")).status,
            202);
  EXPECT_EQ(number(run({"cancel", "--json", "--target", "*/b"}), "cancelled"), 1u);
  EXPECT_EQ(number(run({"flush", "--json"}), "bags"), 1u);
  ASSERT_TRUE(target.wait_for_deliveries(1));
  EXPECT_THAT(target.payloads(), ::testing::ElementsAre("1"));
  const auto page =
      parse_failed_page(run({"failed", "list", "--json", "--reason", "cancelled"}).out);
  ASSERT_TRUE(page);
  ASSERT_EQ(page->rows.size(), 1u);
  EXPECT_EQ(page->rows[0].body, "2");
  EXPECT_THAT(run({"status"}).out, HasSubstr("running"));
  stop(*daemon);
}

TEST_F(BinaryTest, SendAndRetryThroughTheDaemon) {
  write_config(no_retries, "time = \"1h\"");
  Target target;
  target.answer_with(500);
  const auto daemon = serve();
  const ProcessResult sent = run({"send", "--json", "--target", target.url()}, "1\n2\n");
  EXPECT_EQ(sent.exit_code, 1) << sent.err;
  EXPECT_EQ(number(sent, "accepted"), 2u);
  EXPECT_EQ(number(sent, "failed"), 2u);
  EXPECT_EQ(number(run({"retry-failed-hooks", "--dry-run", "--json"}), "hooks"), 2u);
  EXPECT_EQ(run({"retry-failed-hooks"}).exit_code, 1);
  target.answer_with(200);
  const ProcessResult retried = run({"retry-failed-hooks", "--json", "--target", "http://*"});
  EXPECT_EQ(retried.exit_code, 0) << retried.err;
  EXPECT_EQ(number(retried, "delivered"), 2u);
  const ProcessResult good = run({"send", "--json"}, hook(target.url(), "3"));
  EXPECT_EQ(good.exit_code, 0) << good.err;
  EXPECT_EQ(number(good, "delivered"), 1u);
  EXPECT_THAT(target.payloads(), ::testing::ElementsAre("1", "2", "3"));
  const ProcessResult bad = run({"send"}, hook(target.url(), "4") + hook("ftp://x/", "5"));
  EXPECT_EQ(bad.exit_code, 65);
  EXPECT_THAT(bad.err, HasSubstr("line 2"));
  EXPECT_EQ(number(run({"failed", "purge", "--all", "--json"}), "purged"), 0u);
  stop(*daemon);
}

TEST_F(BinaryTest, RestartGoesOnWithWhatIsPending) {
  write_config("[retry]\nretries = 100\nretry_interval = 0.05\n");
  Target target;
  target.answer_with(503);
  auto daemon = serve();
  {
    ControlClient client = control();
    ASSERT_EQ(post_hooks(client, hook(target.url(), "1")).status, 202);
  }
  ASSERT_TRUE(target.wait_for_requests(1));
  stop(*daemon);
  const ProcessResult status = run({"status", "--json"});
  EXPECT_EQ(number(status, "pending"), 1u);
  EXPECT_THAT(status.out, HasSubstr("\"daemon\":false"));
  target.answer_with(200);
  // Other commands leave it and say so.
  const ProcessResult sent = run({"send"}, "");
  EXPECT_EQ(sent.exit_code, 0);
  EXPECT_THAT(sent.err, HasSubstr("1 hook of an earlier run waits in the store"));
  const ProcessResult durable = run({"send", "--durable"}, "");
  EXPECT_EQ(durable.exit_code, 0);
  EXPECT_THAT(durable.err, HasSubstr("hooks of an earlier run wait"));
  EXPECT_THAT(durable.err, Not(HasSubstr("only `postbag serve`")));  // that once is enough
  EXPECT_THAT(target.payloads(), ::testing::IsEmpty());
  daemon = serve();
  ASSERT_TRUE(target.wait_for_deliveries(1));
  stop(*daemon);
  EXPECT_THAT(target.payloads(), ::testing::ElementsAre("1"));
  EXPECT_EQ(number(run({"status", "--json"}), "pending"), 0u);
}

TEST_F(BinaryTest, KillLosesNothing) {
  write_config("", "time = 0.3");
  Target target;
  auto daemon = serve();
  constexpr std::size_t hooks = 500;
  {
    ControlClient client = control();
    for (std::size_t i = 0; i < hooks; ++i) {
      ASSERT_EQ(
          post_hooks(client, hook(target.url(std::to_string(i % 7)), std::to_string(i))).status,
          202);
    }
  }
  daemon->signal(SIGKILL);
  EXPECT_EQ(daemon->wait().exit_code, 128 + SIGKILL);
  daemon = serve();
  stop(*daemon);
  std::vector<std::string> payloads = target.payloads();
  std::sort(payloads.begin(), payloads.end());
  payloads.erase(std::unique(payloads.begin(), payloads.end()), payloads.end());
  EXPECT_EQ(payloads.size(), hooks);
}

TEST_F(BinaryTest, ReloadTakesAGoodFileAndKeepsTheOldOneForABadOne) {
  write_config(no_retries);
  Target target;
  const auto daemon = serve();
  write_file("postbag.toml", "[batch]\nsize = \"many\"\n");
  daemon->signal(SIGHUP);
  const auto refused = daemon->wait_for_err("not reloaded");
  ASSERT_TRUE(refused);
  EXPECT_THAT(*refused, HasSubstr("postbag.toml:2:"));
  ControlClient client = control();
  EXPECT_EQ(post_hooks(client, hook(target.url(), "1")).status, 202);
  ASSERT_TRUE(target.wait_for_deliveries(1));
  // Without `allow` the target is forbidden from now on.
  write_file("postbag.toml", "[intake]\nlisten = \"127.0.0.1:0\"\n");
  daemon->signal(SIGHUP);
  ASSERT_TRUE(daemon->wait_for_err("reloaded"));
  const ControlAnswer answer = post_hooks(client, hook(target.url(), "2"));
  EXPECT_EQ(answer.status, 422) << answer.body;
  EXPECT_EQ(parse_daemon_error(answer.body).code, "target_forbidden");
  write_config();
  stop(*daemon);
}

// "not reloaded" was said of policies that were in force.
TEST_F(BinaryTest, ReloadWithANewTokenFileWhoseOldOneIsGone) {
  const auto configure = [&](const std::string& token_file, const std::string& batch) {
    write_file("postbag.toml", "[intake]\nlisten = \"127.0.0.1:0\"\ntoken_file = \"" +
                                   folder_.file(token_file) + "\"\n[batch]\n" + batch + "\n");
  };
  write_file("old", "secret\n");
  write_file("new", "other\n");
  configure("old", "size = 5");
  const auto daemon = serve();
  std::filesystem::remove(folder_.file("old"));
  configure("new", "size = 7");
  daemon->signal(SIGHUP);
  const auto said = daemon->wait_for_err("reloaded");
  ASSERT_TRUE(said);
  EXPECT_THAT(*said, HasSubstr("reloaded: targets, policies, tokens and"));
  stop(*daemon);
}

// Both changed only with a restart: a token that had leaked could not be taken back.
TEST_F(BinaryTest, AReloadTakesOverTheTokensAndTheLogsLevel) {
  const auto configure = [&](const std::string& level) {
    write_file("postbag.toml", "[intake]\nlisten = \"127.0.0.1:0\"\ntoken_file = \"" +
                                   folder_.file("tokens") + "\"\n[log]\nlevel = \"" + level +
                                   "\"\n");
  };
  write_file("tokens", "old\n");
  configure("error");
  ChildProcess daemon({binary(), "serve", "--json"}, folder_.path());
  const auto ready = daemon.wait_for_out("listening");
  ASSERT_TRUE(ready);
  const std::string address = json_text(*ready, "listening");
  const auto port = std::stoul(address.substr(address.rfind(':') + 1));
  const auto status = [&](const std::string& token) {
    IntakeClient client(static_cast<std::uint16_t>(port));
    client.send("GET /v1/status HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer " + token +
                "\r\n\r\n");
    return client.read_response().status;
  };
  EXPECT_EQ(status("old"), 200);
  write_file("tokens", "\n");
  configure("info");
  daemon.signal(SIGHUP);
  EXPECT_TRUE(daemon.wait_for_err("not reloaded"));
  EXPECT_EQ(status("old"), 200);
  write_file("tokens", "new\n");
  daemon.signal(SIGHUP);
  EXPECT_TRUE(daemon.wait_for_err("reloaded: "));  // at level info
  EXPECT_EQ(status("old"), 401);
  EXPECT_EQ(status("new"), 200);
  daemon.signal(SIGTERM);
  const std::string log = daemon.wait().err;
  EXPECT_THAT(log, Not(HasSubstr("is ready")));  // at level error
  EXPECT_THAT(log, Not(HasSubstr("restart")));
}

TEST_F(BinaryTest, AReloadWithoutTheFileThatTheStartReadChangesNothing) {
  write_config(no_retries);
  Target target;
  const auto daemon = serve();
  std::filesystem::remove(folder_.file("postbag.toml"));
  daemon->signal(SIGHUP);
  const auto refused = daemon->wait_for_err("reload");
  ASSERT_TRUE(refused);
  EXPECT_THAT(*refused, HasSubstr("not reloaded"));
  write_config(no_retries);
  ControlClient client = control();
  EXPECT_EQ(post_hooks(client, hook(target.url(), "1")).status, 202);
  stop(*daemon);
}

TEST_F(BinaryTest, TheDaemonIsNoTargetOfItsOwn) {
  write_config();
  auto daemon = std::make_unique<ChildProcess>(
      std::vector<std::string>{binary(), "serve", "--json"}, folder_.path());
  const auto ready = daemon->wait_for_out("listening");
  ASSERT_TRUE(ready);
  const std::string own = json_text(*ready, "listening");
  EXPECT_THAT(own, Not(::testing::EndsWith(":0")));
  ControlClient client = control();
  const ControlAnswer answer = post_hooks(client, hook("http://" + own + "/v1/hooks", "1"));
  EXPECT_EQ(answer.status, 422) << answer.body;
  stop(*daemon);
}

TEST_F(BinaryTest, MemoryDurabilityIsSaidOnce) {
  write_config("[store]\ndurability = \"memory\"\n");
  const auto daemon = serve();
  daemon->signal(SIGTERM);
  const ProcessResult result = daemon->wait();
  EXPECT_EQ(result.exit_code, 0);
  // In whatever words.
  EXPECT_EQ(count_of(result.err, "kill"), 1u) << result.err;
}

// What runs, where, on what: two lines said that it listens, none the rest.
TEST_F(BinaryTest, OneLineSaysThatItIsReady) {
  write_config("[engine]\nthreads = 2\n[retry]\nretries = 0\n", "time = 0.01");
  Target target;
  target.answer_with(500);
  auto daemon = serve();
  {
    ControlClient client = control();
    ASSERT_EQ(post_hooks(client, hook(target.url(), "1")).status, 202);
  }
  EXPECT_TRUE(eventually([&] { return number(run({"status", "--json"}), "failed") > 0; }));
  stop(*daemon);
  daemon = serve();
  daemon->signal(SIGTERM);
  const ProcessResult ended = daemon->wait();
  EXPECT_EQ(count_of(ended.err, "listen"), 1u) << ended.err;
  EXPECT_THAT(ended.err,
              ::testing::ContainsRegex(
                  " postbag [0-9.]+ is ready: listening on 127\\.0\\.0\\.1:[0-9]+, store "
                  "postbag\\.db \\(fsync\\), 2 shards, 0 hooks waiting, 1 failed, "
                  "(\\./)?postbag\\.toml\n"));
}

TEST_F(BinaryTest, APortThatIsTakenEndsTheStartWithoutATrace) {
  LocalReceiver other(0, [](const ReceivedRequest&) { return ReceiverAnswer{}; });
  const std::string taken = "127.0.0.1:" + std::to_string(other.port());
  write_file("postbag.toml", "[intake]\nlisten = \"" + taken + "\"\n");
  const ProcessResult ended = run({"serve"});
  EXPECT_EQ(ended.exit_code, 71) << ended.err;
  EXPECT_THAT(ended.err, HasSubstr("[intake] listen: cannot listen on " + taken));
  std::vector<std::string> left;
  for (const auto& entry : std::filesystem::directory_iterator(folder_.path())) {
    left.push_back(entry.path().filename());
  }
  EXPECT_THAT(left, ::testing::ElementsAre("postbag.toml"));
}

// Whoever starts it twice learns that, and not that a port is taken.
TEST_F(BinaryTest, ASecondDaemonIsToldThatTheStoreIsInUse) {
  write_config();
  ChildProcess daemon({binary(), "serve", "--json"}, folder_.path());
  const auto ready = daemon.wait_for_out("listening");
  ASSERT_TRUE(ready);
  write_file("postbag.toml", "[intake]\nlisten = \"" + json_text(*ready, "listening") + "\"\n");
  const ProcessResult second = run({"serve"});
  EXPECT_EQ(second.exit_code, 75) << second.err;
  stop(daemon);
}

TEST_F(BinaryTest, LogLinesAreJsonOnRequest) {
  write_config("[log]\nformat = \"json\"\n");
  const auto daemon = serve();
  daemon->signal(SIGTERM);
  const std::string err = daemon->wait().err;
  std::istringstream lines(err);
  std::size_t count = 0;
  for (std::string line; std::getline(lines, line); ++count) {
    EXPECT_EQ(check_json(line, false), std::nullopt) << line;
  }
  EXPECT_GE(count, 2u);
  EXPECT_THAT(err, HasSubstr("\"event\":\"ready\",\"version\":\"" + std::string(version()) + "\""));
  EXPECT_THAT(err, HasSubstr("\"event\":\"stopped\",\"left\":0,"));
}

// --- Tools ---

TEST_F(BinaryTest, ListenPrintsWhatArrives) {
  write_config("[retry]\nretries = 1\nretry_interval = 0.01\n");
  ChildProcess listen({binary(), "listen", "--port", "0", "--fail-first", "1", "--bodies"},
                      folder_.path());
  const auto line = listen.wait_for_err("http://127.0.0.1:");
  ASSERT_TRUE(line);
  const std::size_t begin = line->find("http://");
  const std::string url = line->substr(begin, line->find(' ', begin) - begin);
  EXPECT_EQ(run({"send", "--target", url + "hooks"}, "1\n2\n").exit_code, 0);
  const auto failed = listen.wait_for_out("attempt 1");
  ASSERT_TRUE(failed);
  EXPECT_THAT(*failed, HasSubstr("size 2"));
  EXPECT_THAT(*failed, HasSubstr("-> 503"));
  const auto delivered = listen.wait_for_out("attempt 2");
  ASSERT_TRUE(delivered);
  EXPECT_THAT(*delivered, HasSubstr("-> 200"));
  EXPECT_TRUE(listen.wait_for_out("[1,2]"));
  listen.signal(SIGINT);
  EXPECT_EQ(listen.wait().exit_code, 0);
}

TEST_F(BinaryTest, DemoAddsUp) {
  const ProcessResult demo = run({"demo", "--json"});
  EXPECT_EQ(demo.exit_code, 0) << demo.err;
  EXPECT_EQ(check_json(demo.out, false), std::nullopt) << demo.out;
  EXPECT_THAT(demo.out, HasSubstr("\"ok\":true"));
  EXPECT_THAT(demo.err, HasSubstr("It all adds up."));
}

}  // namespace
}  // namespace postbag::test

// `postbag send` where something is in its way: a daemon with limits, no room, a disk that fails.
// The last needs the preloaded library of crash/kill_shim.cc, which does not go together with a
// sanitizer.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <boost/asio/io_context.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/read_until.hpp>
#include <cstdint>
#include <string>
#include <thread>
#include <vector>

#include "tests/support/binary_support.h"

namespace postbag::test {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using Target = BinaryTarget;

class BinarySendTest : public BinaryFixture {
 protected:
  void write_config(const std::string& batch, const std::string& intake = "",
                    const std::string& more = "") const {
    write_file("postbag.toml", "[batch]\n" + batch +
                                   "\n[network]\nallow_http = true\nallow = [\"127.0.0.1\"]\n"
                                   "[intake]\nlisten = \"127.0.0.1:0\"\n" +
                                   intake + "\n" + more);
  }
  static std::string hooks(const std::string& url, int count, const std::string& data = "1") {
    std::string lines;
    for (int i = 0; i < count; ++i) lines += hook(url, data);
    return lines;
  }
};

// It polled for ever while 12,000 hooks waited in a bag for 4,000 more.
TEST_F(BinarySendTest, BagsWithoutATimerDoNotHoldItUpAtADaemon) {
  write_config("size = 16000");
  Target target;
  const auto daemon = serve();
  const ProcessResult sent = run({"send", "--json"}, hooks(target.url(), 12'000));
  EXPECT_EQ(sent.exit_code, 0) << sent.err;
  EXPECT_EQ(number(sent, "delivered"), 12'000u);
  EXPECT_EQ(target.payloads().size(), 12'000u);
  stop(*daemon);
}

// Its groups had up to 1 MiB whatever the daemon takes.
TEST_F(BinarySendTest, GroupsKeepWithinMaxBody) {
  write_config("size = 100\ntime = 0.05", "max_body = \"32KiB\"\nmax_hook = \"32KiB\"");
  Target target;
  const auto daemon = serve();
  const std::string data = "\"" + std::string(1500, 'x') + "\"";
  const ProcessResult sent = run({"send", "--json"}, hooks(target.url(), 300, data));
  EXPECT_EQ(sent.exit_code, 0) << sent.err;
  EXPECT_EQ(number(sent, "delivered"), 300u);
  const std::string too_long = "\"" + std::string(33'000, 'x') + "\"";
  const ProcessResult refused =
      run({"send"}, hook(target.url(), "1") + hook(target.url(), too_long));
  EXPECT_EQ(refused.exit_code, 65);
  EXPECT_THAT(refused.err, HasSubstr("line 2"));
  stop(*daemon);
}

// "line 1" was said, alone and by the daemon, of what no line is to blame for.
TEST_F(BinarySendTest, NoLineIsBlamedForACallThatMemoryCannotHold) {
  write_config("size = 100", "max_body = \"1MiB\"", "[engine]\nmax_memory = \"64KiB\"\n");
  Target target;
  std::string payloads;
  for (int i = 0; i < 1000; ++i) payloads += "\"" + std::string(98, 'x') + "\"\n";
  write_file("payloads", payloads);
  const auto refuse = [&] {
    const ProcessResult sent = run({"send", "--target", target.url(), "payloads"});
    EXPECT_EQ(sent.exit_code, 65);
    EXPECT_THAT(sent.err, HasSubstr("max_memory allows"));
    EXPECT_THAT(sent.err, Not(HasSubstr("line 1")));
  };
  refuse();
  const auto daemon = serve();
  refuse();
  stop(*daemon);
}

// 404 after id_window counted as delivered.
TEST_F(BinarySendTest, AForgottenIdIsNotCalledDelivered) {
  write_config("size = 1", "id_window = 0.1", "[retry]\nretry_interval = \"1h\"\n");
  Target target;
  target.answer_with(500);
  const auto daemon = serve();
  const ProcessResult sent =
      run({"send", "--json"}, "{\"target\":\"" + target.url() + "\",\"data\":1,\"id\":\"mine\"}\n");
  EXPECT_EQ(sent.exit_code, 1) << sent.err;
  EXPECT_EQ(number(sent, "delivered"), 0u);
  EXPECT_EQ(number(sent, "left"), 1u);
  EXPECT_THAT(sent.err, HasSubstr("of 1 the outcome is not remembered"));
  EXPECT_EQ(number(run({"status", "--json"}), "pending"), 1u);
  stop(*daemon);
}

// It delivered what nobody had stored, and ended with 0.
TEST_F(BinarySendTest, DurableIsRefusedByADaemonThatStoresNothing) {
  write_config("size = 1", "", "[store]\ndurability = \"memory\"\n");
  Target target;
  const auto daemon = serve();
  const ProcessResult sent = run({"send", "--durable"}, hooks(target.url(), 1));
  EXPECT_EQ(sent.exit_code, 78);
  EXPECT_THAT(sent.err, HasSubstr("nothing was sent"));
  EXPECT_EQ(run({"send"}, hooks(target.url(), 1)).exit_code, 0);
  EXPECT_EQ(target.payloads().size(), 1u);
  stop(*daemon);
}

// The error went past the wait and the report, and what was accepted stayed behind.
TEST_F(BinarySendTest, WithoutRoomItDeliversAndReportsWhatWasAccepted) {
  write_config("size = 10000\ntime = \"1h\"", "", "[store]\nmax_bytes = \"1MiB\"\n");
  Target target;
  const std::string data = "\"" + std::string(2000, 'x') + "\"";
  const ProcessResult sent = run({"send", "--durable", "--json"}, hooks(target.url(), 2000, data));
  EXPECT_EQ(sent.exit_code, 74) << sent.err;
  EXPECT_GT(number(sent, "accepted"), 0u);
  EXPECT_EQ(number(sent, "left"), 0u);
  EXPECT_EQ(number(sent, "delivered"), number(sent, "accepted"));
  EXPECT_EQ(target.payloads().size(), number(sent, "accepted"));
  EXPECT_THAT(sent.err, HasSubstr("were not sent"));
}

TEST_F(BinarySendTest, ABadLineIsNamedOnceAndSaysFromWhereNothingWasSent) {
  write_config("size = 100\ntime = 0.05");
  Target target;
  std::string lines = hooks(target.url(), 1500);
  lines += "{\"target\":1,\"data\":1}\n";
  const ProcessResult sent = run({"send", "--json"}, lines);
  EXPECT_EQ(sent.exit_code, 65);
  EXPECT_THAT(sent.err, HasSubstr("line 1501: "));
  EXPECT_THAT(sent.err, ::testing::Not(HasSubstr("(line ")));
  EXPECT_THAT(sent.err, HasSubstr("on were not sent"));
}

// It said "were not sent" of lines that the daemon may have taken: whoever sent them again had them
// twice.
TEST_F(BinarySendTest, LinesWithoutAnAnswerAreNotCalledUnsent) {
  write_config("size = 100");
  boost::asio::io_context io;
  using Socket = boost::asio::local::stream_protocol;
  Socket::acceptor daemon(io, folder_.file("postbag.db.sock"));
  std::thread thread([&] {
    Socket::socket peer = daemon.accept();
    std::string request;
    boost::system::error_code error;
    boost::asio::read_until(peer, boost::asio::dynamic_buffer(request), "\"data\":2}", error);
    EXPECT_FALSE(error) << error.message();
  });
  const std::string url = "https://a.example/";
  const ProcessResult sent = run({"send"}, hook(url, "1") + hook(url, "2"));
  thread.join();
  EXPECT_EQ(sent.exit_code, 69);
  EXPECT_THAT(sent.err, HasSubstr("whether the lines from 1 to 2 were accepted is not known; those "
                                  "from 3 on were not sent"));
}

// A path that is too long for a socket cannot have a daemon; only `serve` needs one.
TEST_F(BinarySendTest, ALongStorePathNeedsNoDaemon) {
  const std::string path = std::string(110, 's') + ".db";
  write_config("size = 1", "", "[store]\npath = \"" + path + "\"\n");
  Target target;
  const ProcessResult sent = run({"send"}, hook(target.url(), "1"));
  EXPECT_EQ(sent.exit_code, 0) << sent.err;
  const ProcessResult served = run({"serve"});
  EXPECT_EQ(served.exit_code, 78);
  EXPECT_THAT(served.err, HasSubstr("[store] path"));
}

// It waited for outcomes that could not come any more, at full speed.
TEST_F(BinarySendTest, ADiskThatFailsEndsItWithItsCode) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "a preloaded library does not go together with a sanitizer";
#endif
  write_config("size = 1", "", "[retry]\nretries = 0\n");
  Target target;
  target.answer_with(500);
  ASSERT_EQ(run({"send"}).exit_code, 0);  // the store is there
  int accepted_first = 0, write = 1;
  for (;; ++write) {
    const ProcessResult sent =
        run_process({"/usr/bin/env", std::string("LD_PRELOAD=") + POSTBAG_SHIM,
                     "POSTBAG_KILL_POINT=wal.write.before", "POSTBAG_KILL_EIO=1",
                     "POSTBAG_KILL_NTH=" + std::to_string(write), binary(), "send", "--json"},
                    folder_.path(), hooks(target.url(), 20));
    // It has fewer writes than that.
    if (sent.exit_code == 1 && number(sent, "failed") == 20u) break;
    ASSERT_EQ(sent.exit_code, 74) << write << ' ' << sent.err;
    if (sent.out.empty()) continue;  // it failed while it was opened
    ++accepted_first;
    EXPECT_EQ(number(sent, "delivered"), 0u);
    EXPECT_EQ(number(sent, "accepted"), number(sent, "failed") + number(sent, "left"));
    EXPECT_THAT(sent.err, HasSubstr("store failed"));
  }
  EXPECT_GT(accepted_first, 0);
  EXPECT_GT(write, 4);
}

}  // namespace
}  // namespace postbag::test

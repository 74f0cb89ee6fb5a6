// The benchmarks' receiver is what their figures rest on: it must count exactly, however the bytes
// come.

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "bench/batch_check.h"
#include "bench/counting_receiver.h"
#include "bench/open_loop.h"
#include "bench/raw_client.h"
#include "bench/request_scanner.h"
#include "bench/windowed_tail.h"

namespace postbag {
namespace {

std::string describe(std::string_view path, std::string_view body, std::uint64_t batch_size,
                     bool keep_alive) {
  return std::string(path) + " '" + std::string(body) + "' " + std::to_string(batch_size) +
         (keep_alive ? "" : " close");
}

TEST(RequestScanner, FindsTheSameRequestsInPiecesOfEverySize) {
  std::string stream;
  std::vector<std::string> wanted;
  for (std::size_t i = 0; i < 4; ++i) {
    const std::string body(i * 3, static_cast<char>('a' + i));
    const std::string path = "/t/" + std::to_string(i);
    stream += "POST " + path +
              " HTTP/1.1\r\nhost: x\r\nPostbag-Batch-Size: " + std::to_string(i + 1) +
              "\r\ncontent-length: " + std::to_string(body.size()) +
              (i == 3 ? "\r\nConnection: close" : "") + "\r\n\r\n" + body;
    wanted.push_back(describe(path, body, i + 1, i != 3));
  }
  for (std::size_t step = 1; step <= stream.size(); ++step) {
    RequestScanner scanner(true);
    std::vector<std::string> found;
    for (std::size_t at = 0; at < stream.size(); at += step) {
      const std::string piece = stream.substr(at, step);
      ASSERT_TRUE(scanner.feed(piece, [&](const CountedRequest& request) {
        found.push_back(
            describe(request.path, request.body, request.batch_size, request.keep_alive));
      }));
    }
    ASSERT_EQ(found, wanted) << "in pieces of " << step;
  }
}

TEST(RequestScanner, RefusesWhatItCannotCount) {
  for (const char* text :
       {"GARBAGE\r\n\r\n", "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
        "POST / HTTP/1.1\r\nContent-Length: 1x\r\n\r\n",
        "POST / HTTP/1.1\r\nPostbag-Batch-Size: \r\n\r\n"}) {
    EXPECT_FALSE(RequestScanner(false).feed(text, [](const CountedRequest&) {})) << text;
  }
}

TEST(SplitJsonArray, GivesTheExactBytesOfEveryElement) {
  std::vector<std::string> elements;
  const auto each = [&](std::string_view element) { elements.emplace_back(element); };
  EXPECT_TRUE(split_json_array(R"([{"a":[1,2],"b":"],\"["}, 3,"x"])", each));
  EXPECT_EQ(elements, (std::vector<std::string>{R"({"a":[1,2],"b":"],\"["})", " 3", R"("x")"}));
  EXPECT_FALSE(split_json_array(R"({"a":1})", each));
  EXPECT_FALSE(split_json_array(R"([[1])", each));
  EXPECT_FALSE(split_json_array(R"(["x])", each));
}

class SequenceCheckTest : public testing::Test {
 protected:
  std::uint64_t wrong(const std::vector<std::pair<int, int>>& hooks, std::uint64_t batch_size) {
    std::string body = "[";
    for (const auto& [target, sequence] : hooks) {
      if (body.size() > 1) body += ",";
      body += maker_.make(static_cast<std::uint64_t>(target), static_cast<std::uint64_t>(sequence));
    }
    body += "]";
    CountedRequest request;
    request.body = body;
    request.batch_size = batch_size;
    return check_.check(request);
  }
  PayloadMaker maker_;
  SequenceCheck check_{2, 3, true};
};

TEST_F(SequenceCheckTest, TellsWhatIsTwiceOutOfOrderOrMissing) {
  EXPECT_EQ(wrong({{0, 0}, {1, 0}, {0, 1}}, 3), 0u);
  EXPECT_EQ(check_.missing(), 3u);
  EXPECT_EQ(wrong({{0, 1}}, 1), 1u);          // twice
  EXPECT_EQ(wrong({{1, 2}, {1, 1}}, 2), 2u);  // out of order
  EXPECT_EQ(wrong({{0, 2}}, 2), 1u);          // the header says two
  EXPECT_EQ(wrong({{2, 0}, {0, 3}}, 2), 2u);  // never sent
  EXPECT_EQ(check_.missing(), 0u);
}

TEST(CountingReceiver, CountsWhatItAnsweredWith200Only) {
  CountingReceiver receiver({});
  receiver.start();
  RawClientOptions options;
  options.port = receiver.port();
  options.connections = 3;
  options.requests = 300;
  options.request = prepared_request(receiver.port(), std::string(100'000, ' '), 7);
  EXPECT_EQ(run_raw_client(options).refused, 0u);
  EXPECT_EQ(receiver.counters().requests, 300u);
  EXPECT_EQ(receiver.counters().hooks, 2100u);
  EXPECT_EQ(receiver.counters().body_bytes, 30'000'000u);
}

TEST(CountingReceiver, RefusesTheShareItIsToldTo) {
  ReceiverCounters counters;
  counters.fail_per_mille = 250;
  CountingReceiverOptions receiver_options;
  receiver_options.counters = &counters;
  CountingReceiver receiver(std::move(receiver_options));
  receiver.start();
  RawClientOptions options;
  options.port = receiver.port();
  options.connections = 1;
  options.requests = 300;
  options.request = prepared_request(receiver.port(), "[]", 1);
  EXPECT_EQ(run_raw_client(options).refused, 99u);  // three pass, the fourth fails
  EXPECT_EQ(counters.requests, 300u);
  EXPECT_EQ(counters.refused, 99u);
}

TEST(OpenLoop, ARateThatWasNotHeldIsSaturatedAndOnlyALostHookIsAFailure) {
  OpenLoop loop;
  loop.interval_ns = 1e6;
  loop.hooks = 10'000;  // ten seconds, so a fifth of one may be left at the end
  const std::int64_t end_ns = loop.due_ns(loop.hooks);
  EXPECT_EQ(judge_load(loop, 10'000, 0, end_ns), LoadResult::held);
  EXPECT_EQ(judge_load(loop, 10'000, 0, end_ns + 200'000'000), LoadResult::held);
  EXPECT_EQ(judge_load(loop, 10'000, 0, end_ns + 200'000'001), LoadResult::saturated);
  EXPECT_EQ(judge_load(loop, 9'999, 1, end_ns), LoadResult::saturated);
  EXPECT_EQ(judge_load(loop, 9'999, 0, end_ns), LoadResult::lost);
}

TEST(WindowedTail, APauseIsInTheWindowsItTouchesOnly) {
  const auto tail = std::make_unique<WindowedTail>();
  EXPECT_EQ(tail->median_p99_us(), 0);
  LogHistogram whole;
  // Eleven tenths of a second, the last not complete; in two of them every hook waits for 50 ms.
  for (std::int64_t window = 0; window < 11; ++window) {
    const bool pause = window == 3 || window == 4;
    for (std::int64_t hook = 0; hook < 100; ++hook) {
      const std::int64_t waited_ns = pause ? 50'000'000 : 100'000 + hook;
      tail->add(1 + window * WindowedTail::window_ns + hook * 1000, waited_ns);
      whole.add(waited_ns);
    }
  }
  EXPECT_EQ(tail->windows(), 10);
  EXPECT_NEAR(tail->median_p99_us(), 100, 2);
  EXPECT_NEAR(whole.quantile_us(0.99), 50'000, 1000);
}

TEST(OpenLoop, DoesNotWaitForWhatWasRefused) {
  OpenLoopTimes times;
  OpenLoopLoad load(times);
  std::uint64_t offered = 0;
  const OpenLoopLoad::Offer refuse = [&](const OpenLoop&, std::uint64_t first, std::uint64_t end) {
    offered += end - first;
    load.refused(end - first);
  };
  EXPECT_EQ(load.run(OpenLoop::make(1e6, 0, 0.001), refuse), LoadResult::saturated);
  EXPECT_EQ(offered, 1000u);
}

}  // namespace
}  // namespace postbag

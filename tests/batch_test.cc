// The small parts of the core: segments, batches and their meta, chunks, deadlines, retry schedule,
// request heads, policy table.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <map>
#include <random>

#include "engine/pure/batch.h"
#include "engine/pure/chunk_codec.h"
#include "engine/pure/deadline_queue.h"
#include "engine/pure/hook_id.h"
#include "engine/pure/policy_table.h"
#include "engine/pure/retry_schedule.h"
#include "engine/pure/segment.h"
#include "engine/pure/varint.h"
#include "engine/pure/wire.h"
#include "postbag/engine.h"
#include "postbag/store.h"

namespace postbag {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::ElementsAre;

// --- Segments

TEST(SegmentPool, GivesAtLeastTheRoomAskedForAndWastesLittle) {
  SegmentPool pool;
  for (std::size_t bytes = 1; bytes < 200'000; bytes += 1 + bytes / 50) {
    Segment* segment = pool.take(bytes);
    EXPECT_GE(segment->room(), bytes);
    EXPECT_LE(segment->capacity, std::max<std::size_t>(128, (bytes + 16) * 9 / 8 + 1));
    EXPECT_EQ(segment->used, 0u);
    EXPECT_EQ(segment->next, nullptr);
    std::memset(segment->data(), 'x', segment->capacity);
    EXPECT_EQ(pool.live_bytes(), segment->capacity + sizeof(Segment));
    pool.give_back(segment);
    EXPECT_EQ(pool.live_bytes(), 0u);
  }
}

TEST(SegmentPool, RecyclesAndKeepsABound) {
  SegmentPool pool(1000);
  Segment* first = pool.take(300);
  pool.give_back(first);
  Segment* again = pool.take(290);
  EXPECT_EQ(again, first);
  Segment* large = pool.take(2000);  // over what is kept
  pool.give_back(large);
  pool.give_back(again);
  EXPECT_EQ(pool.live_bytes(), 0u);
}

TEST(SegmentPool, WhatIsNotAskedForAnyMoreMakesRoomForWhatIs) {
  constexpr std::size_t keep_bytes = 64 << 10, before = 300, later = 7000;
  SegmentPool pool(keep_bytes);
  std::vector<Segment*> out;
  const auto use = [&](std::size_t bytes, std::size_t count) {
    while (out.size() < count) out.push_back(pool.take(bytes));
    for (Segment* segment : std::exchange(out, {})) pool.give_back(segment);
  };
  use(before, 2 * keep_bytes / before);
  EXPECT_TRUE(pool.keeps(before));
  for (int round = 0; round < 100; ++round) use(later, 4);
  EXPECT_TRUE(pool.keeps(later));
  // And all that are out at one time are kept: 4 of 8, beside whatever else.
  for (int number = 0; number < 4; ++number) {
    EXPECT_TRUE(pool.keeps(later)) << number;
    out.push_back(pool.take(later));
  }
  use(later, 4);
  // What both ask for stays.
  for (int round = 0; round < 100; ++round) {
    use(later, 4);
    use(before, 10);
    EXPECT_TRUE(pool.keeps(later) && pool.keeps(before)) << round;
  }
}

// --- Batches

struct TestHook {
  std::string body, event, id, content_type;
  FailedKey row = 0;
  bool operator==(const TestHook&) const = default;
};

std::vector<TestHook> hooks_of(const Batch& batch) {
  std::vector<TestHook> all;
  for_each_hook(batch, [&](const BatchedHook& hook) {
    EXPECT_EQ(hook.index, all.size());
    all.push_back({std::string(hook.body), std::string(hook.event), std::string(hook.id),
                   std::string(hook.content_type), hook.row});
  });
  return all;
}

std::string wire_of(const Batch& batch) {
  std::vector<std::string_view> pieces;
  wire_pieces(batch, pieces);
  std::string all;
  for (std::string_view piece : pieces) all += piece;
  EXPECT_EQ(all.size(), wire_bytes(batch));
  return all;
}

std::string wire_of(const std::vector<TestHook>& hooks) {
  std::string all;
  for (const TestHook& hook : hooks) all += (all.empty() ? "[" : ",") + hook.body;
  return all + "]";
}

void append(Batch& batch, SegmentPool& pool, const TestHook& hook, std::size_t first_bytes = 0) {
  const std::uint64_t expected = wire_bytes_with(batch, hook.body.size());
  append_hook(batch, pool, {hook.body, hook.event, hook.id, hook.content_type, hook.row},
              first_bytes);
  EXPECT_EQ(wire_bytes(batch), expected);
}

class RandomHooks {
 public:
  explicit RandomHooks(std::uint64_t seed) : random_(seed) {}
  std::uint64_t upto(std::uint64_t most) { return random_() % (most + 1); }
  TestHook make() {
    TestHook hook;
    const std::uint64_t kind = upto(20);
    const std::size_t bytes = kind == 0 ? upto(150'000) : kind < 5 ? upto(4000) : upto(60);
    hook.body = "\"" + std::string(bytes, static_cast<char>('a' + upto(25))) + "\"";
    if (upto(2) == 0) hook.event = upto(1) == 0 ? "made" : "order.changed";
    if (upto(4) == 0) hook.id = "id-" + std::to_string(random_());
    if (upto(9) == 0) hook.content_type = "application/vnd.x+json";
    if (upto(9) == 0) hook.row = random_() >> upto(60) | 1;
    return hook;
  }

 private:
  std::mt19937_64 random_;
};

TEST(Batch, GivesBackWhatWasPutIn) {
  for (std::uint64_t seed = 1; seed <= 200; ++seed) {
    RandomHooks random(seed);
    SegmentPool pool;
    Batch batch;
    std::vector<TestHook> model;
    const std::size_t first_bytes = random.upto(5000);
    for (std::uint64_t count = 1 + random.upto(40); count > 0; --count) {
      model.push_back(random.make());
      if (random.upto(5) == 0) batch.names_event = true;
      append(batch, pool, model.back(), first_bytes);
    }
    EXPECT_EQ(hooks_of(batch), model) << "seed " << seed;
    EXPECT_EQ(wire_of(batch), wire_of(model)) << "seed " << seed;
    drop_hooks(batch, pool);
    EXPECT_EQ(pool.live_bytes(), 0u);
  }
}

TEST(Batch, TruncateTakesTheLastHooksOutAgain) {
  for (std::uint64_t seed = 1; seed <= 200; ++seed) {
    RandomHooks random(seed);
    SegmentPool pool;
    Batch batch;
    std::vector<TestHook> model;
    std::vector<BatchMark> marks{mark_of(batch)};
    for (int step = 0; step < 30; ++step) {
      if (random.upto(4) == 0) {
        const std::size_t back = random.upto(marks.size() - 1);
        truncate_to(batch, pool, marks[back]);
        marks.resize(back + 1);
        model.resize(back);
      } else {
        model.push_back(random.make());
        append(batch, pool, model.back());
        marks.push_back(mark_of(batch));
      }
      ASSERT_EQ(batch.hooks, model.size());
      ASSERT_EQ(hooks_of(batch), model) << "seed " << seed << " step " << step;
      ASSERT_TRUE(model.empty() || wire_of(batch) == wire_of(model)) << "seed " << seed;
    }
    drop_hooks(batch, pool);
    EXPECT_EQ(pool.live_bytes(), 0u);
  }
}

TEST(Batch, AnOrdinaryHookCostsTwoBytesOfMeta) {
  SegmentPool pool;
  Batch batch;
  append(batch, pool, {"{}", "made", "", "", 0});
  const std::size_t first = batch.meta.size();
  for (int hook = 0; hook < 10; ++hook) append(batch, pool, {"{\"a\":1}", "made", "", "", 0});
  EXPECT_EQ(batch.meta.size(), first + 20);
  drop_hooks(batch, pool);
}

TEST(Batch, ChunkOfFindsTheRow) {
  Batch batch;
  batch.chunk = {10, 0, 0, 3};
  EXPECT_EQ(batch.chunk_of(2).number, 10u);
  batch.more_chunks = std::make_unique<std::vector<ChunkInfo>>(
      std::vector<ChunkInfo>{{11, 0, 3, 2}, {15, 0, 5, 1}});
  std::vector<ChunkNumber> numbers;
  for (std::uint32_t index = 0; index < 6; ++index) numbers.push_back(batch.chunk_of(index).number);
  EXPECT_THAT(numbers, ElementsAre(10u, 10u, 10u, 11u, 11u, 15u));
}

// --- Chunks

// A batch in random chunks, as the store would have them.
std::vector<std::string> random_chunks(RandomHooks& random, std::vector<TestHook>& model) {
  SegmentPool pool;
  Batch batch;
  std::vector<std::string> blobs;
  for (std::uint64_t chunks = 1 + random.upto(4); chunks > 0; --chunks) {
    const BatchMark from = mark_of(batch);
    batch.names_event = from.hooks > 0;
    for (std::uint64_t count = 1 + random.upto(6); count > 0; --count) {
      model.push_back(random.make());
      append(batch, pool, model.back());
    }
    const BatchMark to = mark_of(batch);
    std::vector<std::string_view> pieces;
    chunk_body_pieces(from, to, batch.first_segment, pieces);
    std::string blob = encode_chunk_head(batch, from, to);
    for (std::string_view piece : pieces) blob += piece;
    blobs.push_back(std::move(blob));
  }
  drop_hooks(batch, pool);
  return blobs;
}

TEST(ChunkCodec, ABatchReadBackHasTheSameBytes) {
  for (std::uint64_t seed = 1; seed <= 300; ++seed) {
    RandomHooks random(seed);
    std::vector<TestHook> model;
    SegmentPool pool;
    Batch batch;
    for (const std::string& blob : random_chunks(random, model)) {
      batch.names_event = true;
      ASSERT_TRUE(decode_chunk(blob, batch, pool)) << "seed " << seed;
    }
    EXPECT_EQ(hooks_of(batch), model) << "seed " << seed;
    EXPECT_EQ(wire_of(batch), wire_of(model)) << "seed " << seed;
    drop_hooks(batch, pool);
  }
}

TEST(ChunkCodec, DamagedBlobsNeverDoHarm) {
  std::uint64_t refused = 0;
  for (std::uint64_t seed = 1; seed <= 3000; ++seed) {
    RandomHooks random(seed);
    std::vector<TestHook> model;
    std::string blob = random_chunks(random, model).front();
    switch (random.upto(3)) {
      case 0:
        blob.resize(random.upto(blob.size() - 1));
        break;
      case 1:
        blob += std::string(1 + random.upto(9), 'x');
        break;
      default:
        // Mostly in the head, where it hurts.
        for (std::uint64_t flips = 1 + random.upto(3); flips > 0; --flips) {
          const std::uint64_t range = std::min<std::uint64_t>(blob.size() - 1, 40);
          const std::size_t place =
              random.upto(3) == 0 ? random.upto(blob.size() - 1) : random.upto(range);
          blob[place] = static_cast<char>(blob[place] ^ (1 << random.upto(7)));
        }
    }
    SegmentPool pool;
    Batch batch;
    if (decode_chunk(blob, batch, pool)) {
      // Only a change that the layout cannot show: the row's checksum is the store's affair.
      EXPECT_EQ(hooks_of(batch).size(), batch.hooks);
    } else {
      refused += 1;
      EXPECT_EQ(batch.hooks, 0u);
    }
    drop_hooks(batch, pool);
    EXPECT_EQ(pool.live_bytes(), 0u);
  }
  EXPECT_GT(refused, 1500u);
}

TEST(ChunkCodec, RefusesWhatCannotBe) {
  SegmentPool pool;
  Batch batch;
  using namespace std::string_literals;
  EXPECT_FALSE(decode_chunk("", batch, pool));
  EXPECT_FALSE(decode_chunk("\x02\x01\x02\x00\x01[1"s, batch, pool));  // another version
  EXPECT_FALSE(decode_chunk("\x01\x00\x00"s, batch, pool));            // no hooks
  EXPECT_FALSE(decode_chunk("\x01\x01\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"s, batch, pool));
  EXPECT_FALSE(decode_chunk("\x01\x01\x02\x00\x02[1"s, batch, pool));   // a body that is too short
  EXPECT_FALSE(decode_chunk("\x01\x01\x02\x00\x01[1 "s, batch, pool));  // or too long
  EXPECT_EQ(batch.hooks, 0u);
  EXPECT_TRUE(decode_chunk("\x01\x01\x02\x00\x01[1"s, batch, pool));
  EXPECT_EQ(wire_of(batch), "[1]");
  drop_hooks(batch, pool);
}

TEST(Varint, RoundTripAndOverflow) {
  for (std::uint64_t value : {0ull, 1ull, 127ull, 128ull, 300ull, 1ull << 32, ~0ull}) {
    std::string text;
    put_varint(text, value);
    std::string_view in = text;
    EXPECT_EQ(take_varint(in), value);
    EXPECT_TRUE(in.empty());
    std::string_view cut = std::string_view(text).substr(0, text.size() - 1);
    std::uint64_t out = 0;
    EXPECT_FALSE(try_take_varint(cut, out));
  }
  std::string_view endless = "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff";
  std::uint64_t out = 0;
  EXPECT_FALSE(try_take_varint(endless, out));
}

TEST(FailedKey, SaysWhereTheHookIs) {
  const FailedKey key = failed_key(123'456'789, 15'999);
  EXPECT_EQ(failed_key_chunk(key), 123'456'789u);
  EXPECT_EQ(failed_key_index(key), 15'999u);
  EXPECT_LT(failed_key(1, 15'999), failed_key(2, 0));
}

// --- Deadlines

// Against a plain multimap, with more durations than there are lanes.
TEST(DeadlineQueue, FiresLikeAReferenceModel) {
  for (std::uint64_t seed = 1; seed <= 100; ++seed) {
    RandomHooks random(seed);
    DeadlineQueue queue;
    std::vector<DeadlineNode> nodes(60);
    std::map<std::pair<TimePoint, std::uint64_t>, std::size_t> model;
    std::map<std::size_t, std::pair<TimePoint, std::uint64_t>> armed;
    std::uint64_t sequence = 0;
    TimePoint now{seconds(1)};
    const auto forget = [&](std::size_t node) {
      if (const auto found = armed.find(node); found != armed.end()) {
        model.erase(found->second);
        armed.erase(found);
      }
    };
    for (int step = 0; step < 2000; ++step) {
      const std::size_t node = random.upto(nodes.size() - 1);
      const std::uint64_t kind = random.upto(9);
      if (kind < 6) {
        const Duration delay = milliseconds(random.upto(seed % 2 == 0 ? 5 : 100) * 7);
        forget(node);
        if (kind < 5) {
          queue.arm(nodes[node], now, delay);
        } else {
          queue.arm_at(nodes[node], now + delay);
        }
        armed[node] = {now + delay, sequence++};
        model.emplace(armed[node], node);
      } else if (kind == 6) {
        queue.disarm(nodes[node]);
        forget(node);
      } else {
        now += milliseconds(random.upto(60));
        while (DeadlineNode* due = queue.pop_due(now)) {
          ASSERT_FALSE(model.empty());
          ASSERT_LE(model.begin()->first.first, now);
          ASSERT_EQ(static_cast<std::size_t>(due - nodes.data()), model.begin()->second);
          ASSERT_FALSE(due->armed());
          forget(model.begin()->second);
        }
        ASSERT_TRUE(model.empty() || model.begin()->first.first > now) << "seed " << seed;
      }
      ASSERT_EQ(queue.next(), model.empty() ? time_point_never : model.begin()->first.first);
    }
  }
}

TEST(DeadlineQueue, NeverIsNever) {
  DeadlineQueue queue;
  DeadlineNode node;
  EXPECT_EQ(queue.next(), time_point_never);
  queue.arm(node, TimePoint{seconds(5)}, Duration::max());
  EXPECT_EQ(queue.next(), time_point_never);
  EXPECT_EQ(queue.pop_due(TimePoint{std::chrono::hours(1'000'000)}), nullptr);
  queue.disarm(node);
  queue.disarm(node);
}

// --- Retry schedule

TEST(RetrySchedule, Table) {
  RetryPolicy fixed;
  fixed.retry_interval = seconds(5);
  EXPECT_EQ(retry_delay(fixed, 1, 0.9), seconds(5));
  EXPECT_EQ(retry_delay(fixed, 1000, 0.9), seconds(5));
  RetryPolicy growing = fixed;
  growing.backoff = Backoff::exponential;
  growing.max_interval = seconds(60);
  const std::vector<int> expected{5, 10, 20, 40, 60, 60};
  for (std::uint32_t attempts = 1; attempts <= expected.size(); ++attempts) {
    EXPECT_EQ(retry_delay(growing, attempts, 0), seconds(expected[attempts - 1]));
  }
  EXPECT_EQ(retry_delay(growing, 1'000'000, 0), seconds(60));
  growing.max_interval = seconds(1);  // never shortens what was asked for
  EXPECT_EQ(retry_delay(growing, 3, 0), seconds(5));
  growing.retry_interval = Duration::zero();
  EXPECT_EQ(retry_delay(growing, 1'000'000, 0.5), Duration::zero());
  RetryPolicy spread = fixed;
  spread.jitter = 0.5;
  EXPECT_EQ(retry_delay(spread, 1, 0), seconds(5));
  EXPECT_EQ(retry_delay(spread, 1, 0.5), milliseconds(6250));
  EXPECT_LT(retry_delay(spread, 1, 0.999999), milliseconds(7500));
}

TEST(RetrySchedule, AttemptsAreOnePlusRetries) {
  EXPECT_TRUE(attempts_used_up(0, 1));
  EXPECT_FALSE(attempts_used_up(2, 2));
  EXPECT_TRUE(attempts_used_up(2, 3));
  EXPECT_FALSE(attempts_used_up(1'000'000, 1'000'000));
}

// --- Request heads

std::string start_of(std::string_view url, const HeaderList& headers = {},
                     std::string_view key = "") {
  std::string error;
  const auto parsed = parse_url(url, error);
  EXPECT_TRUE(parsed.has_value()) << error;
  DeliveryPolicy delivery;
  delivery.headers = headers;
  return request_head_start(*parsed, delivery, key);
}

TEST(Wire, GoldenHead) {
  std::string head = "rubbish of the request before";
  write_request_head(
      head,
      start_of("https://example.com/hooks?a=b", {{"Authorization", "Bearer x"}}, "X-Tenant: 7\r\n"),
      {{0x0190a6f200007000, 0x8000000000000000}, 3, 2, 1234});
  EXPECT_EQ(head,
            "POST /hooks?a=b HTTP/1.1\r\n"
            "Host: example.com\r\n"
            "Authorization: Bearer x\r\n"
            "X-Tenant: 7\r\n"
            "User-Agent: postbag/" +
                std::string(version()) +
                "\r\n"
                "Accept-Encoding: identity\r\n"
                "Content-Type: application/json\r\n"
                "Postbag-Batch-Id: 0190a6f2-0000-7000-8000-000000000000\r\n"
                "Postbag-Batch-Size: 3\r\n"
                "Postbag-Attempt: 2\r\n"
                "Content-Length: 1234\r\n"
                "\r\n");
}

TEST(Wire, HostHasThePortOnlyWhereItIsNotTheDefault) {
  EXPECT_THAT(start_of("http://example.com/"), testing::HasSubstr("\r\nHost: example.com\r\n"));
  EXPECT_THAT(start_of("http://example.com:443/"), testing::HasSubstr("Host: example.com:443\r\n"));
  EXPECT_THAT(start_of("https://[2001:db8::1]:8443/"),
              testing::HasSubstr("\r\nHost: [2001:db8::1]:8443\r\n"));
}

TEST(Wire, TheHooksHeaderWinsOverThePolicys) {
  const std::string start = start_of("https://example.com/", {{"x-a", "policy"}, {"X-B", "policy"}},
                                     "X-Other: 1\r\nX-A: hook\r\n");
  EXPECT_THAT(start, testing::Not(testing::HasSubstr("x-a: policy")));
  EXPECT_THAT(start, testing::HasSubstr("X-A: hook\r\n"));
  EXPECT_THAT(start, testing::HasSubstr("X-B: policy\r\n"));
}

// What a receiver sent back of [delivery] headers, and in its body of any, was kept and shown.
TEST(Wire, AnAnswerKeepsNoValueOfASentHeader) {
  const std::string start =
      start_of("https://example.com/", {{"X-Api-Key", "policy-key"}, {"X-Api", "policy"}},
               "Authorization: Bearer hook-token\r\nX-Env: on\r\n");
  const std::string head = start + "Postbag-Attempt: 1\r\nContent-Length: 3\r\n\r\n";
  std::string headers =
      "Server:x policy\r\nx-api-KEY: another\r\nX-Env: 1\r\nEcho: a hook-token\r\n";
  std::string excerpt =
      "you sent policy-key, policy, Bearer hook-token and hook-token to example.com, on: hook-tok";
  mask_sent_values(head, headers, excerpt);
  EXPECT_EQ(headers, "Server:x ***\r\nx-api-KEY: ***\r\nX-Env: *\r\nEcho: a ***\r\n");
  EXPECT_EQ(excerpt, "you sent ***, ***, *** and *** to example.com, on: ***");
}

TEST(Wire, AnAnswerIsKeptAsItCameWhereNoHeaderWasSent) {
  const std::string head = start_of("https://example.com/") + "Content-Length: 3\r\n\r\n";
  std::string headers = "Host:example.com\r\nno field\r\n";
  const std::string sent = "example.com application/json postbag/" + std::string(version());
  std::string excerpt = sent;
  mask_sent_values(head, headers, excerpt);
  EXPECT_EQ(headers, "Host:example.com\r\nno field\r\n");
  EXPECT_EQ(excerpt, sent);
}

// --- Policies

TEST(PolicyTable, TheLongestUrlWins) {
  Options options;
  options.defaults.batch.size = 1;
  const auto add = [&](const std::string& url, bool is_prefix, std::uint32_t size) {
    TargetBlock block{url, is_prefix, options.defaults};
    block.policy.batch.size = size;
    options.targets.push_back(block);
  };
  add("https://example.com/", true, 2);
  add("https://example.com/hooks/", true, 3);
  add("https://example.com/hooks/a", false, 4);
  add("https://example.com/hooks/a", true, 5);
  const PolicyTable table(options, 7);
  const auto size_for = [&](std::string_view url) { return table.find(url)->policy.batch.size; };
  EXPECT_EQ(size_for("https://other.example/"), 1u);
  EXPECT_EQ(size_for("https://example.com.attacker.example/"), 1u);
  EXPECT_EQ(size_for("https://example.com/"), 2u);
  EXPECT_EQ(size_for("https://example.com/hooks"), 2u);
  EXPECT_EQ(size_for("https://example.com/hooks/b"), 3u);
  EXPECT_EQ(size_for("https://example.com/hooks/a"), 4u);
  EXPECT_EQ(size_for("https://example.com/hooks/ab"), 5u);
  EXPECT_EQ(table.generation(), 7u);
}

}  // namespace
}  // namespace postbag

// What every Store does, for the SQLite store and its twin in memory.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>

#include "postbag/error.h"
#include "postbag/memory_store.h"
#include "postbag/sqlite_store.h"
#include "postbag/target_match.h"
#include "tests/support/store_groups.h"
#include "tests/support/temp_directory.h"

// Filters read best with only the fields that they set.
#pragma GCC diagnostic ignored "-Wmissing-field-initializers"

namespace postbag {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

struct InSqlite {
  test::TempDirectory directory;
  std::unique_ptr<Store> make() {
    return open_sqlite_store({.path = directory.file("postbag.db")});
  }
};

struct InMemory {
  std::unique_ptr<Store> make() { return make_memory_store(); }
};

template <typename Place>
class StoreContract : public ::testing::Test {
 protected:
  void commit(const StoreGroup& group, CommitLevel level = CommitLevel::no_sync) {
    const std::error_code error = store_->commit(group, level);
    ASSERT_FALSE(error) << error.message();
  }

  std::vector<PendingChunk> pending(ChunkNumber after = 0, std::size_t max = 1'000) {
    std::vector<PendingChunk> out;
    EXPECT_FALSE(store_->scan_pending(after, max, out));
    return out;
  }

  std::vector<ChunkNumber> pending_numbers(ChunkNumber after = 0, std::size_t max = 1'000) {
    std::vector<ChunkNumber> numbers;
    for (const PendingChunk& chunk : pending(after, max)) numbers.push_back(chunk.chunk);
    return numbers;
  }

  std::vector<FailedKey> listed(const FailedFilter& filter) {
    FailedPage page;
    EXPECT_FALSE(store_->list_failed(filter, std::nullopt, {}, page));
    EXPECT_FALSE(page.next);
    std::vector<FailedKey> keys;
    for (const FailedHook& hook : page.rows) keys.push_back(hook.key);
    return keys;
  }

  std::vector<FailedKey> all_failed() { return listed({}); }

  // Three batches that differ in everything a filter looks at.
  void add_failures() {
    test::GroupBuilder group;
    auto& first =
        group.fail(10, "https://a.example/hooks", {{failed_key(10, 0), "id-a", "push", "[1]"}});
    first.key.group = "g1";
    first.reason = Reason::status;
    first.status = 503;
    first.last_at = 1'000;
    auto& second =
        group.fail(11, "https://b.example/hooks", {{failed_key(11, 0), "id-b", "issue", "[2]"}});
    second.reason = Reason::connect_refused;
    second.last_at = 2'000;
    auto& third = group.fail(
        12, "https://b.example/[x]",
        {{failed_key(12, 0), "id-c", "push", "[3]"}, {failed_key(12, 1), "id-d", "", "4"}});
    third.key.group = "g1";
    third.reason = Reason::status;
    third.status = 404;
    third.last_at = 3'000;
    commit(group.group());
  }

  Place place_;
  std::unique_ptr<Store> store_ = place_.make();
};

using Places = ::testing::Types<InSqlite, InMemory>;
TYPED_TEST_SUITE(StoreContract, Places);

TYPED_TEST(StoreContract, BeginsEmpty) {
  const StoreInfo info = this->store_->info();
  EXPECT_EQ(info.next_number, 1u);
  EXPECT_NE(info.store_tag, 0);
  EXPECT_EQ(info.pending_chunks, 0u);
  EXPECT_EQ(info.pending_hooks, 0u);
  EXPECT_EQ(info.pending_bytes, 0u);
  EXPECT_EQ(info.failed_hooks, 0u);
  EXPECT_THAT(this->pending(), IsEmpty());
  EXPECT_THAT(this->all_failed(), IsEmpty());
  EXPECT_FALSE(this->store_->find_chunk(1));
  EXPECT_FALSE(this->store_->find_failed(1));
  this->commit({});
  this->commit({}, CommitLevel::sync);
}

TYPED_TEST(StoreContract, AppendsAndReadsBack) {
  test::GroupBuilder group;
  ChunkAppend& chunk = group.append(7, 5, {"one", "", "two"});
  chunk.key = {"https://a.example/", "g", "X-A: 1\r\nX-B: 2\r\n"};
  chunk.accepted_ms = 123'456;
  chunk.hooks = 2;
  group.append(8, 8, {});
  this->commit(group.group(), CommitLevel::sync);

  const std::vector<PendingChunk> chunks = this->pending();
  ASSERT_EQ(chunks.size(), 2u);
  EXPECT_EQ(chunks[0].chunk, 7u);
  EXPECT_EQ(chunks[0].batch, 5u);
  EXPECT_EQ(chunks[0].target, "https://a.example/");
  EXPECT_EQ(chunks[0].group, "g");
  EXPECT_EQ(chunks[0].headers, "X-A: 1\r\nX-B: 2\r\n");
  EXPECT_EQ(chunks[0].accepted_ms, 123'456);
  EXPECT_EQ(chunks[0].hooks, 2u);
  EXPECT_EQ(chunks[0].bytes, 6u);
  EXPECT_EQ(chunks[0].attempts, 0u);
  EXPECT_EQ(this->store_->find_chunk(7), 5u);
  EXPECT_EQ(this->store_->find_chunk(8), 8u);
  EXPECT_FALSE(this->store_->find_chunk(9));

  std::vector<std::string> blobs;
  EXPECT_FALSE(this->store_->read_chunks(std::vector<ChunkNumber>{8, 7, 8}, blobs));
  EXPECT_THAT(blobs, ElementsAre("", "onetwo", ""));
  EXPECT_EQ(this->store_->read_chunks(std::vector<ChunkNumber>{7, 9}, blobs), Errc::not_found);
  EXPECT_THAT(blobs, IsEmpty());
}

TYPED_TEST(StoreContract, BlobsAreKeptByteForByte) {
  std::string bytes;
  for (int i = 0; i < 100'000; ++i) bytes.push_back(static_cast<char>(i * 7 + (i >> 8)));
  test::GroupBuilder group;
  group.append(1, 1, {bytes});
  group.append(2, 2, {std::string("\0\xff\n", 3)});
  this->commit(group.group());
  std::vector<std::string> blobs;
  ASSERT_FALSE(this->store_->read_chunks(std::vector<ChunkNumber>{1, 2}, blobs));
  EXPECT_EQ(blobs[0], bytes);
  EXPECT_EQ(blobs[1], std::string("\0\xff\n", 3));
}

TYPED_TEST(StoreContract, ScansInPagesAscending) {
  test::GroupBuilder group;
  for (const ChunkNumber number : {30, 10, 20, 40}) group.append(number, 10, {"x"});
  this->commit(group.group());
  EXPECT_THAT(this->pending_numbers(0, 3), ElementsAre(10, 20, 30));
  EXPECT_THAT(this->pending_numbers(30, 3), ElementsAre(40));
  EXPECT_THAT(this->pending_numbers(40, 3), IsEmpty());
}

TYPED_TEST(StoreContract, SettlesWhatIsNamedAndNothingElse) {
  test::GroupBuilder group;
  for (ChunkNumber number = 1; number <= 9; ++number) group.append(number, number, {"x"});
  this->commit(group.group());
  StoreGroup settle;
  settle.settle = {8, 2, 3, 4, 6, 77, 3};  // out of order, in runs, one missing, one twice
  this->commit(settle);
  EXPECT_THAT(this->pending_numbers(), ElementsAre(1, 5, 7, 9));
}

TYPED_TEST(StoreContract, AttemptsStandInTheFirstChunk) {
  test::GroupBuilder group;
  group.append(3, 3, {"x"});
  group.append(4, 3, {"y"});
  group.append(5, 5, {"z"});
  this->commit(group.group());
  StoreGroup attempts;
  attempts.attempts = {{3, 1, 5'000}, {99, 1, 5'000}};  // 99: settled meanwhile
  this->commit(attempts);
  attempts.attempts = {{3, 2, 9'000'000'000'000}};
  this->commit(attempts);
  std::vector<PendingChunk> chunks = this->pending();
  ASSERT_EQ(chunks.size(), 3u);
  EXPECT_EQ(chunks[0].attempts, 2u);
  EXPECT_EQ(chunks[0].next_attempt_ms, 9'000'000'000'000);
  EXPECT_EQ(chunks[1].attempts, 0u);
  EXPECT_EQ(chunks[2].attempts, 0u);

  // They go with the chunk, and do not come back with a number that is used once more.
  StoreGroup settle;
  settle.settle = {3, 4};
  this->commit(settle);
  test::GroupBuilder again;
  again.append(3, 3, {"x"});
  again.append(99, 99, {"x"});
  this->commit(again.group());
  for (const PendingChunk& chunk : this->pending()) EXPECT_EQ(chunk.attempts, 0u) << chunk.chunk;
}

TYPED_TEST(StoreContract, FailedHooksKeepEverything) {
  test::GroupBuilder pending;
  pending.append(10, 10, {"x"});
  this->commit(pending.group());

  test::GroupBuilder group;
  FailBatch& batch =
      group.fail(10, "https://a.example/", {{failed_key(10, 0), "id", "push", "{\"a\":1}"}});
  batch.key.group = "g";
  batch.key.headers = "X-A: 1\r\n";
  batch.reason = Reason::status;
  batch.status = 503;
  batch.attempts = 6;
  batch.last_at = 2'000;
  batch.response_headers = "Server: x\r\n";
  batch.response_excerpt = "no";
  group.hook(0).content_type = "text/plain";
  group.hook(0).accepted_ms = 1'000;
  group.group().settle = {10};
  this->commit(group.group(), CommitLevel::sync);

  EXPECT_THAT(this->pending(), IsEmpty());
  EXPECT_EQ(this->store_->info().failed_hooks, 1u);
  EXPECT_EQ(this->store_->stats().failed_hooks, 1u);
  const std::optional<FailedHook> hook = this->store_->find_failed(failed_key(10, 0));
  ASSERT_TRUE(hook);
  EXPECT_EQ(hook->key, FailedKey{failed_key(10, 0)});
  EXPECT_EQ(hook->id, "id");
  EXPECT_EQ(hook->target, "https://a.example/");
  EXPECT_EQ(hook->group, "g");
  EXPECT_EQ(hook->event, "push");
  EXPECT_EQ(hook->headers, "X-A: 1\r\n");
  EXPECT_EQ(hook->content_type, "text/plain");
  EXPECT_EQ(hook->body, "{\"a\":1}");
  EXPECT_EQ(hook->reason, Reason::status);
  EXPECT_EQ(hook->status, 503);
  EXPECT_EQ(hook->attempts, 6u);
  EXPECT_EQ(hook->first_at, 1'000);
  EXPECT_EQ(hook->last_at, 2'000);
  EXPECT_EQ(hook->response_headers, "Server: x\r\n");
  EXPECT_EQ(hook->response_excerpt, "no");
}

TYPED_TEST(StoreContract, FailingAgainKeepsTheRowAndAddsUp) {
  test::GroupBuilder first;
  FailBatch& before =
      first.fail(10, "https://old.example/",
                 {{failed_key(10, 0), "id", "push", "1"}, {failed_key(10, 1), "i2", "", "2"}});
  before.attempts = 6;
  before.last_at = 2'000;
  before.response_excerpt = "old";
  first.hook(0).accepted_ms = 1'000;
  this->commit(first.group());

  test::GroupBuilder second;
  FailBatch& after =
      second.fail(20, "https://new.example/", {{failed_key(10, 0), "id", "push", "1"}});
  after.reason = Reason::timeout;
  after.attempts = 3;
  after.last_at = 9'000;
  after.response_excerpt = "new";
  second.hook(0).accepted_ms = 8'000;
  this->commit(second.group());

  EXPECT_EQ(this->store_->info().failed_hooks, 2u);
  const std::optional<FailedHook> hook = this->store_->find_failed(failed_key(10, 0));
  ASSERT_TRUE(hook);
  EXPECT_EQ(hook->target, "https://new.example/");
  EXPECT_EQ(hook->reason, Reason::timeout);
  EXPECT_EQ(hook->attempts, 9u);
  EXPECT_EQ(hook->first_at, 1'000);
  EXPECT_EQ(hook->last_at, 9'000);
  EXPECT_EQ(hook->response_excerpt, "new");
  EXPECT_EQ(this->store_->find_failed(failed_key(10, 1))->response_excerpt, "old");
}

TYPED_TEST(StoreContract, DeletesFailedHooks) {
  this->add_failures();
  StoreGroup group;
  group.delete_failed = {failed_key(12, 0), failed_key(10, 0), 999};  // a missing key is no error
  this->commit(group);
  EXPECT_THAT(this->all_failed(), ElementsAre(failed_key(11, 0), failed_key(12, 1)));
  EXPECT_EQ(this->store_->info().failed_hooks, 2u);
}

TYPED_TEST(StoreContract, EveryFilter) {
  this->add_failures();
  constexpr FailedKey a = failed_key(10, 0), b = failed_key(11, 0), c = failed_key(12, 0),
                      d = c + 1;
  EXPECT_THAT(this->listed({}), ElementsAre(a, b, c, d));
  EXPECT_THAT(this->listed({.target = "https://a.*"}), ElementsAre(a));
  EXPECT_THAT(this->listed({.target = "https://?.example/*k?"}), ElementsAre(a, b));
  EXPECT_THAT(this->listed({.target = "*[x]"}), ElementsAre(c, d));  // brackets are themselves
  EXPECT_THAT(this->listed({.target = "a.example"}), IsEmpty());     // all of it, not a part
  EXPECT_THAT(this->listed({.target = target_log_name("https://b.example/hooks")}), ElementsAre(b));
  EXPECT_THAT(this->listed({.group = "g1"}), ElementsAre(a, c, d));
  EXPECT_THAT(this->listed({.group = ""}), ElementsAre(b));
  EXPECT_THAT(this->listed({.event = "push"}), ElementsAre(a, c));
  EXPECT_THAT(this->listed({.event = ""}), ElementsAre(d));
  EXPECT_THAT(this->listed({.status = 503}), ElementsAre(a));
  EXPECT_THAT(this->listed({.status = 0}), ElementsAre(b));
  EXPECT_THAT(this->listed({.reason = "status_404"}), ElementsAre(c, d));
  EXPECT_THAT(this->listed({.reason = "connect_refused"}), ElementsAre(b));
  EXPECT_THAT(this->listed({.since = 2'000}), ElementsAre(b, c, d));
  EXPECT_THAT(this->listed({.until = 2'000}), ElementsAre(a));
  EXPECT_THAT(this->listed({.since = 1'000, .until = 3'000}), ElementsAre(a, b));
  EXPECT_THAT(this->listed({.ids = {"id-d", "id-a", "none"}}), ElementsAre(a, d));
  EXPECT_THAT(this->listed({.group = "g1", .event = "push", .status = 404}), ElementsAre(c));
}

TYPED_TEST(StoreContract, ListsInSlices) {
  this->add_failures();
  std::vector<FailedKey> keys;
  std::optional<FailedKey> after;
  int pages = 0;
  do {
    FailedPage page;
    ASSERT_FALSE(this->store_->list_failed({.event = "push"}, after, {.rows = 1}, page));
    ASSERT_LE(page.rows.size(), 1u);
    for (const FailedHook& hook : page.rows) keys.push_back(hook.key);
    after = page.next;
    ASSERT_LT(++pages, 10);
  } while (after);
  EXPECT_THAT(keys, ElementsAre(failed_key(10, 0), failed_key(12, 0)));

  // At most so many looked at: nothing found yet, and a place to go on from.
  FailedPage page;
  ASSERT_FALSE(this->store_->list_failed({.status = 404}, std::nullopt, {.scan = 2}, page));
  EXPECT_THAT(page.rows, IsEmpty());
  EXPECT_EQ(page.next, failed_key(11, 0));
  // However little may be taken, one row comes.
  ASSERT_FALSE(this->store_->list_failed({}, std::nullopt, {.bytes = 1}, page));
  EXPECT_EQ(page.rows.size(), 1u);
  EXPECT_EQ(page.next, failed_key(10, 0));
}

TYPED_TEST(StoreContract, ListsWithoutBodies) {
  test::GroupBuilder group;
  group.fail(1, "https://a.example/", {{failed_key(1, 0), "id", "push", "12"}}).response_excerpt =
      "no";
  this->commit(group.group());
  FailedPage page;
  ASSERT_FALSE(this->store_->list_failed({}, std::nullopt, {.bodies = false}, page));
  ASSERT_EQ(page.rows.size(), 1u);
  EXPECT_EQ(page.rows[0].id, "id");
  EXPECT_EQ(page.rows[0].body, "");
  EXPECT_EQ(page.rows[0].response_excerpt, "");
  ASSERT_FALSE(this->store_->list_failed({}, std::nullopt, {}, page));
  EXPECT_EQ(page.rows[0].body, "12");
  EXPECT_EQ(page.rows[0].response_excerpt, "no");
}

TYPED_TEST(StoreContract, PurgesByFilterButNotWhatIsClaimed) {
  this->add_failures();
  std::uint64_t purged = 0;
  std::optional<FailedKey> next;
  const std::vector<FailedKey> claimed{failed_key(12, 0)};
  ASSERT_FALSE(
      this->store_->purge_failed({.group = "g1"}, std::nullopt, {}, claimed, purged, next));
  EXPECT_EQ(purged, 2u);
  EXPECT_FALSE(next);
  EXPECT_THAT(this->all_failed(), ElementsAre(failed_key(11, 0), failed_key(12, 0)));
  EXPECT_EQ(this->store_->info().failed_hooks, 2u);
}

TYPED_TEST(StoreContract, PurgesInSlices) {
  this->add_failures();
  std::uint64_t purged = 0, sum = 0;
  std::optional<FailedKey> next;
  int slices = 0;
  do {
    ASSERT_FALSE(this->store_->purge_failed({}, next, {.rows = 3}, {}, purged, next));
    ASSERT_LE(purged, 3u);
    sum += purged;
    ASSERT_LT(++slices, 5);
  } while (next);
  EXPECT_EQ(sum, 4u);
  EXPECT_THAT(this->all_failed(), IsEmpty());
}

TYPED_TEST(StoreContract, RemembersIdsUntilTheyExpire) {
  StoreGroup group;
  group.remember = {{{1, 2}, {3, 4}, 55, 1'000}, {{1, 3}, {5, 6}, 56, 2'000}};
  this->commit(group);
  group.remember = {{{9, 9}, {7, 8}, 57, 3'000}};
  this->commit(group);

  std::vector<RememberedId> ids;
  const auto keep = [&](const RememberedId& id) { ids.push_back(id); };
  ASSERT_FALSE(this->store_->load_ids(2'000, keep));  // one whose time is now is still remembered
  ASSERT_EQ(ids.size(), 2u);
  EXPECT_THAT(ids[0].id_hash, ElementsAre(1, 3));
  EXPECT_THAT(ids[0].content_hash, ElementsAre(5, 6));
  EXPECT_EQ(ids[0].location, 56u);
  EXPECT_EQ(ids[0].expires_ms, 2'000);
  EXPECT_EQ(ids[1].location, 57u);

  ASSERT_FALSE(this->store_->forget_ids(3'001));
  ids.clear();
  ASSERT_FALSE(this->store_->load_ids(0, keep));
  EXPECT_THAT(ids, IsEmpty());
}

TYPED_TEST(StoreContract, AnIdGivenAgainReplaces) {
  StoreGroup group;
  group.remember = {{{1, 2}, {3, 4}, 55, 1'000}, {{7, 7}, {7, 7}, 77, 1'000}};
  this->commit(group);
  group.remember = {{{1, 2}, {30, 40}, 66, 5'000}};
  this->commit(group);
  std::vector<FailedKey> locations;
  ASSERT_FALSE(
      this->store_->load_ids(0, [&](const RememberedId& id) { locations.push_back(id.location); }));
  EXPECT_THAT(locations, ElementsAre(77, 66));
}

TYPED_TEST(StoreContract, AnIdThatWasForgottenIsGoneUntilItIsGivenAgain) {
  StoreGroup group;
  group.remember = {{{1, 2}, {3, 4}, 55, 1'000}, {{7, 7}, {7, 7}, 77, 1'000}};
  this->commit(group);
  StoreGroup forgets;
  forgets.forget = {{1, 2}, {6, 6}};  // one is not known
  this->commit(forgets);
  std::vector<FailedKey> locations;
  const auto keep = [&](const RememberedId& id) { locations.push_back(id.location); };
  ASSERT_FALSE(this->store_->load_ids(1'000, keep));
  EXPECT_THAT(locations, ElementsAre(77));
  group.remember = {{{1, 2}, {3, 4}, 66, 2'000}};
  this->commit(group);
  locations.clear();
  ASSERT_FALSE(this->store_->load_ids(1'001, keep));
  EXPECT_THAT(locations, ElementsAre(66));
  locations.clear();
  ASSERT_FALSE(this->store_->forget_ids(2'001));
  ASSERT_FALSE(this->store_->load_ids(0, keep));
  EXPECT_THAT(locations, IsEmpty());
}

TYPED_TEST(StoreContract, NumbersBelowTheReservationAreHandedOut) {
  StoreGroup group;
  group.reserve_below = 1'000;
  this->commit(group);
  EXPECT_EQ(this->store_->info().next_number, 1'000u);
  group.reserve_below = 500;  // never back
  this->commit(group);
  EXPECT_EQ(this->store_->info().next_number, 1'000u);
  // A number in use is one that was handed out.
  test::GroupBuilder append;
  append.append(2'000, 2'000, {"x"});
  this->commit(append.group());
  EXPECT_EQ(this->store_->info().next_number, 2'001u);
}

TYPED_TEST(StoreContract, StatsCountWhatIsStored) {
  const std::uint64_t before = this->store_->stats().used_bytes;
  test::GroupBuilder group;
  group.append(1, 1, {std::string(1'000'000, 'x')});
  this->commit(group.group());
  EXPECT_GE(this->store_->stats().used_bytes, before + 1'000'000);
  while (this->store_->maintain()) {
  }
}

}  // namespace
}  // namespace postbag

// `store salvage`: what can still be read of a damaged store, into a new one.
#include <unistd.h>

#include <algorithm>
#include <limits>

#include "postbag/error.h"
#include "postbag/sqlite_store.h"
#include "store/crc32c.h"
#include "store/row_checksum.h"
#include "store/sqlite_schema.h"
#include "store/sqlite_store_impl.h"

namespace postbag {
namespace {

// Where the reservation cannot be read, numbers go on so far above what is there that none is used
// twice.
constexpr ChunkNumber unknown_reservation_gap = 1ull << 32;

// Goes through a table by number as far as pages can be read, and over what cannot.
class Walk {
 public:
  Walk(sqlite3* db, const std::string& table, const std::string& number)
      : next_(db, ("SELECT " + number + " FROM " + table + " WHERE " + number + " >= ?1 ORDER BY " +
                   number + " LIMIT 1")
                      .c_str()) {}

  // The next number at or above `from`; nothing at the end. Damaged stretches are counted in
  // lost().
  std::optional<std::int64_t> next(std::int64_t from) {
    std::optional<std::int64_t> found;
    if (look(from, found)) return found;
    ++lost_;
    // Some page cannot be read. Steps that double find a place behind it, halving finds the first
    // such place.
    std::int64_t bad = from, good = from;
    for (std::int64_t step = 1; !look(good, found); step *= 2) {
      bad = good;
      if (step > std::numeric_limits<std::int64_t>::max() / 4 ||
          good > std::numeric_limits<std::int64_t>::max() - step) {
        return std::nullopt;
      }
      good += step;
    }
    while (good - bad > 1) {
      std::optional<std::int64_t> nearer;
      const std::int64_t middle = bad + (good - bad) / 2;
      if (look(middle, nearer)) {
        good = middle;
        found = nearer;
      } else {
        bad = middle;
      }
    }
    return found;
  }

  std::uint64_t lost() const { return lost_; }

 private:
  // False: cannot be read.
  bool look(std::int64_t from, std::optional<std::int64_t>& found) {
    const Cursor cursor(next_);
    found.reset();
    try {
      if (next_.bind(1, from).step()) found = next_.integer(0);
      return true;
    } catch (const SQLite::Exception&) {
      return false;
    }
  }

  Statement next_;
  std::uint64_t lost_ = 0;
};

class Salvage {
 public:
  Salvage(SQLite::Database& from, SqliteStore& to) : db_(from.getHandle()), to_(to) {}

  SalvageReport run() {
    meta();
    chunks();
    failed_rows();
    remembered();
    StoreGroup last;
    last.reserve_below = reservation_known_ ? seen_below_ : seen_below_ + unknown_reservation_gap;
    write(last);
    return report_;
  }

 private:
  void write(const StoreGroup& group) {
    const std::error_code error = to_.commit(group, CommitLevel::no_sync);
    (void)to_.maintain();
    if (!error) return;
    throw StoreError(error == Errc::disk_low ? Errc::store_io : Errc(error.value()),
                     "salvage: the new store cannot be written: " + error.message());
  }

  void meta() {
    try {
      Statement row(db_, "SELECT store_tag, reserved_below FROM meta");
      if (!row.step()) return;
      to_.set_tag(static_cast<std::uint16_t>(row.integer(0)));
      seen_below_ = row.number(1);
      reservation_known_ = true;
    } catch (const SQLite::Exception&) {
      // The store gets a tag of its own; hooks are found by number all the same.
    }
  }

  void chunks() {
    Walk walk(db_, "chunk", "number");
    Statement row(
        db_,
        "SELECT c.batch, c.target, c.grp, c.headers, c.accepted_ms, c.hooks, c.crc, c.data "
        "FROM chunk c WHERE c.number = ?1");
    for (auto number = walk.next(0); number; number = walk.next(*number + 1)) {
      if (copy_chunk(row, *number)) {
        ++report_.chunks;
      } else {
        ++report_.lost_chunks;
      }
    }
    report_.lost_chunks += walk.lost();
  }

  bool copy_chunk(Statement& row, std::int64_t number) {
    const Cursor cursor(row);
    StoreGroup group;
    try {
      if (!row.bind(1, number).step()) return false;
    } catch (const SQLite::Exception&) {
      return false;
    }
    ChunkAppend chunk;
    chunk.chunk = static_cast<ChunkNumber>(number);
    chunk.batch = row.number(0);
    chunk.key = {row.text(1), row.text(2), row.text(3)};
    chunk.accepted_ms = row.integer(4);
    chunk.hooks = static_cast<std::uint32_t>(row.integer(5));
    const std::string_view data = row.text(7);
    chunk.data = std::span(&data, 1);
    seen_below_ = std::max(seen_below_, chunk.chunk + 1);
    if (chunk_checksum(chunk.chunk, chunk.batch, chunk.key, chunk.accepted_ms, chunk.hooks, data) !=
        row.number(6)) {
      return false;
    }
    group.append.push_back(chunk);
    add_attempts(number, group);
    write(group);
    return true;
  }

  void add_attempts(std::int64_t number, StoreGroup& group) {
    try {
      Statement row(db_, "SELECT attempts, next_attempt_ms FROM retry WHERE batch = ?1");
      if (!row.bind(1, number).step()) return;
      group.attempts.push_back({static_cast<BatchNumber>(number),
                                static_cast<std::uint32_t>(row.integer(0)), row.integer(1)});
    } catch (const SQLite::Exception&) {
      // It begins again with the first attempt.
    }
  }

  void failed_rows() {
    Walk walk(db_, "failed", "key");
    Statement row(db_,
                  "SELECT response, status, attempts, first_at, last_at, reason, id, target, grp, "
                  "event, headers, content_type, crc, body FROM failed WHERE key = ?1");
    for (auto key = walk.next(0); key; key = walk.next(*key + 1)) {
      if (copy_failed(row, *key)) {
        ++report_.failed;
      } else {
        ++report_.lost_failed;
      }
    }
    report_.lost_failed += walk.lost();
  }

  bool copy_failed(Statement& row, std::int64_t key) {
    const Cursor cursor(row);
    try {
      if (!row.bind(1, key).step()) return false;
    } catch (const SQLite::Exception&) {
      return false;
    }
    const FailedHookView hook{static_cast<FailedKey>(key),
                              row.text(6),
                              row.text(9),
                              row.text(11),
                              row.text(13),
                              row.integer(3)};
    seen_below_ = std::max<ChunkNumber>(seen_below_, (hook.key >> 14) + 1);
    FailBatch batch;
    batch.key = {row.text(7), row.text(8), row.text(10)};
    if (failed_checksum(batch.key, hook) != row.number(12)) return false;
    const std::optional<ParsedReason> reason = parse_reason(row.text(5));
    batch.reason = reason ? reason->reason : Reason::corrupt_payload;
    batch.batch = row.number(0);
    batch.status = static_cast<int>(row.integer(1));
    batch.attempts = static_cast<std::uint32_t>(row.integer(2));
    batch.last_at = row.integer(4);
    read_response(batch.batch);
    batch.response_headers = response_headers_;
    batch.response_excerpt = response_excerpt_;
    batch.each_hook = [&hook](const std::function<void(const FailedHookView&)>& each) {
      each(hook);
    };
    StoreGroup group;
    group.fail.push_back(std::move(batch));
    write(group);
    return true;
  }

  void read_response(BatchNumber batch) {
    if (batch == response_of_) return;
    response_of_ = batch;
    response_headers_.clear();
    response_excerpt_.clear();
    if (batch == 0) return;
    try {
      Statement row(db_,
                    "SELECT response_headers, response_excerpt FROM failed_batch WHERE batch = ?1");
      if (!row.bind(1, batch).step()) return;
      response_headers_ = row.text(0);
      response_excerpt_ = row.text(1);
    } catch (const SQLite::Exception&) {
      // The hook is what counts.
    }
  }

  void remembered() {
    try {
      load_remembered_ids(db_, [this](const std::vector<RememberedId>& ids) {
        StoreGroup group;
        group.remember = ids;
        write(group);
      });
    } catch (const SQLite::Exception&) {
      // Without them a call that is repeated in the next minutes counts as a new one.
    }
  }

  sqlite3* db_;
  SqliteStore& to_;
  SalvageReport report_;
  ChunkNumber seen_below_ = 1;
  bool reservation_known_ = false;
  BatchNumber response_of_ = 0;
  std::string response_headers_, response_excerpt_;
};

}  // namespace

SalvageReport salvage_sqlite_store(const std::string& from, const std::string& to) {
  try {
    SQLite::Database source = open_existing(from);
    check_store_path(to);
    if (const std::error_code error = create_store_file(to)) {
      throw StoreError(Errc::store_cannot_create,
                       "store " + to + ": cannot be created: " + error.message());
    }
    SqliteStoreOptions options;
    options.path = to;
    options.max_bytes = std::numeric_limits<std::int64_t>::max();
    options.min_free_bytes = 0;
    options.side_files = false;  // they would not go along when it is put in place
    SqliteStore store(options);
    return Salvage(source, store).run();
  } catch (const SQLite::Exception& error) {
    throw open_error(error, from);
  }
}

}  // namespace postbag

// `store salvage`: what can still be read of a damaged store, into a new one.
#include <sqlite3.h>
#include <unistd.h>

#include <algorithm>
#include <limits>
#include <optional>

#include "postbag/error.h"
#include "postbag/sqlite_store.h"
#include "store/sqlite_schema.h"
#include "store/sqlite_store_impl.h"
#include "store/store_file.h"
#include "store/whole_rows.h"

namespace postbag {
namespace {

// Where the reservation cannot be read, numbers go on so far above what is there that none is used
// twice.
constexpr ChunkNumber unknown_reservation_gap = 1ull << 32;

// Walks a table in row order as far as its pages can be read, and skips what cannot. SQLite does
// not check the order of rows, so asking for "the next number" after a damaged one would skip sound
// rows: it is only done to get past an unreadable page, and only from the number of a sound row.
class Walk {
 public:
  using IsSound = bool (*)(const Statement& row);

  // `rows` gives rows from the number ?1 on, the number first.
  Walk(sqlite3* db, const char* rows, IsSound is_sound) : rows_(db, rows), is_sound_(is_sound) {}

  // Calls `each` for the sound rows, ascending. The others are counted in lost(); a stretch that
  // cannot be read as one, and then lost() is not exact.
  template <typename Each>
  void run(Each each) {
    std::optional<std::int64_t> from = std::numeric_limits<std::int64_t>::min();
    while (from && !read(*from, each)) from = behind_damage();
  }

  std::uint64_t lost() const { return lost_; }
  bool is_exact() const { return is_exact_; }

 private:
  enum class Step : std::uint8_t { row, end, damage };

  // False: to a page that cannot be read.
  template <typename Each>
  bool read(std::int64_t from, Each each) {
    const Cursor cursor(rows_);
    rows_.bind(1, from);
    for (;;) {
      const Step step = next();
      if (step != Step::row) return step == Step::end;
      if (!is_sound_(rows_)) {
        ++lost_;
      } else if (rows_.integer(0) > last_) {
        last_ = rows_.integer(0);
        each(rows_);
      }
    }
  }

  Step next() {
    try {
      return rows_.step() ? Step::row : Step::end;
    } catch (const SQLite::Exception&) {
      return Step::damage;
    }
  }

  // Steps that double find a place behind it, halving finds the first such place.
  std::optional<std::int64_t> behind_damage() {
    ++lost_;
    is_exact_ = false;
    std::int64_t bad = last_, good = last_ + 1;
    for (std::int64_t step = 1; !leads_on(good); step *= 2) {
      bad = good;
      if (step > std::numeric_limits<std::int64_t>::max() / 4) return std::nullopt;
      good += step;
    }
    while (good - bad > 1) {
      const std::int64_t middle = bad + (good - bad) / 2;
      (leads_on(middle) ? good : bad) = middle;
    }
    return good;
  }

  // Whether from there a sound row that is new, or the end, comes before a page that cannot be
  // read.
  bool leads_on(std::int64_t from) {
    const Cursor cursor(rows_);
    rows_.bind(1, from);
    for (;;) {
      const Step step = next();
      if (step != Step::row) return step == Step::end;
      if (is_sound_(rows_) && rows_.integer(0) > last_) return true;
    }
  }

  Statement rows_;
  IsSound is_sound_;
  std::int64_t last_ = -1;  // sound
  std::uint64_t lost_ = 0;
  bool is_exact_ = true;
};

bool is_sound_chunk(const Statement& row) {
  const WholeChunk read(row);
  return read.chunk.chunk < chunk_number_end && read.has_right_checksum();
}

bool is_sound_failed(const Statement& row) {
  const WholeFailedRow read(row);
  return failed_key_chunk(read.hook.key) < chunk_number_end && read.has_right_checksum();
}

class Salvage {
 public:
  Salvage(SQLite::Database& from, SqliteStore& to) : db_(from.getHandle()), to_(to) {}

  SalvageReport run() {
    meta();
    chunks();
    failed();
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
      Statement row(db_, "SELECT store_tag, reserved_below, failed_hooks FROM meta");
      if (!row.step()) return;
      to_.set_tag(static_cast<std::uint16_t>(row.integer(0)));
      if (row.number(1) > chunk_number_end) return;
      seen_below_ = row.number(1);
      reservation_known_ = true;
      failed_hooks_ = row.number(2);
    } catch (const SQLite::Exception&) {
      // The store gets a tag of its own; hooks are found by number all the same.
    }
  }

  template <typename Each>
  void walk(const char* rows, Walk::IsSound is_sound, Each each, std::uint64_t& lost, bool& exact) {
    std::optional<Walk> table;
    try {
      table.emplace(db_, rows, is_sound);
    } catch (const SQLite::Exception& error) {
      const int code = error.getErrorCode() & 0xff;
      if (code != SQLITE_CORRUPT && code != SQLITE_ERROR) throw;
      // Where the table begins cannot be read.
      lost = 1;
      exact = false;
      return;
    }
    table->run(each);
    lost = table->lost();
    exact = table->is_exact();
  }

  void chunks() {
    walk(
        WholeChunk::rows, is_sound_chunk, [this](const Statement& row) { copy_chunk(row); },
        report_.lost_chunks, report_.lost_chunks_exact);
  }

  void copy_chunk(const Statement& row) {
    const WholeChunk read(row);
    ChunkAppend chunk = read.chunk;
    chunk.data = std::span(&read.data, 1);
    seen_below_ = std::max(seen_below_, chunk.chunk + 1);
    StoreGroup group;
    group.append.push_back(chunk);
    add_attempts(row.integer(0), group);
    write(group);
    ++report_.chunks;
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

  void failed() {
    walk(
        WholeFailedRow::rows, is_sound_failed, [this](const Statement& row) { copy_failed(row); },
        report_.lost_failed, report_.lost_failed_exact);
    // The store counted them; what it says is only believed where it is possible.
    const std::uint64_t found = report_.failed + report_.lost_failed;
    if (!failed_hooks_ || *failed_hooks_ < found) return;
    report_.lost_failed = *failed_hooks_ - report_.failed;
    report_.lost_failed_exact = true;
  }

  void copy_failed(const Statement& row) {
    const WholeFailedRow read(row);
    seen_below_ = std::max<ChunkNumber>(seen_below_, failed_key_chunk(read.hook.key) + 1);
    FailBatch batch;
    batch.key = read.batch_key;
    const std::optional<ParsedReason> reason = parse_reason(read.reason);
    batch.reason = reason ? reason->reason : Reason::corrupt_payload;
    batch.batch = read.response;
    batch.status = read.status;
    batch.attempts = read.attempts;
    batch.last_at = read.last_at;
    read_response(batch.batch);
    batch.response_headers = response_headers_;
    batch.response_excerpt = response_excerpt_;
    batch.each_hook = [&read](const std::function<void(const FailedHookView&)>& each) {
      each(read.hook);
    };
    StoreGroup group;
    group.fail.push_back(std::move(batch));
    write(group);
    ++report_.failed;
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
  std::optional<std::uint64_t> failed_hooks_;
  BatchNumber response_of_ = 0;
  std::string response_headers_, response_excerpt_;
};

}  // namespace

SalvageReport salvage_sqlite_store(const std::string& from, const std::string& to) {
  try {
    SQLite::Database source = open_existing(from, OpenFor::salvage);
    if (pragma_value(source,
                     "SELECT count(*) FROM sqlite_schema "
                     "WHERE name IN ('chunk', 'failed')") == 0) {
      throw SQLite::Exception("its tables are gone", SQLITE_CORRUPT);
    }
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
    throw open_error(error, from, OpenFor::salvage);
  }
}

}  // namespace postbag

#include "postbag/sqlite_store.h"

#include <sqlite3.h>
#include <sys/stat.h>

#include <algorithm>
#include <new>

#include "postbag/policy.h"
#include "store/gathering_vfs.h"
#include "store/row_checksum.h"
#include "store/sqlite_schema.h"
#include "store/sqlite_store_impl.h"

namespace postbag {
namespace {

// The blob of a row with a damaged count cannot be read, as the checksum covers it; the failed rows
// that say so are as many as the count, and there are keys for one batch only.
std::uint32_t possible_hooks(std::int64_t stored) {
  const auto hooks = static_cast<std::uint32_t>(stored);
  return hooks >= 1 && hooks <= batch_size_max ? hooks : 1;
}

}  // namespace

std::unique_ptr<Store> open_sqlite_store(const SqliteStoreOptions& options) {
  return std::make_unique<SqliteStore>(options);
}

SqliteStore::SqliteStore(const SqliteStoreOptions& options) try
    : SqliteStore(options, open_store_file(options)) {
} catch (const SQLite::Exception& error) {
  throw open_error(error, options.path);
}

SqliteStore::SqliteStore(const SqliteStoreOptions& options, OpenedStore opened)
    : path_(options.path),
      log_path_(path_ + "-wal"),
      max_bytes_(options.max_bytes),
      side_files_(options.side_files),
      db_(std::move(opened.db)),
      sql_(db_.getHandle()),
      file_(identity_of(path_)),
      log_(identity_of(log_path_)),
      ledger_(opened.was_unclean, opened.synced),
      writeback_(path_),
      disk_room_(path_, side_files_ ? std::min(options.ballast_bytes, max_bytes_ / 16) : 0,
                 options.min_free_bytes) {
  const auto on_commit = [](void* store, sqlite3*, const char*, int pages) {
    static_cast<SqliteStore*>(store)->wal_pages_ = static_cast<std::uint64_t>(pages);
    return SQLITE_OK;
  };
  sqlite3_wal_hook(db_.getHandle(), on_commit, this);
  page_bytes_ = static_cast<std::uint64_t>(pragma_value(db_, "PRAGMA page_size"));
  load_counts();
  if (options.count_pending) count_pending();
  opened_.warnings = opened.warnings;
  if (side_files_) begin_witness(opened);
  find_log();
  if (failed_) throw StoreError(Errc::store_io, "store " + path_ + ": " + failure());
}

// The first sync of a new log syncs its directory, too, and changes the file's state in SQLite: it
// is made here, where no other thread is.
void SqliteStore::find_log() {
  sqlite3_file_control(db_.getHandle(), "main", SQLITE_FCNTL_JOURNAL_POINTER, &log_file_);
  if (log_file_ == nullptr || log_file_->pMethods == nullptr) {
    log_file_ = nullptr;
    return;
  }
  if (log_file_->pMethods->xSync(log_file_, SQLITE_SYNC_NORMAL) != SQLITE_OK) {
    fail_sync();
  }
  sqlite3_file* file = nullptr;
  sqlite3_file_control(db_.getHandle(), "main", SQLITE_FCNTL_FILE_POINTER, &file);
  copied_.emplace(page_bytes_, log_bytes_max(max_bytes_) * 5 / 4 / page_bytes_);
  if (!set_copied_frames(file, log_file_, *copied_)) copied_.reset();
}

SqliteStore::~SqliteStore() {
  // Closing removes the log by name, which must be ours.
  (void)check_place();
  try {
    if (!failed_ && side_files_) close_witness();
    if (!failed_) set_level(CommitLevel::no_sync);  // SQLite may make a checkpoint at close
  } catch (const std::bad_alloc&) {
    // The next start finds the log and the witness as a kill would have left them.
    failed_ = true;
  } catch (const SQLite::Exception&) {
    failed_ = true;
  }
  // What a failed sync left must not be written on by a checkpoint at close.
  if (failed_) sqlite3_db_config(db_.getHandle(), SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, nullptr);
  sqlite3_wal_hook(db_.getHandle(), nullptr, nullptr);
}

void SqliteStore::load_counts() {
  sqlite3* db = db_.getHandle();
  Statement meta(db,
                 "SELECT store_tag, reserved_below, failed_hooks, failed_bytes, epoch, sequence, "
                 "taken_hooks, last_number FROM meta");
  if (!meta.step()) throw SQLite::Exception("the table meta is empty", SQLITE_CORRUPT);
  opened_.store_tag = static_cast<std::uint16_t>(meta.integer(0));
  counts_.reserved_below = meta.number(1);
  counts_.failed_hooks = meta.number(2);
  counts_.failed_bytes = meta.number(3);
  epoch_ = meta.number(4);
  counts_.sequence = meta.number(5);
  counts_.taken_hooks = meta.number(6);
  counts_.last_number = meta.number(7);
  if (counts_.reserved_below > chunk_number_end) {
    throw SQLite::Exception("the reservation of numbers is damaged", SQLITE_CORRUPT);
  }
  Statement retries(db, "SELECT count(*) FROM retry");
  retries.step();
  counts_.retries = retries.number(0);
  // Not the column that says how many they are: no checksum covers it.
  Statement ids(db, "SELECT sum(length(data)) FROM remembered");
  ids.step();
  counts_.remembered = ids.number(0) / remembered_id_bytes;
  opened_.durable = true;
  opened_.max_bytes = max_bytes_;
}

// Reads all of the table.
void SqliteStore::count_pending() {
  // length() does not read the overflow pages.
  const std::string hooks =
      "CASE WHEN hooks BETWEEN 1 AND " + std::to_string(batch_size_max) + " THEN hooks ELSE 1 END";
  Statement pending(db_.getHandle(),
                    ("SELECT count(*), sum(" + hooks + "), sum(length(data)) FROM chunk").c_str());
  pending.step();
  opened_.pending_chunks = pending.number(0);
  opened_.pending_hooks = pending.number(1);
  opened_.pending_bytes = pending.number(2);
}

StoreInfo SqliteStore::info() const {
  StoreInfo info = opened_;
  info.next_number = counts_.reserved_below;
  info.failed_hooks = counts_.failed_hooks;
  return info;
}

void SqliteStore::set_tag(std::uint16_t tag) {
  db_.exec("UPDATE meta SET store_tag = " + std::to_string(tag));
  opened_.store_tag = tag;
}

void SqliteStore::set_synchronous(Synchronous wanted) {
  if (wanted == synchronous_) return;
  synchronous_ = Synchronous::unknown;  // an exec that fails may have set it
  switch (wanted) {
    case Synchronous::unknown:
      return;
    case Synchronous::off:
      db_.exec("PRAGMA synchronous = OFF");
      break;
    case Synchronous::normal:
      db_.exec("PRAGMA synchronous = NORMAL");
      break;
    case Synchronous::full:
      db_.exec("PRAGMA synchronous = FULL");
      break;
  }
  synchronous_ = wanted;
}

void SqliteStore::set_level(CommitLevel level) {
  set_synchronous(level == CommitLevel::sync ? Synchronous::full : Synchronous::normal);
}

SqliteStore::Transaction::Transaction(SqliteStore& store, CommitLevel level)
    : store_(store), level_(level) {
  if (level == CommitLevel::sync || store_.wal_pages_ == 0) {
    store_.hold_syncs();
    if (store_.failed_) throw SQLite::Exception("a sync failed", SQLITE_IOERR_FSYNC);
  }
  store_.set_level(level);
  store_.sql_.begin.run();
  store_.work_ = store_.counts_;
  changes_before_ = sqlite3_total_changes64(store_.db_.getHandle());
}

SqliteStore::Transaction::~Transaction() {
  if (done_) return;
  // SQLite has rolled back by itself after some errors.
  if (sqlite3_get_autocommit(store_.db_.getHandle()) != 0) return;
  if (!store_.sql_.rollback.try_run()) {
    const int code = sqlite3_extended_errcode(store_.db_.getHandle());
    store_.fail_for_good(code, SQLITE_FCNTL_FILE_POINTER, sqlite3_errstr(code));
  }
}

void SqliteStore::Transaction::commit() {
  const Counts& work = store_.work_;
  const Counts& before = store_.counts_;
  const bool advanced = work.sequence != before.sequence;
  if (advanced || work.reserved_below != before.reserved_below ||
      work.failed_hooks != before.failed_hooks || work.failed_bytes != before.failed_bytes) {
    Statement& meta = store_.sql_.update_meta;
    meta.bind(1, work.reserved_below).bind(2, work.failed_hooks).bind(3, work.failed_bytes);
    meta.bind(4, work.sequence).bind(5, work.taken_hooks).bind(6, work.last_number).run();
  }
  // A commit without a change syncs nothing, and so leaves commits before it to a power loss.
  if (level_ == CommitLevel::sync && store_.ledger_.unsynced() &&
      sqlite3_total_changes64(store_.db_.getHandle()) == changes_before_) {
    store_.sql_.touch_meta.run();
  }
  store_.sql_.commit.run();
  done_ = true;
  store_.counts_ = work;
  store_.ledger_.committed(store_.witness_record(), advanced, level_, store_.wal_pages_);
}

std::error_code SqliteStore::commit(const StoreGroup& group, CommitLevel level) {
  bool room = true;
  const std::error_code error = try_commit(group, level, room);
  // On a full disk even a delete needs room. What is new waits; it would only use the ballast up,
  // and where max_bytes is the limit the ballast helps nobody.
  if (error != Errc::disk_low || !room || !group.append.empty()) return error;
  return disk_room_.release() ? try_commit(group, level, room) : error;
}

std::error_code SqliteStore::sync() {
  const SyncLedger::Covered covered = ledger_.covered();
  const std::lock_guard lock(sync_mutex_);
  if (failed_) return Errc::store_failed;
  // A checkpoint has synced it meanwhile; it may also have begun the log anew.
  if (ledger_.is_synced(covered)) return {};
  // As a commit with synchronous = FULL would.
  if (log_file_->pMethods->xSync(log_file_, SQLITE_SYNC_NORMAL) != SQLITE_OK) {
    fail_sync();
    return Errc::store_failed;
  }
  ledger_.synced(covered);
  return {};
}

std::error_code SqliteStore::try_commit(const StoreGroup& group, CommitLevel level, bool& room) {
  // An empty group with `sync` is how the level `os` gets its commits of the last second on disk.
  if (!failed_ && group.empty() && !(level == CommitLevel::sync && ledger_.unsynced())) return {};
  const std::error_code error = writing([&] {
    room = has_room(group);
    if (!room || failed_) return;
    Transaction transaction(*this, level);
    apply(group);
    transaction.commit();
    if (!group.append.empty()) {
      appended_ = true;
      sync_follows_ = level != CommitLevel::no_sync;
    }
    committed_ = true;
  });
  return error || room ? error : make_error_code(Errc::disk_low);
}

void SqliteStore::apply(const StoreGroup& group) {
  if (!group.append.empty() || !group.fail.empty()) {
    ++work_.sequence;
    first_appended_ = last_appended_ = 0;
  }
  settle(group.settle);
  delete_failed(group.delete_failed);
  for (const ChunkAppend& chunk : group.append) append(chunk);
  for (const FailBatch& batch : group.fail) fail(batch);
  for (const AttemptsUpdate& update : group.attempts) set_attempts(update);
  forget(group.forget);
  remember(group.remember);
  reserve(group.reserve_below);
}

// A number in use is a number handed out, whatever the caller reserved.
void SqliteStore::reserve(ChunkNumber below) {
  work_.reserved_below = std::max(work_.reserved_below, below);
}

void SqliteStore::settle(const std::vector<ChunkNumber>& chunks) {
  if (chunks.empty()) return;
  // Small batches settle in long runs of numbers; a run costs one statement.
  settled_.assign(chunks.begin(), chunks.end());
  std::sort(settled_.begin(), settled_.end());
  for (auto first = settled_.begin(); first != settled_.end();) {
    auto last = first;
    while (last + 1 != settled_.end() && *(last + 1) - *last <= 1) ++last;
    sql_.delete_chunks.bind(1, *first).bind(2, *last).run();
    if (work_.retries > 0) {
      work_.retries -= sql_.delete_retry.bind(1, *first).bind(2, *last).run_counting();
    }
    first = last + 1;
  }
}

void SqliteStore::append(const ChunkAppend& chunk) {
  std::string_view data = chunk.data.empty() ? std::string_view() : chunk.data.front();
  if (chunk.data.size() > 1) {
    blob_.clear();
    for (const std::string_view piece : chunk.data) blob_.append(piece);
    data = blob_;
  }
  const std::uint32_t crc =
      chunk_checksum(chunk.chunk, chunk.batch, chunk.key, chunk.accepted_ms, chunk.hooks, data);
  sql_.insert_chunk.bind(1, chunk.chunk).bind(2, chunk.batch).bind_text(3, chunk.key.target);
  sql_.insert_chunk.bind_text(4, chunk.key.group).bind_text(5, chunk.key.headers);
  sql_.insert_chunk.bind(6, chunk.accepted_ms).bind(7, chunk.hooks).bind(8, crc);
  sql_.insert_chunk.bind_blob(9, data).run();
  reserve(chunk.chunk + 1);
  work_.taken_hooks += chunk.hooks;
  work_.last_number = std::max(work_.last_number, chunk.chunk);
  first_appended_ = first_appended_ == 0 ? chunk.chunk : std::min(first_appended_, chunk.chunk);
  last_appended_ = std::max(last_appended_, chunk.chunk);
}

void SqliteStore::set_attempts(const AttemptsUpdate& update) {
  for (Statement* statement : {&sql_.update_retry, &sql_.insert_retry}) {
    statement->bind(1, update.batch).bind(2, update.attempts).bind(3, update.next_attempt_ms);
    const std::uint64_t changed = statement->run_counting();
    if (statement == &sql_.insert_retry) work_.retries += changed;
    if (changed > 0) return;
  }
}

// Fills what is in `out` anew, so that a scan in slices takes no memory for its texts.
std::error_code SqliteStore::scan_pending(ChunkNumber after, std::size_t max,
                                          std::vector<PendingChunk>& out) {
  std::size_t count = 0;
  const std::error_code error = reading([&] {
    count = 0;
    Statement& row = counts_.retries > 0 ? sql_.scan_chunks : sql_.scan_untried_chunks;
    const Cursor cursor(row);
    // One more, as a number that is too high is known by the next.
    row.bind(1, after == 0 ? start_after({}) : start_after(after)).bind(2, std::uint64_t{max} + 1);
    auto last = static_cast<std::int64_t>(after);
    while (row.step()) {
      last = ascending(last, row.integer(0));
      if (row.number(0) >= counts_.reserved_below) {
        throw SQLite::Exception("a number that was never handed out", SQLITE_CORRUPT);
      }
      if (count == max) return;
      PendingChunk& chunk = count < out.size() ? out[count] : out.emplace_back();
      chunk.chunk = row.number(0);
      chunk.batch = row.number(1);
      chunk.target = row.text(2);
      chunk.group = row.text(3);
      chunk.headers = row.text(4);
      chunk.accepted_ms = row.integer(5);
      chunk.hooks = possible_hooks(row.integer(6));
      chunk.bytes = row.number(7);
      chunk.attempts = static_cast<std::uint32_t>(row.integer(8));
      chunk.next_attempt_ms = row.integer(9);
      ++count;
    }
  });
  out.resize(error ? 0 : count);
  return error;
}

std::error_code SqliteStore::read_chunks(std::span<const ChunkNumber> chunks,
                                         std::vector<std::string>& blobs) {
  blobs.clear();
  Errc problem = Errc::ok;
  const std::error_code error = reading([&] {
    for (const ChunkNumber number : chunks) {
      Statement& row = sql_.read_chunk;
      const Cursor cursor(row);
      if (!row.bind(1, number).step()) {
        problem = Errc::not_found;
        return;
      }
      const std::string_view data = row.text(7);
      const BatchKeyView key{row.text(1), row.text(2), row.text(3)};
      if (chunk_checksum(number, row.number(0), key, row.integer(4),
                         static_cast<std::uint32_t>(row.integer(5)), data) != row.number(6)) {
        problem = Errc::store_corrupt;
        return;
      }
      blobs.emplace_back(data);
    }
  });
  if (error || problem == Errc::ok) return error;
  blobs.clear();
  return problem;
}

std::optional<BatchNumber> SqliteStore::find_chunk(ChunkNumber chunk) {
  std::optional<BatchNumber> batch;
  const std::error_code error = reading([&] {
    const Cursor cursor(sql_.chunk_batch);
    if (sql_.chunk_batch.bind(1, chunk).step()) batch = sql_.chunk_batch.number(0);
  });
  return error ? std::nullopt : batch;
}

}  // namespace postbag

// Room: what is used, checkpoints, giving pages back, backup; and what went wrong.
#include <sqlite3.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <new>
#include <utility>

#include "store/sqlite_backup.h"
#include "store/sqlite_store_impl.h"

namespace postbag {
namespace {

constexpr std::uint64_t wal_frame_head_bytes = 24;
// A checkpoint is made from here on where nothing else is to be done, if that is but a small part
// of the time.
constexpr std::uint64_t checkpoint_bytes_min = 4 << 20;
constexpr int checkpoint_share = 5;  // one part of so many
// Where no sync comes by itself one is made when so much of the log waits for it.
constexpr std::uint64_t unsynced_bytes_max = 12 << 20;
// What is copied ahead at once: so large a part of the longest log.
constexpr std::uint64_t ahead_parts = 8;
constexpr std::uint64_t spare_bytes = 32
                                      << 20;  // free pages that stay in the file, to be used again
constexpr std::uint64_t vacuum_bytes = 2 << 20;  // in one slice

std::uint64_t file_size(const std::string& path) {
  struct stat status {};
  return stat(path.c_str(), &status) == 0 ? static_cast<std::uint64_t>(status.st_size) : 0;
}

std::uint64_t read_number(Statement& statement) {
  const Cursor cursor(statement);
  return statement.step() ? statement.number(0) : 0;
}

int last_errno(sqlite3_file* file) {
  int error = 0;
  if (file != nullptr && file->pMethods != nullptr) {
    file->pMethods->xFileControl(file, SQLITE_FCNTL_LAST_ERRNO, &error);
  }
  return error;
}

// Of the database file or its log, as `which` says. sqlite3_system_errno() has been overwritten by
// the rollback when we get to ask.
int last_errno(sqlite3* db, int which) {
  sqlite3_file* file = nullptr;
  return sqlite3_file_control(db, "main", which, &file) == SQLITE_OK ? last_errno(file) : 0;
}

// Null: not one on a file.
const char* operation(int code) {
  switch (code) {
    case SQLITE_IOERR_READ:
    case SQLITE_IOERR_SHORT_READ:
      return "read";
    case SQLITE_IOERR_WRITE:
      return "write";
    case SQLITE_IOERR_FSYNC:
      return "sync";
    case SQLITE_IOERR_DIR_FSYNC:
      return "sync of the directory";
    case SQLITE_IOERR_TRUNCATE:
      return "truncate";
    case SQLITE_IOERR_FSTAT:
      return "size";
    default:
      return nullptr;
  }
}

}  // namespace

std::uint64_t SqliteStore::page_count() {
  return read_number(sql_.page_count);
}
std::uint64_t SqliteStore::free_pages() {
  return read_number(sql_.freelist_count);
}
std::uint64_t SqliteStore::log_bytes(std::uint64_t frames) const {
  return frames * (page_bytes_ + wal_frame_head_bytes);
}

std::uint64_t SqliteStore::used_bytes() {
  return (page_count() - free_pages()) * page_bytes_ + wal_bytes();
}

// Appends stop at 90 %; the rest is for failing. What only frees is never refused.
bool SqliteStore::has_room(const StoreGroup& group) {
  shorten_log();
  if (group.append.empty() && group.fail.empty()) return true;
  std::uint64_t wanted = 0;
  for (const ChunkAppend& chunk : group.append) {
    wanted += 128;
    for (const std::string_view piece : chunk.data) wanted += piece.size();
  }
  if (!group.append.empty() && disk_room_.is_low(wanted)) {
    refused_by_ = Refusal::low_water;
    return false;
  }
  const std::uint64_t limit = group.append.empty() ? max_bytes_ : max_bytes_ - max_bytes_ / 10;
  if (used_bytes() + wanted <= limit) return true;
  if (wal_pages_ > 0 && checkpoint() && used_bytes() + wanted <= limit) return true;
  refused_by_ = Refusal::max_bytes;
  return false;
}

bool SqliteStore::has_room() {
  std::uint64_t used = 0;
  if (failed_ || reading([&] { used = used_bytes(); })) return true;  // the next commit will say
  return !disk_room_.is_low(0) && used + page_bytes_ <= max_bytes_ - max_bytes_ / 10;
}

// Everybody waits for a checkpoint: for the log's sync, the copying, the file's sync and that of
// the head of the new log. So there are few, and when one begins most of the log is in the file and
// on its way to the disk, copied in parts that wait for no sync.
void SqliteStore::shorten_log() {
  if (!may_copy()) return;
  const std::uint64_t longest = log_bytes_max(max_bytes_);
  const bool is_long = wal_bytes() >= longest;
  if (copied_) {
    // Groups that only take away ask for no sync, also where one was to follow.
    const std::uint64_t unsynced_max =
        (sync_follows_ ? 2 : 1) * std::min(unsynced_bytes_max, longest / 2);
    std::uint64_t synced = ledger_.synced_frames();
    if (log_bytes(wal_pages_ - synced) >= unsynced_max) {
      if (sync()) return;
      synced = ledger_.synced_frames();
    }
    const bool is_last = is_long && !last_is_ahead_;
    if (synced > ahead_ && (is_last || log_bytes(synced - ahead_) >= longest / ahead_parts)) {
      copy_ahead(synced);
      // The disk gets the time of one group to write it.
      last_is_ahead_ = is_last;
      if (is_last || !may_copy()) return;
    }
  }
  if (is_long) checkpoint();
}

// Not as soon again after one that did not succeed.
bool SqliteStore::may_copy() const {
  return !failed_ && (!log_stays_ || std::chrono::steady_clock::now() >= next_checkpoint_);
}

bool SqliteStore::wants_checkpoint() const {
  return wal_bytes() >= std::min(checkpoint_bytes_min, max_bytes_ / 16) &&
         std::chrono::steady_clock::now() >= next_checkpoint_;
}

// What is on disk in the log may stand in the file at any time, as after a checkpoint that a kill
// interrupted. Nothing is synced.
void SqliteStore::copy_ahead(std::uint64_t frames) {
  const auto begin = std::chrono::steady_clock::now();
  set_synchronous(Synchronous::off);
  const CopiedFrames::Pass pass(*copied_, frames);
  int in_log = 0, done = 0;
  const int code =
      sqlite3_wal_checkpoint_v2(db_.getHandle(), "main", SQLITE_CHECKPOINT_PASSIVE, &in_log, &done);
  log_stays_ = !copied_all(code, 0, 0);
  if (log_stays_) return pause_since(begin);
  ahead_ = frames;
  // What the system could not begin to write it may have dropped: it is all copied again.
  if (!writeback_.start()) copied_->forget();
}

void SqliteStore::pause_since(std::chrono::steady_clock::time_point begin) {
  const auto end = std::chrono::steady_clock::now();
  next_checkpoint_ = end + (end - begin) * (checkpoint_share - 1);
}

// True: the log is in the file, and the next commit begins it anew.
bool SqliteStore::checkpoint() {
  const auto begin = std::chrono::steady_clock::now();
  // What is committed is on disk, and answered, before the copying begins.
  if (log_file_ != nullptr && ledger_.unsynced() && sync()) return false;
  log_stays_ = !copy_log();
  pause_since(begin);
  if (log_stays_) return false;
  wal_pages_ = ahead_ = 0;
  last_is_ahead_ = false;
  // Synced before the log may be overwritten, at both levels.
  ledger_.log_is_copied(witness_record());
  ledger_.sync_witness_if_due();
  return true;
}

// The log has to be on disk before a page of the file is written, and the file before the log is
// begun anew. SQLite would sync both; but of the first it cannot know that it was done, and while
// it does the second nobody could be answered. So it is told to sync nothing, and no commit begins
// before the file is synced.
bool SqliteStore::copy_log() {
  const bool is_log_synced = log_file_ != nullptr;
  if (!is_log_synced) hold_syncs();
  if (failed_) return false;
  set_synchronous(is_log_synced ? Synchronous::off : Synchronous::normal);
  int in_log = 0, done = 0;
  const int code =
      sqlite3_wal_checkpoint_v2(db_.getHandle(), "main", SQLITE_CHECKPOINT_PASSIVE, &in_log, &done);
  if (!copied_all(code, in_log, done)) return false;
  if (is_log_synced && !sync_file()) {
    fail_for_good(SQLITE_IOERR_FSYNC, SQLITE_FCNTL_FILE_POINTER, "");
    return false;
  }
  vacuumed_ = false;
  return true;
}

bool SqliteStore::copied_all(int code, int in_log, int done) {
  if (code == SQLITE_OK) return in_log == done;
  // Nothing is lost as long as the log stands; it is tried again.
  if (no_room(code)) {
    disk_room_.release();
    return false;
  }
  switch (code & 0xff) {
    case SQLITE_NOMEM:
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
      return false;
    default:
      fail_for_good(code, SQLITE_FCNTL_FILE_POINTER, sqlite3_errstr(code));
      return false;
  }
}

bool SqliteStore::sync_file() {
  sqlite3_file* file = nullptr;
  sqlite3_file_control(db_.getHandle(), "main", SQLITE_FCNTL_FILE_POINTER, &file);
  return file != nullptr && file->pMethods != nullptr &&
         file->pMethods->xSync(file, SQLITE_SYNC_NORMAL) == SQLITE_OK;
}

bool SqliteStore::wants_vacuum() {
  const std::uint64_t free = free_pages();
  if (free <= std::min(spare_bytes, max_bytes_ / 16) / page_bytes_) return false;
  // Under load free pages come and go; only when most of the file is free they are not needed soon.
  return !appended_ || free > page_count() / 2;
}

bool SqliteStore::maintain() {
  bool more = false;
  disk_room_.restore_if_due();
  (void)writing([&] {
    if (committed_ && wants_checkpoint()) {
      more = true;  // under load the next group makes it, at a better moment
    } else if (wants_checkpoint()) {
      checkpoint();
      more = wants_vacuum();
    } else if (wants_vacuum()) {
      set_level(CommitLevel::no_sync);
      if (wal_pages_ == 0) hold_syncs();
      vacuumed_ = true;
      db_.exec("PRAGMA incremental_vacuum(" + std::to_string(vacuum_bytes / page_bytes_) + ")");
      ledger_.changed();
      more = true;
    } else if (vacuumed_) {
      checkpoint();  // this is what makes the file shorter
    }
    appended_ = committed_ = false;
  });
  return more && !failed_;
}

StoreStats SqliteStore::stats() {
  StoreStats stats;
  stats.failed_hooks = counts_.failed_hooks;
  stats.failed_bytes = counts_.failed_bytes;
  (void)reading([&] { stats.used_bytes = used_bytes(); });
  // By name: a descriptor of our own, once closed, would take SQLite's locks with it.
  stats.file_bytes = file_size(path_) + file_size(log_path_);
  return stats;
}

std::error_code SqliteStore::begin_backup(const std::string& path,
                                          std::unique_ptr<StoreBackup>& backup) {
  return failed_ ? make_error_code(Errc::store_failed) : DatabaseCopy::begin(db_, path, backup);
}

// --- What went wrong: for want of room, which passes, or for good

// SQLite knows a full disk, not a used up quota or file size limit.
bool SqliteStore::no_room(int code) {
  if ((code & 0xff) == SQLITE_FULL) {
    refused_by_ = Refusal::file_system;
    refusal_errno_ = 0;
    return true;
  }
  if (code != SQLITE_IOERR_WRITE) return false;
  for (const int which : {SQLITE_FCNTL_FILE_POINTER, SQLITE_FCNTL_JOURNAL_POINTER}) {
    const int system = last_errno(db_.getHandle(), which);
    if (system != EDQUOT && system != EFBIG) continue;
    refused_by_ = Refusal::file_system;
    refusal_errno_ = system;
    return true;
  }
  return false;
}

std::string SqliteStore::why_no_room() {
  switch (refused_by_) {
    case Refusal::none:
      break;
    case Refusal::max_bytes: {
      std::uint64_t used = 0;
      if (reading([&] { used = used_bytes(); })) break;
      return "[store] max_bytes: " + size_text(used) + " of " + size_text(max_bytes_) +
             " are used, new hooks are taken up to 90 %";
    }
    case Refusal::low_water:
      return disk_room_.why_low();
    case Refusal::file_system:
      if (refusal_errno_ == 0) return "the disk is full: " + disk_room_.why_low();
      return path_ + ": write: " + std::generic_category().message(refusal_errno_);
  }
  return {};
}

std::error_code SqliteStore::write_error(const SQLite::Exception& error) {
  if (!failed_ && no_room(error.getExtendedErrorCode())) return Errc::disk_low;
  if (!failed_ && (error.getErrorCode() & 0xff) == SQLITE_NOMEM) throw std::bad_alloc();
  // A failed sync cannot be tried again: the kernel has dropped the pages and calls the next one a
  // success. A transaction works on the log.
  fail_for_good(error.getExtendedErrorCode(), SQLITE_FCNTL_JOURNAL_POINTER, error.what());
  return Errc::store_failed;
}

std::string SqliteStore::failure() const {
  const std::lock_guard lock(failure_mutex_);
  return failure_;
}

void SqliteStore::fail_for_good(const std::string& file, const char* what, int system) noexcept {
  try {
    const std::lock_guard lock(failure_mutex_);
    if (failure_.empty() && !failed_) {
      std::string text = file + ": " + what;
      if (system != 0) {
        text += ": " + std::generic_category().message(system);
        text += " (" + std::to_string(system) + ")";
      }
      failure_ = std::move(text);
    }
  } catch (const std::bad_alloc&) {
    // It failed all the same.
  }
  failed_ = true;
}

void SqliteStore::fail_for_good(int code, int which, const char* otherwise) noexcept {
  const char* what = operation(code);
  if (what == nullptr) return fail_for_good(path_, otherwise, 0);
  sqlite3* db = db_.getHandle();
  int system = last_errno(db, which);
  if (system == 0) {
    const int other = which == SQLITE_FCNTL_FILE_POINTER ? SQLITE_FCNTL_JOURNAL_POINTER
                                                         : SQLITE_FCNTL_FILE_POINTER;
    system = last_errno(db, other);
    if (system != 0) which = other;
  }
  fail_for_good(which == SQLITE_FCNTL_FILE_POINTER ? path_ : log_path_, what, system);
}

void SqliteStore::fail_sync() noexcept {
  fail_for_good(log_path_, "sync", last_errno(log_file_));
}

}  // namespace postbag

// What went wrong: for want of room, which passes, or for good.
#include <sqlite3.h>

#include <cerrno>
#include <new>
#include <utility>

#include "store/sqlite_store_impl.h"

namespace postbag {
namespace {

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

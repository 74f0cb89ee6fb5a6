#include "store/sqlite_backup.h"

#include <sqlite3.h>
#include <unistd.h>

#include <chrono>
#include <new>
#include <utility>

#include "postbag/error.h"
#include "postbag/sqlite_store.h"
#include "store/sqlite_schema.h"
#include "store/store_file.h"

namespace postbag {
namespace {

constexpr int pages_between_looks = 16;
constexpr std::chrono::milliseconds slice_time{4};

}  // namespace

std::error_code DatabaseCopy::begin(SQLite::Database& from, const std::string& path,
                                    std::unique_ptr<StoreBackup>& copy) {
  try {
    check_store_path(path);
  } catch (const StoreError& error) {
    return error.code();
  }
  if (access(path.c_str(), F_OK) == 0) return Errc::store_cannot_create;
  std::unique_ptr<DatabaseCopy> made(new DatabaseCopy(path));
  const std::error_code error = made->or_abandon([&]() -> std::error_code {
    made->is_there_ = !create_store_file(made->part_);
    if (!made->is_there_) return Errc::store_cannot_create;
    SQLite::Database& to =
        made->copy_.emplace(made->part_, SQLite::OPEN_READWRITE | SQLite::OPEN_NOMUTEX);
    to.exec("PRAGMA locking_mode = EXCLUSIVE");  // no shared memory file beside it
    // Half a copy is worth nothing, so it needs no journal; sync() is not on this thread.
    to.exec("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF");
    made->backup_.emplace(to, from);
    return {};
  });
  if (!error) copy = std::move(made);
  return error;
}

DatabaseCopy::~DatabaseCopy() {
  abandon();
}

void DatabaseCopy::abandon() {
  backup_.reset();
  copy_.reset();
  if (std::exchange(is_there_, false)) unlink(part_.c_str());
}

std::error_code DatabaseCopy::or_abandon(const std::function<std::error_code()>& work) {
  std::error_code error = Errc::store_io;
  try {
    error = work();
  } catch (const SQLite::Exception& thrown) {
    const int code = thrown.getErrorCode() & 0xff;
    error = code == SQLITE_FULL ? Errc::disk_low : Errc::store_io;
  } catch (const std::bad_alloc&) {
    abandon();
    throw;
  }
  if (error) abandon();
  return error;
}

std::error_code DatabaseCopy::step(bool& done) {
  return or_abandon([&]() -> std::error_code {
    const auto begin = std::chrono::steady_clock::now();
    int result = SQLITE_OK;
    do {
      result = backup_->executeStep(pages_between_looks);
    } while (result == SQLITE_OK && std::chrono::steady_clock::now() - begin < slice_time);
    if (result == SQLITE_OK) return {};
    if (result != SQLITE_DONE) return Errc::store_io;
    backup_.reset();
    if (pragma_value(*copy_, "PRAGMA user_version") >= 2) {
      copy_->exec("UPDATE meta SET epoch = 0");
      // Into the file, which is all that stays.
      if (pragma_value(*copy_, "PRAGMA wal_checkpoint(TRUNCATE)") != 0) return Errc::store_io;
    }
    done = true;
    return {};
  });
}

std::error_code DatabaseCopy::sync() {
  return or_abandon([&]() -> std::error_code {
    sqlite3_file* file = nullptr;
    sqlite3_file_control(copy_->getHandle(), "main", SQLITE_FCNTL_FILE_POINTER, &file);
    if (file == nullptr || file->pMethods == nullptr ||
        file->pMethods->xSync(file, SQLITE_SYNC_NORMAL) != SQLITE_OK) {
      return Errc::store_io;
    }
    copy_.reset();  // takes its log with it, by the old name
    const std::error_code error = name_store_file(part_, path_);
    is_there_ = bool(error);
    if (!error) return {};
    return error == std::errc::file_exists ? Errc::store_cannot_create : Errc::store_io;
  });
}

std::string part_path(const std::string& path) {
  return path + ".part";
}

std::error_code copy_database(SQLite::Database& from, const std::string& path) {
  std::unique_ptr<StoreBackup> copy;
  std::error_code error = DatabaseCopy::begin(from, path, copy);
  for (bool done = false; !error && !done;) error = copy->step(done);
  return error ? error : copy->sync();
}

}  // namespace postbag

// How the store's file is opened: refused if it is not what was left, created, migrated.
#include "store/sqlite_open.h"

#include <fcntl.h>
#include <sqlite3.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <new>
#include <utility>

#include "postbag/error.h"
#include "store/sqlite_backup.h"
#include "store/sqlite_schema.h"
#include "store/sqlite_statement.h"
#include "store/store_file.h"
#include "store/witness.h"

namespace postbag {
namespace {

// A check of the structure takes about a second per GiB, more from a slow disk; hooks wait
// meanwhile.
constexpr std::int64_t quick_check_max_bytes = 64 << 20;

std::uint64_t size_of(const std::string& path) {
  struct stat status {};
  return stat(path.c_str(), &status) == 0 ? static_cast<std::uint64_t>(status.st_size) : 0;
}

// What meta says of what was taken over; as a fresh copy where the schema does not know it yet.
struct Progress {
  std::uint64_t epoch = 0, sequence = 0, hooks = 0;
  ChunkNumber last_number = 0;
  std::uint16_t store_tag = 0;
};

Progress read_progress(SQLite::Database& db) {
  Progress progress;
  {
    Statement row(db.getHandle(), "SELECT store_tag FROM meta");
    if (row.step()) progress.store_tag = static_cast<std::uint16_t>(row.integer(0));
  }
  if (pragma_value(db, "PRAGMA user_version") < 2) return progress;
  Statement row(db.getHandle(), "SELECT epoch, sequence, taken_hooks, last_number FROM meta");
  if (!row.step()) return progress;
  progress.epoch = row.number(0);
  progress.sequence = row.number(1);
  progress.hooks = row.number(2);
  progress.last_number = row.number(3);
  return progress;
}

bool is_empty(SQLite::Database& db) {
  return pragma_value(db, "SELECT EXISTS (SELECT 1 FROM chunk) OR EXISTS (SELECT 1 FROM failed)") ==
         0;
}

std::string describe(const WitnessedLoss& loss) {
  if (loss.hooks == 0) {
    return std::to_string(loss.commits) +
           " commits are missing; they accepted no hook, but what they stored as failed is missing "
           "or waits for delivery again";
  }
  std::string text = std::to_string(loss.hooks) + " accepted hooks of " +
                     std::to_string(loss.commits) + " commits are missing";
  if (loss.last == 0) return text;
  return text + ", chunk numbers " + std::to_string(loss.first) + " to " +
         std::to_string(loss.last);
}

std::string describe_missing(const WitnessRecord& witness) {
  return "the store that belongs here is missing, with " + std::to_string(witness.hooks) +
         " hooks taken over so far, chunk numbers up to " +
         std::to_string(witness.reserved_below - 1);
}

void lose(const SqliteStoreOptions& options, const std::string& what, OpenedStore& opened) {
  const std::string line = "store " + options.path + ": " + what;
  if (!options.accept_loss) {
    throw StoreError(
        Errc::store_corrupt,
        line +
            ". The file or its log was cut short, deleted or replaced. Bring the right "
            "files back, or start with --accept-loss to go on without them");
  }
  opened.warnings.push_back(line + "; the loss was accepted");
  opened.needs_epoch = true;
}

bool kept_something(const WitnessRecord& witness) {
  return witness.sequence > 0 && !witness.empty;
}

void judge_missing(const SqliteStoreOptions& options, OpenedStore& opened) {
  const WitnessReading reading = read_witness(witness_path(options.path));
  const WitnessRecord* newest = reading.newest();
  opened.needs_epoch = true;
  if (newest != nullptr && kept_something(*newest)) {
    lose(options, describe_missing(*newest), opened);
  }
}

void warn_of_copy(const SqliteStoreOptions& options, OpenedStore& opened) {
  opened.warnings.push_back("store " + options.path +
                            ": a copy was put back; what was accepted since it was made is not "
                            "in it, what was delivered since is delivered again");
}

void warn_unchecked(const SqliteStoreOptions& options, const std::string& why,
                    OpenedStore& opened) {
  opened.needs_epoch = true;
  opened.warnings.push_back("store " + options.path +
                            ": whether accepted hooks are missing could "
                            "not be checked: " +
                            witness_path(options.path) + " " + why);
}

// The witness saw another life of the store, or another store. Backups and salvaged stores have no
// epoch, one that was opened elsewhere another; all keep the tag if they can.
void judge_other(const SqliteStoreOptions& options, const WitnessRecord& newest,
                 const Progress& store, OpenedStore& opened) {
  opened.needs_epoch = true;
  if (store.epoch != 0 && store.store_tag != newest.store_tag) {
    if (!kept_something(newest)) return warn_unchecked(options, "is another store's", opened);
    return lose(options, describe_missing(newest) + "; this is another one", opened);
  }
  // Of sequence 0 is the witness of an opening that was killed, and of a store that took nothing.
  const bool is_older = newest.sequence > 0 && !is_empty(opened.db);
  if (kept_something(newest) || is_older) warn_of_copy(options, opened);
}

void judge_existing(const SqliteStoreOptions& options, OpenedStore& opened) {
  // All of the store was in a log that is gone.
  if (pragma_value(opened.db, "PRAGMA user_version") == 0) return judge_missing(options, opened);
  const WitnessReading reading = read_witness(witness_path(options.path));
  const WitnessRecord* newest = reading.newest();
  const Progress store = read_progress(opened.db);
  if (newest == nullptr) {
    // A store that has an epoch has had a witness that knew of it.
    if (store.epoch != 0) warn_unchecked(options, "is missing or damaged", opened);
    return;
  }
  for (const WitnessRecord& record : reading.records) {
    opened.handed_out = std::max(opened.handed_out, record.reserved_below);
  }
  if (store.epoch != newest->epoch) return judge_other(options, *newest, store, opened);
  opened.synced = reading.synced();
  const auto loss = witnessed_loss(reading, store.sequence, store.hooks, store.last_number);
  // Closed with nothing in it, and yet there is something: what was there before. To take over more
  // would have been another commit.
  if (!loss && newest->empty && store.sequence == newest->sequence && !is_empty(opened.db)) {
    opened.needs_epoch = true;
    warn_of_copy(options, opened);
  }
  if (!loss) return;
  if (!loss->within_window) return lose(options, describe(*loss), opened);
  opened.needs_epoch = true;
  opened.warnings.push_back("store " + options.path + ": " + describe(*loss) +
                            "; they were in the last second before a power loss");
}

bool has_system_error(SQLite::Database& db) {
  for (const int which : {SQLITE_FCNTL_FILE_POINTER, SQLITE_FCNTL_JOURNAL_POINTER}) {
    sqlite3_file* file = nullptr;
    int error = 0;
    sqlite3_file_control(db.getHandle(), "main", which, &file);
    if (file == nullptr || file->pMethods == nullptr) continue;
    file->pMethods->xFileControl(file, SQLITE_FCNTL_LAST_ERRNO, &error);
    if (error != 0) return true;
  }
  return false;
}

// quick_check reports a failed read like any other finding. An impossible page number is reported
// in other words, so these words mean the disk; those of the last kind also a damaged page.
bool is_read_error(SQLite::Database& db, std::string_view finding) {
  for (const std::string_view words : {"failed to get page", "unable to get the page"}) {
    if (finding.find(words) != std::string_view::npos) return true;
  }
  return finding.find("Failed to read ptrmap") != std::string_view::npos && has_system_error(db);
}

void refuse_damaged_structure(SQLite::Database& db, const std::string& path) {
  // Not of the files: the log's stays long when it has been long once.
  const std::int64_t bytes =
      pragma_value(db, "PRAGMA page_count") * pragma_value(db, "PRAGMA page_size");
  if (bytes > quick_check_max_bytes) return;
  std::string first;
  check_structure(db, "PRAGMA quick_check(1)", [&first](std::string_view finding) {
    if (first.empty()) first = finding;
  });
  if (first.empty()) return;
  if (is_read_error(db, first)) {
    throw StoreError(Errc::store_io, "store " + path + ": cannot be read: input/output error");
  }
  throw StoreError(Errc::store_corrupt, "store " + path + ": damaged: " + first +
                                            "; `postbag store salvage` copies what is readable to "
                                            "a new file");
}

// A step of the schema cannot be taken back; the copy is for who wants to.
void prepare_migration(const SqliteStoreOptions& options, OpenedStore& opened) {
  const std::string& path = options.path;
  SQLite::Database& db = opened.db;
  const std::int64_t version = pragma_value(db, "PRAGMA user_version");
  const auto newest = static_cast<std::int64_t>(schema_migrations().size());
  if (version == 0 || version >= newest) return;
  const std::string copy = path + ".before-v" + std::to_string(newest);
  // Of an attempt that did not get to the migration.
  unlink(copy.c_str());
  unlink(part_path(copy).c_str());
  if (const std::error_code error = copy_database(db, copy)) {
    throw StoreError(Errc::store_io, "store " + path + ": has to be brought to schema " +
                                         std::to_string(newest) + ", and the copy " + copy +
                                         " before it cannot be made: " + error.message());
  }
  opened.warnings.push_back("store " + path + ": brought from schema " + std::to_string(version) +
                            " to " + std::to_string(newest) + "; as it was before it is " + copy +
                            ", for the earlier version of Postbag");
}

void refuse_older_schema(SQLite::Database& db, const std::string& path) {
  const std::int64_t version = pragma_value(db, "PRAGMA user_version");
  const auto newest = static_cast<std::int64_t>(schema_migrations().size());
  if (version == 0 || version >= newest) return;
  throw StoreError(std::make_error_code(std::errc::not_supported),
                   "store " + path + ": of an earlier version of Postbag (schema " +
                       std::to_string(version) + ", this one uses " + std::to_string(newest) +
                       "), and looking at it does not change it: start `postbag serve`, which "
                       "brings it up to date and keeps a copy, or use that version");
}

void create_file(const std::string& path) {
  const std::error_code error = create_store_file(path);
  if (!error) {
    // Else a power loss could take the name of the store and leave that of its witness.
    sync_folder_of(path);
    return;
  }
  if (error == std::errc::file_exists) return;
  const bool permission = error == std::errc::permission_denied ||
                          error == std::errc::operation_not_permitted ||
                          error == std::errc::read_only_file_system;
  throw StoreError(permission ? Errc::store_permission : Errc::store_cannot_create,
                   "store " + path + ": cannot be created: " + error.message());
}

}  // namespace

std::uint64_t log_bytes_max(std::uint64_t max_bytes) {
  return std::min<std::uint64_t>(64 << 20, max_bytes / 16);
}

std::string witness_path(const std::string& store_path) {
  return store_path + ".witness";
}

std::string missing_by_witness(SQLite::Database& db, const std::string& path) {
  const WitnessReading reading = read_witness(witness_path(path));
  const Progress store = read_progress(db);
  if (reading.newest() == nullptr || reading.newest()->epoch != store.epoch) return {};
  const auto loss = witnessed_loss(reading, store.sequence, store.hooks, store.last_number);
  return loss ? describe(*loss) : std::string();
}

OpenedStore open_store_file(const SqliteStoreOptions& options) {
  const std::string& path = options.path;
  check_store_path(path);
  struct stat status {};
  const bool exists = stat(path.c_str(), &status) == 0;
  if (!exists && errno == ENOENT && !options.create) {
    throw StoreError(Errc::not_found, "store " + path + ": no such file");
  }
  if (exists && !S_ISREG(status.st_mode)) {
    throw StoreError(Errc::store_cannot_create, "store " + path + ": not a regular file");
  }
  // SQLite would open it for reading alone, and fail at the first write with another reason.
  if (exists && faccessat(AT_FDCWD, path.c_str(), R_OK | W_OK, AT_EACCESS) != 0 &&
      errno == EACCES) {
    throw StoreError(Errc::store_permission,
                     "store " + path + ": no permission to read and write the file");
  }
  OpenedStore opened{SQLite::Database(":memory:"), {}};
  const bool is_new = !exists || status.st_size == 0;
  if (is_new && options.side_files) judge_missing(options, opened);
  if (!exists) create_file(path);
  opened.was_unclean = size_of(path + "-wal") > 0;
  opened.db = open_database(path, OpenFor::writing);
  try {
    // Until it is found sound, closing it must not write its log into it.
    sqlite3* db = opened.db.getHandle();
    sqlite3_db_config(db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, nullptr);
    if (!is_new) {
      refuse_newer_schema(opened.db, path);
      if (!options.upgrade) refuse_older_schema(opened.db, path);
      if (opened.was_unclean) refuse_damaged_structure(opened.db, path);
      if (options.side_files) judge_existing(options, opened);
      prepare_migration(options, opened);
    }
    sqlite3_db_config(db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 0, nullptr);
  } catch (const SQLite::Exception& error) {
    throw open_error(error, path);
  }
  prepare_for_writing(opened.db, path,
                      std::max<std::uint64_t>(log_bytes_max(options.max_bytes) * 5 / 4, 1 << 20));
  return opened;
}

void backup_sqlite_store(const std::string& from, const std::string& to) {
  SqliteStoreOptions options;
  options.path = from;
  OpenedStore opened{open_existing(from), {}};
  try {
    if (size_of(from + "-wal") > 0) refuse_damaged_structure(opened.db, from);
    judge_existing(options, opened);
  } catch (const SQLite::Exception& error) {
    throw open_error(error, from);
  }
  if (const std::error_code error = copy_database(opened.db, to)) {
    throw StoreError(error, "cannot copy the store to " + to + ": " + error.message());
  }
}

}  // namespace postbag

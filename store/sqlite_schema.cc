#include "store/sqlite_schema.h"

#include <fcntl.h>
#include <sqlite3.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <filesystem>
#include <optional>
#include <system_error>

#include "postbag/error.h"
#include "store/gathering_vfs.h"
#include "store/sqlite_open.h"
#include "store/sqlite_statement.h"
#include "store/witness.h"

namespace postbag {
namespace {

// Columns stand in the order in which they are read: what a scan needs first, the bytes last, so
// that a scan leaves the overflow pages alone. No secondary index anywhere: numbers and keys are
// handed out ascending, and every look-up is by them.
constexpr const char* version_1 = R"sql(
CREATE TABLE meta(
  id INTEGER PRIMARY KEY CHECK(id = 1),
  store_tag INTEGER NOT NULL,
  reserved_below INTEGER NOT NULL,   -- chunk numbers below may have been handed out
  failed_hooks INTEGER NOT NULL,     -- rows in failed
  created_ms INTEGER NOT NULL,
  touched INTEGER NOT NULL) STRICT;  -- changed to force a sync
INSERT INTO meta VALUES(1, 1 + abs(random() % 65535), 1, 0,
  CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER), 0);
CREATE TABLE chunk(
  number INTEGER PRIMARY KEY,
  batch INTEGER NOT NULL,            -- number of the batch's first chunk
  target TEXT NOT NULL,
  grp TEXT NOT NULL,
  headers TEXT NOT NULL,
  accepted_ms INTEGER NOT NULL,
  hooks INTEGER NOT NULL,
  crc INTEGER NOT NULL,              -- CRC-32C of all of the row
  data BLOB NOT NULL) STRICT;
CREATE TABLE retry(                  -- batches that have had an attempt
  batch INTEGER PRIMARY KEY,
  attempts INTEGER NOT NULL,
  next_attempt_ms INTEGER NOT NULL) STRICT;
CREATE TABLE failed(
  key INTEGER PRIMARY KEY,           -- chunk number << 14 | index
  response INTEGER NOT NULL,         -- batch in failed_batch; 0: no response kept
  status INTEGER NOT NULL,
  attempts INTEGER NOT NULL,
  first_at INTEGER NOT NULL,
  last_at INTEGER NOT NULL,
  reason TEXT NOT NULL,              -- token
  id TEXT NOT NULL,
  target TEXT NOT NULL,
  grp TEXT NOT NULL,
  event TEXT NOT NULL,
  headers TEXT NOT NULL,
  content_type TEXT NOT NULL,
  crc INTEGER NOT NULL,              -- CRC-32C of key, id, ... content_type, body
  body BLOB NOT NULL) STRICT;
CREATE TABLE failed_batch(
  batch INTEGER PRIMARY KEY,
  hooks INTEGER NOT NULL,            -- rows in failed that refer here; deleted with the last
  response_headers BLOB NOT NULL,
  response_excerpt BLOB NOT NULL) STRICT;
CREATE TABLE remembered(             -- one row a commit group; a row an id would write a page an id
  number INTEGER PRIMARY KEY,
  expires_ms INTEGER NOT NULL,       -- the latest
  ids INTEGER NOT NULL,
  crc INTEGER NOT NULL,
  data BLOB NOT NULL) STRICT;        -- 48 bytes an id, little endian
)sql";

// failed_bytes as SqliteStore counts them (failed_row_bytes() and the responses). The epoch is
// drawn when the store is opened.
constexpr const char* version_2 = R"sql(
ALTER TABLE meta ADD COLUMN failed_bytes INTEGER NOT NULL DEFAULT 0;
ALTER TABLE meta ADD COLUMN epoch INTEGER NOT NULL DEFAULT 0;        -- 0: a fresh copy
ALTER TABLE meta ADD COLUMN sequence INTEGER NOT NULL DEFAULT 0;     -- commits that took over
ALTER TABLE meta ADD COLUMN taken_hooks INTEGER NOT NULL DEFAULT 0;  -- appended by them
ALTER TABLE meta ADD COLUMN last_number INTEGER NOT NULL DEFAULT 0;  -- highest ever appended
UPDATE meta SET
  last_number = coalesce((SELECT max(number) FROM chunk), 0),
  failed_bytes = coalesce((SELECT sum(128 + length(CAST(id AS BLOB)) +
    length(CAST(target AS BLOB)) + length(CAST(grp AS BLOB)) + length(CAST(event AS BLOB)) +
    length(CAST(headers AS BLOB)) + length(CAST(content_type AS BLOB)) + length(body))
    FROM failed), 0) +
    coalesce((SELECT sum(length(response_headers) + length(response_excerpt))
    FROM failed_batch), 0);
)sql";

constexpr std::array migrations{Migration{version_1}, Migration{version_2}};

// SQLite turns them into numbers of pages of the size it knows by then, so they come after that is
// settled. What waits for delivery is settled without reading it again as far as it fits. Pages of
// an unfinished commit are kept beyond: one that goes to the log early and is changed again makes
// SQLite read and write a good part of the log once more.
constexpr const char* set_cache_size = "PRAGMA cache_size = -65536; PRAGMA cache_spill = -98304";

std::string directory_of(const std::string& path) {
  const std::filesystem::path parent = std::filesystem::path(path).parent_path();
  return parent.empty() ? "." : parent.string();
}

// SQLite says of a file that it could not open, the log included, only that. It has closed the
// others by now.
int want_of_descriptors() {
  std::array<int, 4> held{-1, -1, -1, -1};
  int error = 0;
  for (int& fd : held) {
    fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (fd < 0 && (errno == EMFILE || errno == ENFILE)) error = errno;
  }
  for (const int fd : held) {
    if (fd >= 0) close(fd);
  }
  return error;
}

StoreError cannot_open(const std::string& path) {
  if (const int error = want_of_descriptors(); error != 0) {
    throw std::system_error(error, std::generic_category(), "store " + path + ": cannot be opened");
  }
  if (access(path.c_str(), R_OK | W_OK) != 0 && errno == EACCES) {
    return {Errc::store_permission, "store " + path + ": no permission to read and write the file"};
  }
  if (access(directory_of(path).c_str(), W_OK | X_OK) != 0 && (errno == EACCES || errno == EROFS)) {
    return {Errc::store_permission, "store " + path +
                                        ": no permission to write in its directory, where the "
                                        "write-ahead log has to stand beside it"};
  }
  return {
      Errc::store_cannot_create,
      "store " + path + ": cannot be opened; the path must name a file in an existing directory"};
}

}  // namespace

std::span<const Migration> schema_migrations() {
  return migrations;
}

StoreError open_error(const SQLite::Exception& error, const std::string& path, OpenFor purpose) {
  const std::string store = "store " + path + ": ";
  switch (error.getErrorCode() & 0xff) {
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
    case SQLITE_PROTOCOL:
      return {Errc::store_busy, store + "another process has it open; use that one, or stop it"};
    case SQLITE_NOTADB:
      return {Errc::store_corrupt, store + error.what() +
                                       "; its first page is damaged, without which nothing in it "
                                       "can be read: go on with a backup"};
    case SQLITE_CORRUPT:
      if (purpose == OpenFor::salvage) {
        return {Errc::store_corrupt, store + error.what() +
                                         "; where its tables are cannot be read any more, so "
                                         "nothing of it can be saved: go on with a backup"};
      }
      return {Errc::store_corrupt, store + error.what() +
                                       "; `postbag store salvage` copies what is readable to a new "
                                       "file"};
    case SQLITE_READONLY:
    case SQLITE_PERM:
    case SQLITE_AUTH:
      return {Errc::store_permission, store + "no permission to write"};
    case SQLITE_CANTOPEN:
      return cannot_open(path);
    case SQLITE_FULL:
      return {Errc::store_io, store + "no room left on the device"};
    default:
      return {Errc::store_io, store + error.what()};
  }
}

std::int64_t pragma_value(SQLite::Database& db, const char* pragma) {
  Statement statement(db.getHandle(), pragma);
  return statement.step() ? statement.integer(0) : 0;
}

// All findings come as one text, under a heading.
void check_structure(SQLite::Database& db, const char* pragma,
                     const std::function<void(std::string_view finding)>& found) {
  Statement row(db.getHandle(), pragma);
  while (row.step()) {
    for (std::string_view text = row.text(0); !text.empty();) {
      const std::string_view line = text.substr(0, text.find('\n'));
      text.remove_prefix(std::min(text.size(), line.size() + 1));
      if (!line.empty() && line != "ok" && !line.starts_with("*** in database")) found(line);
    }
  }
}

namespace {

void refuse_newer(std::int64_t version, std::size_t newest, const std::string& path) {
  if (version <= static_cast<std::int64_t>(newest)) return;
  throw StoreError(Errc::store_newer, "store " + path +
                                          ": written by a later version of Postbag (schema " +
                                          std::to_string(version) + ", this one knows " +
                                          std::to_string(newest) + "); use that version");
}

}  // namespace

void refuse_newer_schema(SQLite::Database& db, const std::string& path) {
  refuse_newer(pragma_value(db, "PRAGMA user_version"), schema_migrations().size(), path);
}

void migrate_schema(SQLite::Database& db, std::span<const Migration> steps,
                    const std::string& path) {
  const std::int64_t version = pragma_value(db, "PRAGMA user_version");
  const auto newest = static_cast<std::int64_t>(steps.size());
  refuse_newer(version, steps.size(), path);
  if (version == newest) return;
  db.exec("BEGIN IMMEDIATE");
  try {
    for (std::int64_t i = version; i < newest; ++i) db.exec(steps[static_cast<std::size_t>(i)].sql);
    db.exec("PRAGMA application_id = " + std::to_string(sqlite_application_id));
    db.exec("PRAGMA user_version = " + std::to_string(newest));
    db.exec("COMMIT");
  } catch (...) {
    // Gone already after some errors.
    if (sqlite3_get_autocommit(db.getHandle()) == 0) db.tryExec("ROLLBACK");
    throw;
  }
}

void check_store_path(const std::string& path) {
  // SQLite would take these for a URI with options, a database in memory and a temporary file.
  if (path.empty() || path.starts_with("file:") || path.starts_with(":") ||
      path.find('\0') != std::string::npos) {
    throw StoreError(Errc::store_cannot_create,
                     "store \"" + path +
                         "\": must be the name of a file, not empty, and not begin with \"file:\" "
                         "or \":\" (write ./ before such a name)");
  }
}

namespace {

bool has_bytes(const std::string& path) {
  struct stat status {};
  return stat(path.c_str(), &status) == 0 && status.st_size > 0;
}

// For SQLite: the file as it is, without its log.
std::string uri_of_file_alone(const std::string& path) {
  constexpr const char* digits = "0123456789ABCDEF";
  std::string uri = "file://";
  for (const char c : std::filesystem::absolute(path).string()) {
    if (c != '%' && c != '?' && c != '#') {
      uri += c;
      continue;
    }
    const auto byte = static_cast<unsigned char>(c);
    uri += '%';
    uri += digits[byte >> 4];
    uri += digits[byte & 15];
  }
  return uri + "?immutable=1";
}

// Nothing: the file does not say; it is new, of an older schema, damaged, or a kill or power loss
// has left a page of it half copied (then the log has all of it).
std::optional<std::uint64_t> epoch_in_file(const std::string& path) {
  try {
    const SQLite::Database db(uri_of_file_alone(path),
                              SQLite::OPEN_READONLY | SQLITE_OPEN_URI | SQLite::OPEN_NOMUTEX);
    Statement row(db.getHandle(),
                  "SELECT epoch FROM meta WHERE id = 1 AND store_tag > 0 AND created_ms > 0");
    return row.step() ? std::optional(row.number(0)) : std::nullopt;
  } catch (const SQLite::Exception&) {
    return std::nullopt;
  }
}

// A log knows nothing of the file that it belongs to. Beside a backup or a salvaged store that was
// put in the place of one that had not been closed it is still that store's, and SQLite would lay
// its pages over those of the copy. Copies have no epoch. The first start gives them one, in the
// file and not only in the log, before it takes anything over, and before that a witness of their
// own. So a copy that was never started has no log, and a kill in a first start leaves a witness of
// no commit.
void refuse_foreign_log(const std::string& store_path) {
  const std::string log = store_path + "-wal";
  if (!has_bytes(log)) return;
  const WitnessReading witness = read_witness(witness_path(store_path));
  if (witness.newest() == nullptr || witness.newest()->sequence == 0) return;
  if (epoch_in_file(store_path) != 0) return;
  throw StoreError(Errc::store_corrupt,
                   "store " + store_path + ": a copy that was put here, but " + log +
                       " is still the log of the store that was here before; remove it (or bring "
                       "that store back), then start again");
}

}  // namespace

SQLite::Database open_database(const std::string& path, OpenFor purpose) {
  const bool reads_only = purpose != OpenFor::writing;
  try {
    refuse_foreign_log(path);
    // No mutex: one thread at a time is the contract of Store.
    SQLite::Database db(path, SQLite::OPEN_READWRITE | SQLite::OPEN_NOMUTEX, 0, gathering_vfs());
    sqlite3_extended_result_codes(db.getHandle(), 1);
    if (reads_only) {
      sqlite3_db_config(db.getHandle(), SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, nullptr);
      db.exec("PRAGMA query_only = ON");
    }
    // Without it SQLite reads nothing of a file that is shorter than its first page says.
    if (purpose == OpenFor::salvage) db.exec("PRAGMA writable_schema = ON");
    // Before the first look at the file: then the lock is exclusive from it on, and no shared
    // memory file is made.
    db.exec("PRAGMA locking_mode = EXCLUSIVE");
    db.exec("PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON; PRAGMA mmap_size = 0");
    db.exec("PRAGMA temp_store = MEMORY");
    db.exec(set_cache_size);
    if (sqlite3_db_readonly(db.getHandle(), "main") == 1) {
      throw StoreError(Errc::store_permission, "store " + path + ": no permission to write");
    }
    const bool is_new = pragma_value(db, "SELECT count(*) FROM sqlite_schema") == 0 &&
                        pragma_value(db, "PRAGMA application_id") == 0 &&
                        pragma_value(db, "PRAGMA user_version") == 0;
    if (!is_new && pragma_value(db, "PRAGMA application_id") != sqlite_application_id) {
      throw StoreError(Errc::store_corrupt,
                       "store " + path + ": a database of another program, not a Postbag store");
    }
    if (is_new && reads_only) {
      throw StoreError(Errc::store_corrupt, "store " + path + ": empty, not a Postbag store");
    }
    return db;
  } catch (const SQLite::Exception& error) {
    throw open_error(error, path, purpose);
  }
}

SQLite::Database open_existing(const std::string& path, OpenFor purpose) {
  check_store_path(path);
  struct stat status {};
  if (stat(path.c_str(), &status) != 0 && errno == ENOENT) {
    throw StoreError(Errc::not_found, "store " + path + ": no such file");
  }
  SQLite::Database db = open_database(path, purpose);
  refuse_newer_schema(db, path);
  return db;
}

void prepare_for_writing(SQLite::Database& db, const std::string& path,
                         std::uint64_t journal_limit_bytes) {
  try {
    refuse_newer_schema(db, path);
    // These two only have an effect before the first page is written, which journal_mode does.
    db.exec("PRAGMA page_size = " + std::to_string(sqlite_page_bytes));
    db.exec("PRAGMA auto_vacuum = INCREMENTAL");
    {
      Statement statement(db.getHandle(), "PRAGMA journal_mode = WAL");
      if (!statement.step() || statement.text(0) != "wal") {
        throw StoreError(Errc::store_io, "store " + path +
                                             ": the file system does not allow a write-ahead log; "
                                             "put the store on a local one");
      }
    }
    db.exec(set_cache_size);
    db.exec("PRAGMA journal_size_limit = " + std::to_string(journal_limit_bytes));
    db.exec("PRAGMA wal_autocheckpoint = 0; PRAGMA synchronous = FULL");
    migrate_schema(db, schema_migrations(), path);
    sqlite3_db_config(db.getHandle(), SQLITE_DBCONFIG_DEFENSIVE, 1, nullptr);
    // The lock is held from here until close, whoever wrote what before.
    db.exec("BEGIN IMMEDIATE; COMMIT");
  } catch (const SQLite::Exception& error) {
    throw open_error(error, path);
  }
}

}  // namespace postbag

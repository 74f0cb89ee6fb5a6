#pragma once

#include <SQLiteCpp/Database.h>

#include <cstdint>
#include <string>
#include <system_error>
#include <vector>

#include "postbag/sqlite_store.h"

namespace postbag {

// What opening found out, beside the connection.
struct OpenedStore {
  SQLite::Database db;
  std::vector<std::string> warnings;
  bool was_unclean = false;    // there was a log: nobody closed it
  bool needs_epoch = false;    // what the witness says is about something else from here on
  ChunkNumber handed_out = 1;  // numbers below may be in ids, as the witness says
  std::uint64_t synced = 0;    // as the witness says
};

// Opens or creates the file for writing: refuses what is not as it was left (SqliteStoreOptions,
// open_sqlite_store()), before anything of it is changed. Throws StoreError.
OpenedStore open_store_file(const SqliteStoreOptions& options);

// How long the log may get before a checkpoint is made in any case.
std::uint64_t log_bytes_max(std::uint64_t max_bytes);

std::string witness_path(const std::string& store_path);

// One line if a store opened for reading lacks what its witness saw, else empty.
std::string missing_by_witness(SQLite::Database& db, const std::string& path);

}  // namespace postbag

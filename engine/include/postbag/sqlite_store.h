#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <system_error>

#include "postbag/store.h"

namespace postbag {

// Opening a store failed. code(): Errc::store_busy, store_corrupt, store_newer,
// store_cannot_create, store_permission, store_io. what() names the file, what is wrong and what
// can be done.
class StoreError : public std::runtime_error {
 public:
  StoreError(std::error_code code, const std::string& what)
      : std::runtime_error(what), code_(code) {}
  std::error_code code() const { return code_; }

 private:
  std::error_code code_;
};

struct SqliteStoreOptions {
  std::string path = {};
  std::uint64_t max_bytes = 10ull << 30;
  bool create = true;  // false: a missing file is Errc::not_found
  // Opens also where the witness beside the store (`<path>.witness`) says that accepted hooks are
  // missing; the loss is then in StoreInfo::warnings. Otherwise that is Errc::store_corrupt.
  bool accept_loss = false;
  // With so little free on the file system appends get Errc::disk_low. Nothing: 5 %, at least 256
  // MiB, at most 2 GiB or an eighth of the file system. 0: never.
  std::optional<std::uint64_t> min_free_bytes = std::nullopt;
  // A file `<path>.ballast` that is deleted when the disk is full, so that settling goes on; at
  // most a sixteenth of max_bytes. 0: none.
  std::uint64_t ballast_bytes = 16 << 20;
  // False: StoreInfo does not say what is pending, and a large store opens at once.
  bool count_pending = true;
  // False: no witness and no ballast, for a copy that is to be moved elsewhere.
  bool side_files = true;
  // False: a store of an older schema is std::errc::not_supported and stays as it is, for who only
  // looks.
  bool upgrade = true;
};

// Opens (or creates, mode 0600) the store, alone: a second opener anywhere gets Errc::store_busy at
// once. Migrates an older schema in one transaction, after a copy to `<path>.before-vN`, and says
// so in StoreInfo::warnings, like what the witness shows of a copy that was put back. After an
// unclean stop the structure of a small store is checked first. Throws StoreError, and has then
// changed nothing in the file. Defined in store/sqlite_store.cc.
std::unique_ptr<Store> open_sqlite_store(const SqliteStoreOptions& options);

// Copies a store that nobody has open, as it is: it is neither migrated nor changed. `to` must not
// exist. Throws StoreError; as the start would if accepted hooks are missing.
void backup_sqlite_store(const std::string& from, const std::string& to);

// `store check`: structure and every row, without changing anything. Returns one line per finding;
// empty = sound.
std::vector<std::string> check_sqlite_store(const std::string& path);

// `store salvage`: copies every readable row of a damaged store to a new file. Throws StoreError.
// Who puts the new file in the place of the old store removes the old one's log (`<path>-wal`); a
// start refuses a log that is not the file's own. The same holds for a backup that is put back.
// Chunks: rows of pending hooks. A lost one cannot say how many hooks it held, and a part of the
// file that cannot be read not how many rows: then so many are lost at least.
struct SalvageReport {
  std::uint64_t chunks = 0, failed = 0, lost_chunks = 0, lost_failed = 0;
  bool lost_chunks_exact = true, lost_failed_exact = true;
};
SalvageReport salvage_sqlite_store(const std::string& from, const std::string& to);

}  // namespace postbag

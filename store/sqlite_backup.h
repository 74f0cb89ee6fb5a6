#pragma once

#include <SQLiteCpp/Backup.h>
#include <SQLiteCpp/Database.h>

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <system_error>

#include "postbag/store.h"

namespace postbag {

// What a copy is called until it is whole.
std::string part_path(const std::string& path);

// A copy of an open database, in a new file of mode 0600, which has its name once it is whole and
// on disk; until then it is part_path(), so that a kill leaves nothing that looks like a store.
// What the same connection commits meanwhile goes into both. The copy begins an epoch of its own,
// so that put in the store's place it is not taken for a store that lost something. Everything but
// sync() on the thread of the connection; without a sync() that went well the file is removed in
// the end.
class DatabaseCopy final : public StoreBackup {
 public:
  // Errc::store_cannot_create also where there is a file of that name, or of its part_path().
  // Throws std::bad_alloc only.
  static std::error_code begin(SQLite::Database& from, const std::string& path,
                               std::unique_ptr<StoreBackup>& copy);
  ~DatabaseCopy() override;
  DatabaseCopy(const DatabaseCopy&) = delete;
  DatabaseCopy& operator=(const DatabaseCopy&) = delete;

  std::error_code step(bool& done) override;
  std::error_code sync() override;

 private:
  explicit DatabaseCopy(const std::string& path) : path_(path), part_(part_path(path)) {}
  std::error_code or_abandon(const std::function<std::error_code()>& work);
  void abandon();

  const std::string path_, part_;
  std::optional<SQLite::Database> copy_;
  std::optional<SQLite::Backup> backup_;
  bool is_there_ = false;  // the part
};

// All of it at once.
std::error_code copy_database(SQLite::Database& from, const std::string& path);

}  // namespace postbag

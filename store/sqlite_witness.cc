// The store's side of its witness, and whether its files are still there.
#include <sys/stat.h>

#include <cerrno>
#include <random>

#include "store/sqlite_store_impl.h"
#include "store/store_file.h"

namespace postbag {
namespace {

std::uint64_t random_epoch() {
  std::random_device random;
  return (std::uint64_t{random()} << 31 ^ random()) | 1;  // never 0, and an SQLite integer
}

}  // namespace

void SqliteStore::begin_witness(const OpenedStore& opened) {
  const bool anew = opened.needs_epoch || epoch_ == 0;
  // The old one goes first: without a witness nobody is accused.
  if (!ledger_.open_witness(witness_path(path_), anew)) {
    opened_.warnings.push_back("store " + path_ +
                               ": the witness beside it cannot be written; the loss of accepted "
                               "hooks would not be noticed at the next start");
  }
  if (!anew) return;
  epoch_ = random_epoch();
  // Numbers in ids that the witness saw are not used again, even though the hooks are gone.
  counts_.reserved_below = std::max(counts_.reserved_below, opened.handed_out);
  // A store that has the epoch has a witness, whatever is killed here, or the next start would say
  // that it is missing.
  WitnessRecord begun;
  begun.epoch = epoch_;
  begun.reserved_below = counts_.reserved_below;
  begun.store_tag = opened_.store_tag;
  ledger_.announce(begun);
  sync_folder_of(path_);
  Statement update(db_.getHandle(), "UPDATE meta SET epoch = ?1, reserved_below = ?2");
  update.bind(1, epoch_).bind(2, counts_.reserved_below).run();
  // Into the file itself: a log that is cut short later must not take the epoch with it.
  const SyncRelease release(*this);
  checkpoint();
  ledger_.begin_or_end(witness_record());
  ledger_.sync_witness();
}

WitnessRecord SqliteStore::witness_record() const {
  WitnessRecord record;
  record.epoch = epoch_;
  record.sequence = counts_.sequence;
  record.hooks = counts_.taken_hooks;
  record.first = first_appended_;
  record.last = last_appended_;
  record.reserved_below = counts_.reserved_below;
  record.store_tag = opened_.store_tag;
  return record;
}

void SqliteStore::close_witness() {
  (void)writing([&] {
    if (ledger_.unsynced() || wal_pages_ > 0) checkpoint();
    if (ledger_.unsynced() || failed_) return;
    Statement pending(db_.getHandle(), "SELECT 1 FROM chunk LIMIT 1");
    first_appended_ = last_appended_ = 0;
    WitnessRecord record = witness_record();
    record.empty = counts_.failed_hooks == 0 && !pending.step();
    ledger_.begin_or_end(record);
    ledger_.sync_witness();
  });
}

SqliteStore::FileIdentity SqliteStore::identity_of(const std::string& path) {
  struct stat status {};
  if (stat(path.c_str(), &status) != 0) return {};
  return {status.st_dev, status.st_ino};
}

// By name and never by a descriptor of our own: closing one would drop SQLite's locks.
std::error_code SqliteStore::check_place() {
  if (failed_) return Errc::store_failed;
  const auto moved = [](const std::string& path, const FileIdentity& opened) {
    errno = 0;
    const FileIdentity now = identity_of(path);
    // What cannot be asked (a directory without permission) is not known to be gone.
    if (now == FileIdentity{} && errno != ENOENT && errno != ENOTDIR) return false;
    return now != opened;
  };
  if (moved(path_, file_) || (log_ != FileIdentity{} && moved(log_path_, log_))) {
    fail_for_good(path_, "it or its log was deleted, moved or replaced while in use", 0);
    return Errc::store_failed;
  }
  return {};
}

}  // namespace postbag

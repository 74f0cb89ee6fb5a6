#pragma once

#include <SQLiteCpp/Database.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include "postbag/error.h"
#include "postbag/sqlite_store.h"
#include "postbag/store.h"
#include "store/copied_frames.h"
#include "store/disk_room.h"
#include "store/early_writeback.h"
#include "store/failed_match.h"
#include "store/sqlite_open.h"
#include "store/sqlite_statements.h"
#include "store/sync_ledger.h"

namespace postbag {

// All ids that a database remembers, expired ones too, in groups, oldest first. Throws
// SQLite::Exception.
void load_remembered_ids(sqlite3* db,
                         const std::function<void(const std::vector<RememberedId>&)>& each_group);

// The store in one SQLite file. One connection that holds the file's exclusive lock from open to
// close.
//
// Checkpoints are made here and not by SQLite: in maintain() at a quiet moment, under load before a
// group is committed, and ahead of them parts of the log are copied. Rows are settled before others
// are appended, so that a group reuses the pages it frees.
class SqliteStore final : public Store {
 public:
  // Opens; throws StoreError.
  explicit SqliteStore(const SqliteStoreOptions& options);
  ~SqliteStore() override;

  StoreInfo info() const override;
  std::error_code commit(const StoreGroup& group, CommitLevel level) override;
  bool syncs_later() const override { return log_file_ != nullptr; }
  std::error_code sync() override;
  std::error_code scan_pending(ChunkNumber after, std::size_t max,
                               std::vector<PendingChunk>& out) override;
  std::error_code read_chunks(std::span<const ChunkNumber> chunks,
                              std::vector<std::string>& blobs) override;
  std::optional<BatchNumber> find_chunk(ChunkNumber chunk) override;
  std::error_code list_failed(const FailedFilter& filter, std::optional<FailedKey> after,
                              const SliceLimits& limits, FailedPage& page) override;
  std::optional<FailedHook> find_failed(FailedKey key) override;
  std::error_code purge_failed(const FailedFilter& filter, std::optional<FailedKey> after,
                               const SliceLimits& limits, std::span<const FailedKey> except,
                               std::uint64_t& purged, std::optional<FailedKey>& next) override;
  std::error_code load_ids(WallMs now_ms,
                           const std::function<void(const RememberedId&)>& each) override;
  std::error_code forget_ids(WallMs now_ms) override;
  StoreStats stats() override;
  std::error_code check_place() override;
  bool has_room() override;
  std::string why_no_room() override;
  std::string failure() const override;
  bool maintain() override;
  std::error_code begin_backup(const std::string& path,
                               std::unique_ptr<StoreBackup>& backup) override;

  // Salvage: the copy keeps the tag, which is part of every id. Throws SQLite::Exception.
  void set_tag(std::uint16_t tag);

 private:
  // What a transaction changes outside the tables; taken back with it.
  struct Counts {
    ChunkNumber reserved_below = 1;
    std::uint64_t failed_hooks = 0, failed_bytes = 0;
    std::uint64_t sequence = 0;     // commits that took hooks or failures
    std::uint64_t taken_hooks = 0;  // appended
    ChunkNumber last_number = 0;    // highest ever appended
    std::uint64_t retries = 0;      // rows in retry
    std::uint64_t remembered = 0;   // ids
    bool operator==(const Counts&) const = default;
  };

  struct FileIdentity {
    std::uint64_t device = 0, inode = 0;  // 0: there was none
    bool operator==(const FileIdentity&) const = default;
  };
  static FileIdentity identity_of(const std::string& path);

  // hold_syncs(): each of the two threads, while it syncs the log and until it has noted an error:
  // the kernel tells of one only once. SQLite syncs it in commits with `sync`, and before the first
  // frame of a log that begins anew. What was held is let go at the end of this.
  class SyncRelease {
   public:
    explicit SyncRelease(SqliteStore& store) : store_(store) {}
    ~SyncRelease() {
      if (store_.hold_.owns_lock()) store_.hold_.unlock();
    }
    SyncRelease(const SyncRelease&) = delete;
    SyncRelease& operator=(const SyncRelease&) = delete;

   private:
    SqliteStore& store_;
  };
  void hold_syncs() {
    if (!hold_.owns_lock()) hold_.lock();
  }

  // BEGIN IMMEDIATE to COMMIT; without the latter everything is taken back.
  class Transaction {
   public:
    Transaction(SqliteStore& store, CommitLevel level);
    ~Transaction();
    Transaction(const Transaction&) = delete;
    Transaction& operator=(const Transaction&) = delete;
    void commit();

   private:
    SqliteStore& store_;
    CommitLevel level_;
    std::int64_t changes_before_ = 0;
    bool done_ = false;
  };

  class PurgeRuns;

  // Runs `work`, which may throw SQLite::Exception, outside or inside a transaction.
  template <typename Work>
  std::error_code reading(Work work);
  template <typename Work>
  std::error_code writing(Work work);
  std::error_code write_error(const SQLite::Exception& error);
  bool no_room(int code);
  // What refused a commit last: max_bytes, the mark below which intake stops, or the file system.
  enum class Refusal : std::uint8_t { none, max_bytes, low_water, file_system };
  // The end of it; failure() says the first. `system`: an errno, 0: none. Either thread.
  void fail_for_good(const std::string& file, const char* what, int system) noexcept;
  // By SQLite's extended code, on the database file or its log as `which` says
  // (SQLITE_FCNTL_FILE_POINTER, SQLITE_FCNTL_JOURNAL_POINTER), unless the system's error is on the
  // other. `otherwise`: for codes of no operation on a file. The thread that commits.
  void fail_for_good(int code, int which, const char* otherwise) noexcept;
  // The log could not be synced. Either thread.
  void fail_sync() noexcept;

  SqliteStore(const SqliteStoreOptions& options, OpenedStore opened);
  // Sets `room` to false if max_bytes or the file system's reserve refused it.
  std::error_code try_commit(const StoreGroup& group, CommitLevel level, bool& room);

  // The witness. At open, for a commit, at close.
  void begin_witness(const OpenedStore& opened);
  WitnessRecord witness_record() const;
  void close_witness();

  void load_counts();
  void find_log();
  void count_pending();
  enum class Synchronous : std::uint8_t { unknown, off, normal, full };
  void set_synchronous(Synchronous wanted);
  void set_level(CommitLevel level);
  void apply(const StoreGroup& group);
  void settle(const std::vector<ChunkNumber>& chunks);
  void append(const ChunkAppend& chunk);
  void set_attempts(const AttemptsUpdate& update);
  void reserve(ChunkNumber below);

  void fail(const FailBatch& batch);
  void insert_failed(const FailBatch& batch, std::string_view reason, BatchNumber response,
                     const FailedHookView& hook);
  void delete_failed(const std::vector<FailedKey>& keys);
  void purge(const PurgeRuns& runs, bool is_last);
  void drop_response(BatchNumber batch, std::uint64_t hooks);
  std::uint64_t response_bytes(BatchNumber batch);
  // One slice of the failed rows behind `after`: calls each(row, matches), which returns the bytes
  // that its answer takes (0: the row is left out). Returns the key of the last row that was looked
  // at, or nothing at the end. Throws SQLite::Exception, also where the order of rows is damaged.
  template <typename Each>
  std::optional<FailedKey> scan_failed(const FailedFilter& filter, std::optional<FailedKey> after,
                                       const SliceLimits& limits, Each each);
  FailedHook failed_row(Statement& row, bool bodies);
  void read_body(FailedHook& hook);

  void remember(const std::vector<RememberedId>& ids);
  void forget(const std::vector<std::array<std::uint64_t, 2>>& ids);
  void forget_oldest_beyond_limit();

  std::uint64_t page_count();
  std::uint64_t free_pages();
  std::uint64_t used_bytes();
  std::uint64_t log_bytes(std::uint64_t frames) const;
  std::uint64_t wal_bytes() const { return log_bytes(wal_pages_); }
  bool has_room(const StoreGroup& group);
  // Before a group and not behind it: it would wait for one sync more.
  void shorten_log();
  bool checkpoint();
  void copy_ahead(std::uint64_t frames);
  bool copy_log();
  bool copied_all(int code, int in_log, int done);
  bool sync_file();
  void pause_since(std::chrono::steady_clock::time_point begin);
  bool may_copy() const;
  bool wants_checkpoint() const;
  bool wants_vacuum();

  const std::string path_, log_path_;
  const std::uint64_t max_bytes_;
  std::uint64_t page_bytes_ = 0;
  const bool side_files_;
  std::optional<CopiedFrames> copied_;  // until the files are closed; empty: only all at once
  SQLite::Database db_;
  SqliteStatements sql_;
  StoreInfo opened_;
  Counts counts_;                     // committed
  Counts work_;                       // in the running transaction
  std::atomic<bool> failed_ = false;  // for good
  mutable std::mutex failure_mutex_;
  std::string failure_;                          // of failure(); under its mutex
  bool appended_ = false;                        // since the last maintain()
  bool vacuumed_ = false;                        // since the last checkpoint
  bool log_stays_ = false;                       // the last checkpoint did not succeed
  bool committed_ = false;                       // since the last maintain()
  Synchronous synchronous_ = Synchronous::full;  // as it is set
  std::uint64_t wal_pages_ = 0;                  // in the log and not in the file yet
  std::uint64_t ahead_ = 0;     // frames of the log that passes ahead have been over
  bool last_is_ahead_ = false;  // the last such pass before a checkpoint is made
  bool sync_follows_ = false;   // what was appended last is synced soon, without us
  std::chrono::steady_clock::time_point next_checkpoint_{};  // not before, if it can wait
  // Of what the running transaction appends; 0: nothing.
  ChunkNumber first_appended_ = 0, last_appended_ = 0;
  std::uint64_t epoch_ = 0;
  FileIdentity file_, log_;
  sqlite3_file* log_file_ = nullptr;  // SQLite's; for sync()
  std::mutex sync_mutex_;
  std::unique_lock<std::mutex> hold_{sync_mutex_, std::defer_lock};  // the committing thread's
  SyncLedger ledger_;
  EarlyWriteback writeback_;
  DiskRoom disk_room_;
  Refusal refused_by_ = Refusal::none;
  int refusal_errno_ = 0;  // of a write that the file system refused; 0: the disk is full
  std::string blob_;       // recycled
  std::vector<ChunkNumber> settled_;  // recycled
};

template <typename Work>
std::error_code SqliteStore::reading(Work work) {
  if (failed_) return Errc::store_failed;
  try {
    work();
    return {};
  } catch (const SQLite::Exception& error) {
    const int code = error.getErrorCode() & 0xff;
    if (code == SQLITE_NOMEM) throw std::bad_alloc();
    return code == SQLITE_CORRUPT || code == SQLITE_NOTADB ? Errc::store_corrupt : Errc::store_io;
  }
}

template <typename Work>
std::error_code SqliteStore::writing(Work work) {
  if (failed_) return Errc::store_failed;
  const SyncRelease release(*this);
  try {
    work();
    return failed_ ? make_error_code(Errc::store_failed) : std::error_code();
  } catch (const SQLite::Exception& error) {
    return write_error(error);
  }
}

}  // namespace postbag

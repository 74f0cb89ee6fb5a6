#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <new>
#include <string>
#include <utility>
#include <vector>

#include "postbag/error.h"
#include "postbag/store.h"

namespace postbag::test {

// What a FailingStore does with commits, told by the test while an engine uses it. Thread-safe.
class StoreControl {
 public:
  // Groups that append hooks, or all groups, end with this error; Errc::ok ends it.
  void refuse_appends(Errc error) {
    const std::lock_guard lock(mutex_);
    appends_ = error;
  }
  bool has_room() const {
    const std::lock_guard lock(mutex_);
    return appends_ != Errc::disk_low;
  }
  void refuse_all(Errc error) {
    const std::lock_guard lock(mutex_);
    all_ = error;
  }
  // Groups that have failed rows to write find no room.
  void refuse_fails(bool refuse) {
    const std::lock_guard lock(mutex_);
    refuses_fails_ = refuse;
  }
  // The engine that starts next cannot read the remembered ids.
  void fail_load_ids() { load_ids_fails_ = true; }
  bool load_ids_fails() const { return load_ids_fails_; }
  // From now on commits find no memory, or do again.
  void run_out_of_memory(bool out) {
    const std::lock_guard lock(mutex_);
    out_of_memory_ = out;
  }
  // Groups that append hooks wait in commit() until release().
  void hold() {
    const std::lock_guard lock(mutex_);
    holds_ = true;
  }
  void release() {
    const std::lock_guard lock(mutex_);
    holds_ = false;
    changed_.notify_all();
  }
  // Pending chunks behind this one cannot be read.
  void fail_scan(ChunkNumber after) {
    const std::lock_guard lock(mutex_);
    scan_fails_after_ = after;
  }
  ChunkNumber scan_fails_after() const {
    const std::lock_guard lock(mutex_);
    return scan_fails_after_;
  }
  // The next list_failed() reads rows and fails all the same; once.
  void fail_list() { list_fails_ = true; }
  bool take_list_failure() { return list_fails_.exchange(false); }
  bool holds() const {
    const std::lock_guard lock(mutex_);
    return holds_;
  }
  // Backups make no progress until release_backup().
  void hold_backup() {
    const std::lock_guard lock(mutex_);
    holds_backup_ = true;
  }
  void release_backup() {
    const std::lock_guard lock(mutex_);
    holds_backup_ = false;
  }
  // The backup's side.
  bool backup_is_held() {
    const std::lock_guard lock(mutex_);
    backup_steps_ += 1;
    changed_.notify_all();
    return holds_backup_;
  }
  // Until one has begun. False: not in 20 s.
  bool wait_backup_step() {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, std::chrono::seconds(20), [&] { return backup_steps_ > 0; });
  }
  // Before the engine starts: groups are synced after their commit, by Store::sync().
  void sync_later() { syncs_later_ = true; }
  bool syncs_later() const { return syncs_later_; }
  // sync() waits until release_syncs(), or ends with this error.
  void hold_syncs() {
    const std::lock_guard lock(mutex_);
    holds_syncs_ = true;
  }
  void release_syncs() {
    const std::lock_guard lock(mutex_);
    holds_syncs_ = false;
    changed_.notify_all();
  }
  bool holds_syncs() const {
    const std::lock_guard lock(mutex_);
    return holds_syncs_;
  }
  void refuse_syncs(Errc error) {
    const std::lock_guard lock(mutex_);
    syncs_ = error;
  }
  // Until a sync() waits for release_syncs(). False: none came in 20 s.
  bool wait_sync_held() {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, std::chrono::seconds(20), [&] { return syncs_held_ > 0; });
  }
  // Until so many commits have begun that append hooks. False: not in 20 s.
  bool wait_appends(std::ptrdiff_t count) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, std::chrono::seconds(20), [&] {
      return std::count_if(commits_.begin(), commits_.end(),
                           [](const Commit& commit) { return commit.appended > 0; }) >= count;
    });
  }
  // Until a commit waits for release(). False: none came in 20 s.
  bool wait_held() {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, std::chrono::seconds(20), [&] { return held_ > 0; });
  }
  // Chunks that were delivered and left the store.
  std::size_t settled() const { return settled_; }
  void note_settled(std::size_t chunks) { settled_ += chunks; }
  std::size_t refused() const {
    const std::lock_guard lock(mutex_);
    return refused_;
  }

  // Of every commit that was begun.
  struct Commit {
    std::size_t appended = 0;  // chunks
    bool sync = false;
  };
  std::vector<Commit> commits() const {
    const std::lock_guard lock(mutex_);
    return commits_;
  }
  // Until a commit with a sync has begun, not counting the first `before` commits. False: none in
  // 20 s.
  bool wait_sync(std::size_t before) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, std::chrono::seconds(20), [&] {
      return std::any_of(commits_.begin() + static_cast<std::ptrdiff_t>(before), commits_.end(),
                         [](const Commit& commit) { return commit.sync; });
    });
  }

  // What the store says of an error for good.
  static std::string failure() { return "a.db: write: a test says so (7)"; }

  // The store's side.
  std::error_code enter(std::size_t appended, bool sync, bool fails) {
    std::unique_lock lock(mutex_);
    const bool has_appends = appended > 0;
    commits_.push_back({appended, sync});
    changed_.notify_all();
    if (has_appends && holds_) {
      held_ += 1;
      changed_.notify_all();
      changed_.wait(lock, [&] { return !holds_; });
      held_ -= 1;
    }
    if (out_of_memory_) {
      refused_ += 1;
      throw std::bad_alloc();
    }
    Errc error = all_ != Errc::ok || !has_appends ? all_ : appends_;
    if (fails && refuses_fails_ && error == Errc::ok) error = Errc::disk_low;
    refused_ += error != Errc::ok;
    return error == Errc::ok ? std::error_code() : make_error_code(error);
  }
  std::error_code enter_sync() {
    std::unique_lock lock(mutex_);
    syncs_held_ += 1;
    changed_.notify_all();
    changed_.wait(lock, [&] { return !holds_syncs_; });
    syncs_held_ -= 1;
    return syncs_ == Errc::ok ? std::error_code() : make_error_code(syncs_);
  }

 private:
  mutable std::mutex mutex_;
  std::atomic<std::size_t> settled_ = 0;
  std::atomic<bool> list_fails_{false};
  ChunkNumber scan_fails_after_ = ~ChunkNumber{0};
  std::condition_variable changed_;
  Errc appends_ = Errc::ok, all_ = Errc::ok;
  std::atomic<bool> load_ids_fails_{false};
  bool holds_ = false, out_of_memory_ = false, refuses_fails_ = false;
  bool syncs_later_ = false, holds_syncs_ = false;
  Errc syncs_ = Errc::ok;
  bool holds_backup_ = false;
  std::size_t held_ = 0, refused_ = 0, syncs_held_ = 0, backup_steps_ = 0;
  std::vector<Commit> commits_;
};

// A copy that is held up between two of its slices.
class HeldBackup : public StoreBackup {
 public:
  HeldBackup(std::unique_ptr<StoreBackup> backup, std::shared_ptr<StoreControl> control)
      : backup_(std::move(backup)), control_(std::move(control)) {}

  std::error_code step(bool& done) override {
    return control_->backup_is_held() ? std::error_code() : backup_->step(done);
  }
  std::error_code sync() override { return backup_->sync(); }

 private:
  std::unique_ptr<StoreBackup> backup_;
  std::shared_ptr<StoreControl> control_;
};

// Another store with commits that fail or wait on request. The other one is shared, so that a test
// can look into it, or give it to a second engine, when the first is gone.
class FailingStore : public Store {
 public:
  explicit FailingStore(std::shared_ptr<Store> store, std::shared_ptr<StoreControl> control = {})
      : store_(std::move(store)),
        control_(control ? std::move(control) : std::make_shared<StoreControl>()) {}

  StoreInfo info() const override { return store_->info(); }
  std::error_code commit(const StoreGroup& group, CommitLevel level) override {
    if (const std::error_code error = control_->enter(
            group.append.size(), level != CommitLevel::no_sync, !group.fail.empty()))
      return error;
    const std::error_code error = store_->commit(group, level);
    if (!error) control_->note_settled(group.settle.size());
    return error;
  }
  bool syncs_later() const override { return control_->syncs_later(); }
  std::error_code sync() override {
    const std::error_code error = control_->enter_sync();
    return error ? error : store_->sync();
  }
  std::error_code scan_pending(ChunkNumber after, std::size_t max,
                               std::vector<PendingChunk>& out) override {
    if (after >= control_->scan_fails_after()) return Errc::store_failed;
    return store_->scan_pending(after, max, out);
  }
  std::error_code read_chunks(std::span<const ChunkNumber> chunks,
                              std::vector<std::string>& blobs) override {
    return store_->read_chunks(chunks, blobs);
  }
  std::optional<BatchNumber> find_chunk(ChunkNumber chunk) override {
    return store_->find_chunk(chunk);
  }
  std::error_code list_failed(const FailedFilter& filter, std::optional<FailedKey> after,
                              const SliceLimits& limits, FailedPage& page) override {
    const std::error_code error = store_->list_failed(filter, after, limits, page);
    return control_->take_list_failure() ? make_error_code(Errc::store_io) : error;
  }
  std::optional<FailedHook> find_failed(FailedKey key) override { return store_->find_failed(key); }
  std::error_code purge_failed(const FailedFilter& filter, std::optional<FailedKey> after,
                               const SliceLimits& limits, std::span<const FailedKey> except,
                               std::uint64_t& purged, std::optional<FailedKey>& next) override {
    return store_->purge_failed(filter, after, limits, except, purged, next);
  }
  std::error_code load_ids(WallMs now_ms,
                           const std::function<void(const RememberedId&)>& each) override {
    if (control_->load_ids_fails()) return Errc::store_io;
    return store_->load_ids(now_ms, each);
  }
  std::error_code forget_ids(WallMs now_ms) override { return store_->forget_ids(now_ms); }
  StoreStats stats() override { return store_->stats(); }
  std::error_code check_place() override { return store_->check_place(); }
  bool has_room() override { return control_->has_room(); }
  std::string why_no_room() override { return "a limit of the test: 9 of 10"; }
  std::string failure() const override { return StoreControl::failure(); }
  bool maintain() override { return store_->maintain(); }
  std::error_code begin_backup(const std::string& path,
                               std::unique_ptr<StoreBackup>& backup) override {
    const std::error_code error = store_->begin_backup(path, backup);
    if (!error) backup = std::make_unique<HeldBackup>(std::move(backup), control_);
    return error;
  }

 private:
  std::shared_ptr<Store> store_;
  std::shared_ptr<StoreControl> control_;
};

}  // namespace postbag::test

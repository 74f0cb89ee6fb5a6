#include "tests/crash/io_bench.h"

#include <algorithm>
#include <filesystem>
#include <new>

#include "postbag/error.h"
#include "tests/crash/fault_vfs.h"
#include "tests/support/temp_directory.h"

namespace postbag::test {
namespace {

class Around {
 public:
  explicit Around(AroundCalls* calls) : calls_(calls) {
    if (calls_ != nullptr) calls_->begin();
  }
  ~Around() {
    if (calls_ != nullptr) calls_->end();
  }
  Around(const Around&) = delete;
  Around& operator=(const Around&) = delete;

 private:
  AroundCalls* const calls_;
};

}  // namespace

SqliteStoreOptions small_store(const std::string& path) {
  SqliteStoreOptions options;
  options.path = path;
  options.max_bytes = 4 << 20;
  options.min_free_bytes = 0;
  options.ballast_bytes = 0;
  return options;
}

IoBench::IoBench(const std::string& folder, const StoreModel& model, AroundCalls* around)
    : folder_(folder),
      path_(folder + "/store.db"),
      around_(around),
      log_(path_ + ".witness"),
      model_(model) {
  log_.adopt(folder_);
  FaultVfs::record(&log_);
  keep_digest(true);
}

IoBench::~IoBench() {
  FaultVfs::record(nullptr);
}

void IoBench::keep_digest(bool synced) {
  maybe_.clear();
  if (synced) synced_ = history_.size();
  history_.push_back(model_.digest());
}

bool IoBench::open() {
  const SqliteStoreOptions options = small_store(path_);
  try {
    const Around around(around_);
    store_ = open_sqlite_store(options);
    return true;
  } catch (const std::bad_alloc&) {
    (void)out_of_memory();
    return false;
  } catch (const StoreError& error) {
    if (error.code() != Errc::store_io && error.code() != Errc::store_cannot_create &&
        error.code() != Errc::store_permission) {
      found("open: " + error.code().message() + ": " + error.what());
    }
    return false;
  }
}

void IoBench::close() {
  const Around around(around_);
  store_.reset();
}

std::error_code IoBench::out_of_memory() {
  was_short_of_memory_ = true;
  return std::make_error_code(std::errc::not_enough_memory);
}

std::error_code IoBench::call(const std::function<std::error_code(Store& store)>& work) {
  return apart([&] { return work(*store_); });
}

std::error_code IoBench::apart(const std::function<std::error_code()>& work) {
  try {
    const Around around(around_);
    return work();
  } catch (const std::bad_alloc&) {
    return out_of_memory();
  }
}

bool IoBench::changed(std::error_code error, bool synced,
                      const std::function<void(StoreModel&)>& change) {
  if (!error) {
    if (failed_) found("taken by a store that had failed for good");
    change(model_);
    keep_digest(synced);
    return true;
  }
  if (!failed_) {
    // Refused for good it may come back after a restart. Refused because the disk is full, too, if
    // the write that failed got as far as to complete what is in the log; the next one undoes it,
    // unless it fails before it changed a byte.
    StoreModel with = model_;
    change(with);
    maybe_.push_back(with.digest());
  }
  if (error == Errc::store_failed) {
    failed_ = true;
    if (store_ != nullptr) failure_ = store_->failure();
    return false;
  }
  if (error == std::errc::not_enough_memory) return false;
  if (error != Errc::disk_low) found("a change was answered " + error.message());
  if (failed_) found("a store that failed for good answered " + error.message());
  was_low_ = true;
  return false;
}

bool IoBench::commit(CommitLevel level) {
  const StoreGroup& group = maker_.group();
  return changed(call([&](Store& store) { return store.commit(group, level); }),
                 level == CommitLevel::sync, [&](StoreModel& model) { model.apply(group); });
}

bool IoBench::sync() {
  const std::error_code error = call([](Store& store) { return store.sync(); });
  if (!error) {
    if (failed_) found("synced by a store that had failed for good");
    synced_ = history_.size() - 1;
    return true;
  }
  if (error == std::errc::not_enough_memory) return false;
  if (error != Errc::store_failed) found("a sync was answered " + error.message());
  failure_ = store_->failure();
  failed_ = true;
  return false;
}

bool IoBench::read(const std::function<std::error_code(Store& store)>& work) {
  const std::error_code error = call(work);
  if (error == Errc::store_failed) {
    failed_ = true;
  } else if (error && error != Errc::store_io && error != std::errc::not_enough_memory) {
    found("a read was answered " + error.message());
  }
  return !error;
}

void IoBench::probe() {
  if (store_ == nullptr) return;
  const bool was_failed = failed_;
  maker_.begin();
  maker_.append(model_);
  const bool taken = commit(CommitLevel::sync);
  if (taken && was_failed) found("failed for good, and yet it works");
  // A store may have noticed by itself, without a change that could say so.
  if (!taken && !failed_) found("does not work again although the disk does");
}

void IoBench::check_store(const std::string& path, const std::string& when, bool lost_power) {
  try {
    const auto store = open_sqlite_store(small_store(path));
    std::string problem;
    const auto digest = digest_of(*store, problem);
    if (!digest) return found(when + problem);
    const std::size_t first = lost_power ? synced_ : history_.size() - 1;
    std::size_t step = history_.size();
    while (step > 0 && history_[step - 1] != *digest) --step;
    if (step <= first && std::count(maybe_.begin(), maybe_.end(), *digest) == 0) {
      found(when +
            (step == 0 ? "holds what was never acknowledged"
                       : "holds step " + std::to_string(step - 1) + " of " + std::to_string(first) +
                             " to " + std::to_string(history_.size() - 1)));
    }
  } catch (const StoreError& error) {
    return found(when + error.what());
  }
  for (const std::string& finding : check_sqlite_store(path)) found(when + finding);
}

void IoBench::check_kill() {
  FaultVfs::record(nullptr);
  const TempDirectory copy;
  std::filesystem::copy(folder_, copy.path(), std::filesystem::copy_options::recursive);
  check_store(copy.file("store.db"), "after a kill: ", false);
  FaultVfs::record(&log_);
}

void IoBench::check_power_loss(std::uint64_t seed) {
  FaultVfs::record(nullptr);
  const TempDirectory image;
  const std::string way = log_.make_image(log_.now(), seed, image.path());
  check_store(image.file("store.db"), "after a power loss (" + way + "): ", true);
  FaultVfs::record(&log_);
}

void IoBench::check_end() {
  FaultVfs::record(nullptr);
  check_store(path_, "after its end: ", false);
}

}  // namespace postbag::test

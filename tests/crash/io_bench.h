#pragma once

#include <functional>
#include <memory>
#include <string>
#include <system_error>
#include <vector>

#include "postbag/sqlite_store.h"
#include "tests/crash/disk_log.h"
#include "tests/crash/store_model.h"

namespace postbag::test {

// Small, so that the log is copied back soon and pages are given back; the disk's real free space
// plays no part.
SqliteStoreOptions small_store(const std::string& path);

// What else happens around every call of the store, and around nothing else.
class AroundCalls {
 public:
  virtual ~AroundCalls() = default;
  virtual void begin() = 0;
  virtual void end() = 0;
};

// A store that meets faults, and what it may hold: everything that was acknowledged, and of one
// group that was refused since then all or nothing. Finds fault with every answer that is not
// documented (problems(), in words).
class IoBench {
 public:
  // The folder holds the store `store.db`, or nothing; `model` is what is in it.
  IoBench(const std::string& folder, const StoreModel& model, AroundCalls* around = nullptr);
  ~IoBench();
  IoBench(const IoBench&) = delete;
  IoBench& operator=(const IoBench&) = delete;

  const std::string& path() const { return path_; }
  std::string file(const std::string& name) const { return folder_ + "/" + name; }

  // False: a StoreError, its code must be of those that a disk can cause; or std::bad_alloc.
  bool open();
  void close();
  // Anything else that is done to the store, or to a file of one. std::bad_alloc is answered as
  // not_enough_memory.
  std::error_code call(const std::function<std::error_code(Store& store)>& work);
  std::error_code apart(const std::function<std::error_code()>& work);
  const StoreModel& model() const { return model_; }
  GroupMaker& maker() { return maker_; }

  // What the answer to a change means. True: it is done.
  bool changed(std::error_code error, bool synced, const std::function<void(StoreModel&)>& change);
  // Commits what the maker has.
  bool commit(CommitLevel level);
  // What was committed is on disk, if true.
  bool sync();
  // A call that only reads. True: it has an answer.
  bool read(const std::function<std::error_code(Store& store)>& work);

  void found(const std::string& problem) { problems_.push_back(problem); }
  const std::vector<std::string>& problems() const { return problems_; }
  bool failed() const { return failed_; }  // store_failed was answered
  // What it said then; "-": it was not open.
  const std::string& failure() const { return failure_; }
  bool was_low() const { return was_low_; }  // disk_low was
  bool was_short_of_memory() const { return was_short_of_memory_; }

  // After the fault is gone: a store that failed stays failed, another takes hooks again.
  void probe();
  // What a kill now, a power loss now and an orderly end leave is sound and holds what it must.
  void check_kill();
  void check_power_loss(std::uint64_t seed);
  void check_end();

 private:
  void check_store(const std::string& path, const std::string& when, bool lost_power);
  void keep_digest(bool synced);
  std::error_code out_of_memory();

  const std::string folder_, path_;
  AroundCalls* const around_;
  DiskLog log_;
  std::unique_ptr<Store> store_;
  StoreModel model_;
  GroupMaker maker_{11};
  std::vector<std::uint64_t> history_;  // digests of what was acknowledged, step by step
  std::size_t synced_ = 0;              // in it: what no power loss can take
  std::vector<std::uint64_t> maybe_;    // if a group refused since the last success is there
  bool failed_ = false, was_low_ = false, was_short_of_memory_ = false;
  std::string failure_ = "-";
  std::vector<std::string> problems_;
};

}  // namespace postbag::test

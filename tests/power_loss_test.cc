// Power loss: a store is worked on while every write and sync is recorded; then the files are made
// again as a power loss at any moment could have left them, and opened.
// POSTBAG_IMAGES: how many images (default 500). POSTBAG_SEED: of the first workload.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <string>

#include "postbag/error.h"
#include "postbag/sqlite_store.h"
#include "store/sqlite_open.h"
#include "tests/crash/fault_vfs.h"
#include "tests/crash/hook_names.h"
#include "tests/crash/store_model.h"
#include "tests/support/temp_directory.h"

namespace postbag::test {
namespace {

constexpr std::uint64_t steps_a_workload = 120;
constexpr std::uint64_t images_a_workload = 100;

std::uint64_t number_of_environment(const char* name, std::uint64_t otherwise) {
  const char* text = std::getenv(name);
  return text == nullptr ? otherwise : std::strtoull(text, nullptr, 10);
}

// Small, so that the log is copied back every few groups and pages are given back.
constexpr std::uint64_t max_bytes_min = 4 << 20;

SqliteStoreOptions options_of(const std::string& path, std::uint64_t max_bytes = max_bytes_min) {
  SqliteStoreOptions options;
  options.path = path;
  options.max_bytes = max_bytes;
  options.min_free_bytes = 0;
  options.ballast_bytes = 0;
  return options;
}

// A store at work, with what it should hold after each step.
class Workload {
 public:
  struct Step {
    std::size_t begin = 0, end = 0;  // moments of the log
    bool synced = false;             // when it returned it was promised to be on disk
    std::uint64_t digest = 0;
    ChunkNumber next_number = 1;
  };

  // `os`: as the store thread with durability "os", a sync now and then; else as with "fsync".
  Workload(std::uint64_t seed, bool os, const std::string& path)
      : path_(path),
        os_(os),
        max_bytes_(seed % 2 == 0 ? max_bytes_min : 4 * max_bytes_min),
        log_(path + ".witness"),
        maker_(seed) {
    FaultVfs::record(&log_);
    note(0, true);
    run();
    FaultVfs::record(nullptr);
    end_ = log_.now();
  }
  ~Workload() {
    FaultVfs::on_sync({});
    FaultVfs::record(nullptr);
  }

  const DiskLog& log() const { return log_; }
  const std::vector<Step>& steps() const { return steps_; }
  std::size_t end() const { return end_; }
  // Right behind writes to the database: what is in it and not on disk yet is lost in part.
  const std::vector<std::size_t>& moments_of_copying() const {
    return log_.moments_of_writes(path_);
  }

 private:
  void note(std::size_t begin, bool synced) {
    steps_.push_back({begin, log_.now(), synced, model_.digest(), model_.next_number()});
  }

  void run() {
    auto store = open_sqlite_store(options_of(path_, max_bytes_));
    for (std::uint64_t i = 0; i < steps_a_workload; ++i) {
      const std::size_t begin = log_.now();
      switch (maker_.random(24)) {
        case 0:
          purge(*store, begin);
          break;
        case 1:
        case 2:
        case 3:
          while (store->maintain()) {
          }
          break;
        case 4:
          if (maker_.random(4) > 0) break;
          // Without an end that writes anything: a kill. Or with one.
          store.reset();
          note(begin, true);
          store = open_sqlite_store(options_of(path_, max_bytes_));
          break;
        default:
          commit(*store, begin);
          break;
      }
      ASSERT_FALSE(::testing::Test::HasFatalFailure());
    }
    std::string problem;
    ASSERT_EQ(digest_of(*store, problem), model_.digest()) << problem;
    if (maker_.random(2) == 0) return;
    const std::size_t begin = log_.now();
    store.reset();
    note(begin, true);
  }

  void commit(Store& store, std::size_t begin) {
    bool wants_sync = false;
    const StoreGroup* made = &maker_.make(model_, wants_sync);
    if (os_) wants_sync = maker_.random(8) == 0;
    // How "os" gets its last second on disk when nothing new comes.
    if (os_ && wants_sync && maker_.random(2) == 0) made = &maker_.begin();
    const StoreGroup& group = *made;
    // As the store thread does: what is committed is promised when a later sync ends.
    const bool later = wants_sync && maker_.random(2) == 0;
    const CommitLevel level = later        ? CommitLevel::sync_later
                              : wants_sync ? CommitLevel::sync
                                           : CommitLevel::no_sync;
    const std::error_code error = store.commit(group, level);
    ASSERT_FALSE(error) << error.message();
    model_.apply(group);
    note(begin, wants_sync && !later);
    if (!store.syncs_later()) FAIL() << "there is nothing to sync";
    if (later && maker_.random(2) == 0) return;
    if (!later && maker_.random(8) > 0) return;
    sync(store);
  }

  // As the two threads do it: the next group is committed while the one before is synced, and what
  // that promises is what was committed when it began.
  void sync(Store& store) {
    const std::size_t step = steps_.size();
    note(log_.now(), true);
    FaultVfs::on_sync([&, has_committed = false](const std::string& path) mutable {
      // Not where the group would have to wait for the sync: there is one thread here.
      const bool is_log_short = log_.end_of_last_write(path) < log_bytes_max(max_bytes_) / 2;
      if (path != path_ + "-wal" || !is_log_short || has_committed) return false;
      has_committed = true;
      commit_meanwhile(store);
      return false;
    });
    ASSERT_FALSE(store.sync());
    FaultVfs::on_sync({});
    steps_[step].end = log_.now();
  }

  void commit_meanwhile(Store& store) {
    const std::size_t begin = log_.now();
    bool wants_sync = false;
    const StoreGroup& group = maker_.make(model_, wants_sync);
    const bool later = wants_sync && !os_;
    ASSERT_FALSE(store.commit(group, later ? CommitLevel::sync_later : CommitLevel::no_sync));
    model_.apply(group);
    note(begin, false);
  }

  void purge(Store& store, std::size_t begin) {
    if (model_.failed().empty()) return;
    FailedFilter filter;
    filter.ids = {model_.failed().begin()->second.id, model_.failed().rbegin()->second.id};
    std::uint64_t purged = 0;
    std::optional<FailedKey> next;
    ASSERT_FALSE(store.purge_failed(filter, std::nullopt, {}, {}, purged, next));
    if (next) return;  // a slow moment; what was deleted is not known
    model_.purge({model_.failed().begin()->first, model_.failed().rbegin()->first});
    note(begin, true);
  }

  const std::string path_;
  const bool os_;
  const std::uint64_t max_bytes_;
  DiskLog log_;
  StoreModel model_;
  GroupMaker maker_;
  std::vector<Step> steps_;
  std::size_t end_ = 0;
};

// The steps that a power loss at `moment` may leave: not before the last that was promised, not
// after the last that had begun.
struct Window {
  std::size_t first = 0, last = 0;
};
Window window_at(const std::vector<Workload::Step>& steps, std::size_t moment) {
  Window window;
  for (std::size_t i = 0; i < steps.size(); ++i) {
    if (steps[i].synced && steps[i].end <= moment) window.first = i;
    if (steps[i].begin < moment) window.last = i;
  }
  window.last = std::max(window.first, window.last);
  return window;
}

struct Found {
  std::string problem;   // empty: as it has to be
  std::size_t step = 0;  // how far the store got
  bool warned = false;
};

// Opens what is in `path`, looks at all of it and writes to it.
Found examine(const std::string& path, const std::vector<Workload::Step>& steps,
              const Window& window, bool writes) {
  Found found;
  try {
    const auto store = open_sqlite_store(options_of(path));
    found.warned = !store->info().warnings.empty();
    const auto digest = digest_of(*store, found.problem);
    if (!digest) return found;
    found.step = window.first;
    while (found.step <= window.last && steps[found.step].digest != *digest) ++found.step;
    if (found.step > window.last) {
      std::size_t other = 0;
      while (other < steps.size() && steps[other].digest != *digest) ++other;
      found.problem = other == steps.size()
                          ? "holds what was never there"
                          : "stands at step " + std::to_string(other) + ", not from " +
                                std::to_string(window.first) + " to " + std::to_string(window.last);
      return found;
    }
    if (store->info().next_number < steps[found.step].next_number) {
      found.problem = "numbers of chunks would be given again";
    }
    if (!writes) return found;
    StoreGroup group;
    group.reserve_below = store->info().next_number + 10;
    if (const auto error = store->commit(group, CommitLevel::sync)) {
      found.problem = "cannot be written: " + error.message();
    }
  } catch (const StoreError& error) {
    found.problem = error.what();
  }
  return found;
}

class PowerLossTest : public ::testing::TestWithParam<bool> {
 protected:
  void SetUp() override { FaultVfs::install(); }
};

class LyingDiskTest : public ::testing::Test {
 protected:
  void SetUp() override { FaultVfs::install(); }
};

// One image; and, now and then, another power loss while that one is opened.
class Image {
 public:
  Image(const Workload& workload, std::uint64_t seed) : workload_(workload), random_(seed) {
    moment_ = random_() % (workload.end() + 1);
    // Every other one while pages are copied into the database, or soon after.
    const auto& copying = workload.moments_of_copying();
    if (random_() % 2 == 0 && !copying.empty()) {
      moment_ = std::min(copying[random_() % copying.size()] + random_() % 4, workload.end());
    }
    window_ = window_at(workload.steps(), moment_);
  }

  // What is wrong, or nothing.
  std::string check() {
    const TempDirectory folder;
    const std::string path = folder.file("store.db");
    way_ = workload_.log().make_image(moment_, random_(), folder.path());
    const bool again = random_() % 6 == 0;
    DiskLog log(path + ".witness");
    if (again) {
      log.adopt(folder.path());
      FaultVfs::record(&log);
    }
    const std::size_t begin = log.now();
    const Found found = examine(path, workload_.steps(), window_, random_() % 4 == 0);
    FaultVfs::record(nullptr);
    warned_ = found.warned;
    if (!found.problem.empty()) return describe(found.problem);
    if (again) return check_again(log, begin);
    for (const std::string& finding : check_sqlite_store(path)) {
      return describe("store check: " + finding);
    }
    return {};
  }
  bool warned() const { return warned_; }

 private:
  // Before it is open nobody was promised that what it shows is synced already.
  std::string check_again(DiskLog& log, std::size_t begin) {
    const TempDirectory folder;
    const std::size_t moment = begin + random_() % (log.now() - begin + 1);
    way_ += "; then at " + std::to_string(moment - begin) +
            " of opening: " + log.make_image(moment, random_(), folder.path());
    const std::string path = folder.file("store.db");
    const Found found = examine(path, workload_.steps(), window_, false);
    if (!found.problem.empty()) return describe(found.problem);
    for (const std::string& finding : check_sqlite_store(path)) {
      return describe("store check: " + finding);
    }
    return {};
  }

  std::string describe(const std::string& problem) const {
    return "power loss at operation " + std::to_string(moment_) + " (" + way_ + "): " + problem;
  }

  const Workload& workload_;
  std::mt19937_64 random_;
  std::size_t moment_ = 0;
  Window window_;
  std::string way_;
  bool warned_ = false;
};

// With "fsync" nothing that was accepted is missing, and what is there is a state that was. With
// "os" all up to the last sync is there. And the witness never keeps a sound store from starting.
TEST_P(PowerLossTest, WhatWasPromisedIsThere) {
  const std::uint64_t images = number_of_environment("POSTBAG_IMAGES", 500) / 2;
  std::uint64_t seed = number_of_environment("POSTBAG_SEED", 1);
  std::uint64_t failures = 0, warned = 0;
  for (std::uint64_t done = 0; done < images && failures < 10; ++seed) {
    const TempDirectory folder;
    const Workload workload(seed, GetParam(), folder.file("store.db"));
    ASSERT_FALSE(HasFatalFailure());
    for (std::uint64_t i = 0; i < images_a_workload && done < images; ++i, ++done) {
      Image image(workload, mix64(seed * 1'000 + i));
      const std::string problem = image.check();
      warned += image.warned();
      if (problem.empty()) continue;
      ++failures;
      ADD_FAILURE() << "POSTBAG_SEED=" << seed << " image " << i << ": " << problem;
    }
  }
  RecordProperty("images", std::to_string(images));
  RecordProperty("warned", std::to_string(warned));
}

INSTANTIATE_TEST_SUITE_P(Levels, PowerLossTest, ::testing::Values(false, true),
                         [](const auto& param) { return param.param ? "os" : "fsync"; });

// A disk that says "synced" and forgets: the store is as it was some promised steps ago, and only
// the witness, which is newer, knows. It has to stop the start; --accept-loss goes on.
TEST_F(LyingDiskTest, WhatItForgotIsNoticed) {
  const TempDirectory folder;
  const Workload workload(7, false, folder.file("store.db"));
  ASSERT_FALSE(HasFatalFailure());
  const auto& steps = workload.steps();
  std::uint64_t noticed = 0;
  for (std::size_t i = 5; i + 1 < steps.size(); i += 3) {
    // The last promised step that took something over before it, and one before that.
    std::size_t back = i;
    while (back > 0 && steps[back].next_number == steps[i].next_number) --back;
    if (back == 0 || !steps[back].synced || !steps[i].synced) continue;
    const TempDirectory image;
    // Without what was committed while it was synced.
    const std::size_t moment = std::min(steps[back].end, steps[back + 1].begin);
    workload.log().make_lying_image(moment, steps[i].end, image.path());
    SqliteStoreOptions options = options_of(image.file("store.db"));
    try {
      open_sqlite_store(options);
      ADD_FAILURE() << "steps " << back << " to " << i << " are missing, and nobody noticed";
    } catch (const StoreError& error) {
      EXPECT_EQ(error.code(), Errc::store_corrupt) << error.what();
      ++noticed;
    }
    options.accept_loss = true;
    try {
      EXPECT_FALSE(open_sqlite_store(options)->info().warnings.empty());
    } catch (const StoreError& error) {
      ADD_FAILURE() << error.what();
    }
  }
  EXPECT_GE(noticed, 5u);
}

}  // namespace
}  // namespace postbag::test

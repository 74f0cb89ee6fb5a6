// The SQLite store alone, on the disk that TMPDIR names: what a commit group costs per hook, and
// what failing hooks costs beside bare inserts of the same rows. Every benchmark has a store of its
// own and the level `sync`; time is wall time, as syncs are part of it.

#include <SQLiteCpp/Database.h>
#include <benchmark/benchmark.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "bench/bench_support.h"
#include "postbag/sqlite_store.h"
#include "store/sqlite_schema.h"
#include "store/sqlite_statement.h"
#include "store/store_file.h"

namespace postbag {
namespace {

constexpr std::string_view target = "https://hooks.example.com/tenants/0042/deliveries";
constexpr std::uint64_t body_bytes = 300;

bool smoke = false;

std::uint64_t scaled(std::uint64_t count) {
  return smoke ? std::max<std::uint64_t>(1, count / 100) : count;
}

class MicroDirectory {
 public:
  MicroDirectory() {
    std::string name = (std::filesystem::temp_directory_path() / "postbag-micro-XXXXXX").string();
    if (mkdtemp(name.data()) == nullptr) throw std::runtime_error("mkdtemp failed");
    path_ = name;
  }
  ~MicroDirectory() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  MicroDirectory(const MicroDirectory&) = delete;
  MicroDirectory& operator=(const MicroDirectory&) = delete;
  std::string file() const { return (path_ / "micro.db").string(); }

 private:
  std::filesystem::path path_;
};

std::string payload(std::uint64_t bytes) {
  std::string text = R"({"text":")";
  while (text.size() + 2 < bytes) text += static_cast<char>('a' + text.size() % 26);
  return text + R"("})";
}

// A store with groups of the same shape, one after the other.
class Groups {
 public:
  Groups(std::uint64_t chunk_hooks, std::uint64_t group_hooks, std::uint64_t hook_bytes)
      : chunk_hooks_(chunk_hooks),
        chunks_(std::max<std::uint64_t>(1, group_hooks / chunk_hooks)),
        head_(chunk_hooks * 3, 'h'),
        store_(open_sqlite_store({.path = directory_.file()})) {
    for (std::uint64_t hook = 0; hook < chunk_hooks; ++hook) data_ += payload(hook_bytes) + ',';
    pieces_ = {head_, data_};
    body_ = payload(body_bytes);
  }

  Store& store() { return *store_; }
  std::uint64_t hooks_in_group() const { return chunks_ * chunk_hooks_; }

  void append(StoreGroup& group) {
    for (std::uint64_t i = 0; i < chunks_; ++i) {
      ChunkAppend& chunk = group.append.emplace_back();
      chunk.chunk = chunk.batch = next_++;
      chunk.key.target = target;
      chunk.accepted_ms = 1;
      chunk.hooks = static_cast<std::uint32_t>(chunk_hooks_);
      chunk.data = pieces_;
    }
  }

  // Those of the oldest group that is still there.
  void settle(StoreGroup& group) {
    for (std::uint64_t i = 0; i < chunks_; ++i) group.settle.push_back(settled_++);
  }

  // The oldest group leaves as failed rows. With `chunks` off there were none: rows only.
  void fail(StoreGroup& group, bool chunks = true) {
    for (std::uint64_t i = 0; i < chunks_; ++i) {
      FailBatch& batch = group.fail.emplace_back();
      const ChunkNumber number = settled_++;
      batch.batch = number;
      batch.key.target = target;
      batch.reason = Reason::connect_refused;
      batch.attempts = 6;
      batch.last_at = 1'700'000'000'000;
      batch.each_hook = [this, number](const std::function<void(const FailedHookView&)>& each) {
        for (std::uint64_t index = 0; index < chunk_hooks_; ++index) {
          each({failed_key(number, index), id_, {}, {}, body_, 1'700'000'000'000});
        }
      };
      if (chunks) group.settle.push_back(number);
    }
  }

  void commit(const StoreGroup& group) {
    if (store_->commit(group, CommitLevel::sync)) throw std::runtime_error("commit failed");
    if (now_s() - last_maintenance_ < 0.02) return;  // as the store thread does
    store_->maintain();
    last_maintenance_ = now_s();
  }

 private:
  const std::uint64_t chunk_hooks_, chunks_;
  MicroDirectory directory_;
  std::string head_, data_, body_;
  std::string id_ = "0192f0c1a2b3c4d5e6f708192a3b4c5d";
  std::vector<std::string_view> pieces_;
  ChunkNumber next_ = 1, settled_ = 1;
  double last_maintenance_ = 0;
  std::unique_ptr<Store> store_;
};

// Wall time of each run, for the ratio at the end.
std::map<std::string, std::vector<double>> rates;

class Stopwatch {
 public:
  Stopwatch(benchmark::State& state, const char* name) : state_(state), name_(name) {}
  void finish(std::uint64_t hooks) {
    const auto count = static_cast<double>(hooks);
    rates[name_].push_back(count / (now_s() - begin_));
    state_.SetItemsProcessed(static_cast<std::int64_t>(hooks));
    state_.counters["cpu_us_per_hook"] = (thread_cpu_s() - cpu_) * 1e6 / count;
  }

 private:
  benchmark::State& state_;
  const char* name_;
  double begin_ = now_s(), cpu_ = thread_cpu_s();
};

// Steady state: what one group takes in, a later one settles. Ranges: hooks a chunk, hooks a group,
// bytes a hook.
void append_and_settle(benchmark::State& state) {
  Groups groups(static_cast<std::uint64_t>(state.range(0)), scaled(state.range(1)), state.range(2));
  for (int ahead = 0; ahead < 2; ++ahead) {
    StoreGroup group;
    groups.append(group);
    groups.commit(group);
  }
  Stopwatch watch(state, "append_and_settle");
  std::uint64_t hooks = 0;
  for (auto _ : state) {
    StoreGroup group;
    groups.append(group);
    groups.settle(group);
    groups.commit(group);
    hooks += groups.hooks_in_group();
  }
  watch.finish(hooks);
}

// All targets are down: nothing is settled.
void append_only(benchmark::State& state) {
  Groups groups(static_cast<std::uint64_t>(state.range(0)), scaled(state.range(1)), state.range(2));
  Stopwatch watch(state, "append_only");
  std::uint64_t hooks = 0;
  for (auto _ : state) {
    StoreGroup group;
    groups.append(group);
    groups.commit(group);
    hooks += groups.hooks_in_group();
  }
  watch.finish(hooks);
}

// Chunks become failed rows. Range: hooks a chunk.
void fail_batches(benchmark::State& state) {
  Groups groups(static_cast<std::uint64_t>(state.range(0)), scaled(1000), body_bytes);
  for (std::int64_t i = 0; i < state.max_iterations; ++i) {
    StoreGroup group;
    groups.append(group);
    groups.commit(group);
  }
  Stopwatch watch(state, "fail");
  std::uint64_t hooks = 0;
  for (auto _ : state) {
    StoreGroup group;
    groups.fail(group);
    groups.commit(group);
    hooks += groups.hooks_in_group();
  }
  watch.finish(hooks);
}

// As memory mode fails them: there is no chunk to delete.
void fail_rows(benchmark::State& state) {
  Groups groups(100, scaled(1000), body_bytes);
  Stopwatch watch(state, "fail_rows");
  std::uint64_t hooks = 0;
  for (auto _ : state) {
    StoreGroup group;
    groups.fail(group, false);
    groups.commit(group);
    hooks += groups.hooks_in_group();
  }
  watch.finish(hooks);
}

// The same rows as fail() leaves behind, in the same table of the same file, by SQLite alone.
void bare_insert(benchmark::State& state) {
  MicroDirectory directory;
  create_store_file(directory.file());
  SQLite::Database db = open_database(directory.file(), OpenFor::writing);
  prepare_for_writing(db, directory.file(), 16 << 20);
  db.exec("PRAGMA wal_autocheckpoint = 512");  // 4 MiB
  Statement row(
      db.getHandle(),
      "INSERT INTO failed(key, response, status, attempts, first_at, last_at, reason, id, "
      "target, grp, event, headers, content_type, crc, body) "
      "VALUES(?1, 0, 0, 6, ?2, ?2, ?3, ?4, ?5, '', '', '', '', 123456789, ?6)");
  const std::string body = payload(body_bytes);
  const std::uint64_t rows = std::max<std::uint64_t>(100, scaled(1000));
  ChunkNumber chunk = 1;
  Stopwatch watch(state, "bare_insert");
  std::uint64_t hooks = 0;
  for (auto _ : state) {
    db.exec("BEGIN IMMEDIATE");
    for (std::uint64_t i = 0; i < rows; ++i) {
      const FailedKey key = failed_key(chunk, static_cast<std::uint32_t>(i % 100));
      row.bind(1, static_cast<std::int64_t>(key)).bind(2, std::int64_t{1'700'000'000'000});
      row.bind_text(3, "connect_refused").bind_text(4, "0192f0c1a2b3c4d5e6f708192a3b4c5d");
      row.bind_text(5, target).bind_blob(6, body).run();
      if (i % 100 == 99) ++chunk;
    }
    db.exec("COMMIT");
    hooks += rows;
  }
  watch.finish(hooks);
}

// Failed rows are listed, claimed (with their bodies), deleted one by one, purged.
enum class FailedWork { list, claim, remove, purge };

void on_failed(benchmark::State& state, FailedWork work) {
  const std::uint64_t total = scaled(100'000);
  Groups groups(100, std::min<std::uint64_t>(total, 10'000), body_bytes);
  for (std::uint64_t done = 0; done < total; done += groups.hooks_in_group()) {
    StoreGroup group;
    groups.fail(group, false);
    groups.commit(group);
  }
  Store& store = groups.store();
  std::optional<FailedKey> after;
  std::uint64_t rows = 0;
  double longest_s = 0;
  Stopwatch watch(state, "on_failed");
  for (auto _ : state) {
    const double begin = now_s();
    if (work == FailedWork::purge) {
      std::uint64_t purged = 0;
      (void)store.purge_failed({}, after, {}, {}, purged, after);
      rows += purged;
    } else {
      SliceLimits limits;
      limits.bodies = work == FailedWork::claim;
      FailedPage page;
      (void)store.list_failed({}, after, limits, page);
      after = page.next;
      rows += page.rows.size();
      if (work == FailedWork::remove) {
        StoreGroup group;
        for (const FailedHook& hook : page.rows) group.delete_failed.push_back(hook.key);
        groups.commit(group);
      }
    }
    longest_s = std::max(longest_s, now_s() - begin);
  }
  watch.finish(std::max<std::uint64_t>(rows, 1));
  state.counters["longest_ms"] = longest_s * 1e3;
}

void register_all() {
  const auto times = [](std::int64_t count) { return smoke ? std::int64_t{3} : count; };
  const auto add = [](const char* name, auto function, std::int64_t iterations) {
    return benchmark::RegisterBenchmark(name, function)
        ->Iterations(iterations)
        ->UseRealTime()
        ->Unit(benchmark::kMillisecond);
  };
  add("append_and_settle", append_and_settle, times(100))
      ->ArgNames({"chunk", "group", "bytes"})
      ->Args({100, 10'000, 256})
      ->Args({100, 2'000, 256})
      ->Args({100, 10'000, 1024})
      ->Args({1, 2'000, 256});
  add("append_only", append_only, times(100))
      ->ArgNames({"chunk", "group", "bytes"})
      ->Args({100, 10'000, 256});
  add("fail", fail_batches, times(200))->ArgName("chunk")->Arg(100)->Arg(1);
  add("fail_rows", fail_rows, times(200));
  add("bare_insert", bare_insert, times(200));
  for (const auto& [name, work] :
       {std::pair{"list", FailedWork::list}, std::pair{"claim", FailedWork::claim},
        std::pair{"delete", FailedWork::remove}, std::pair{"purge", FailedWork::purge}}) {
    add(
        name, [work](benchmark::State& state) { on_failed(state, work); }, times(80));
  }
}

double median_rate(const char* name) {
  std::vector<double> all = rates[name];
  if (all.empty()) return 0;
  std::sort(all.begin(), all.end());
  return all[all.size() / 2];
}

}  // namespace
}  // namespace postbag

int main(int argc, char** argv) {
  using namespace postbag;
  if (argc > 1 && std::strcmp(argv[1], "--smoke") == 0) {
    smoke = true;
    std::swap(argv[1], argv[argc - 1]);
    --argc;
  }
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 64;
  register_all();
  benchmark::RunSpecifiedBenchmarks();
  const double bare = median_rate("bare_insert");
  for (const char* name : {"fail", "fail_rows"}) {
    if (bare <= 0 || median_rate(name) <= 0) continue;
    std::fprintf(stderr, "%s: %.2f of the bare insert rate (medians)\n", name,
                 median_rate(name) / bare);
  }
  return 0;
}

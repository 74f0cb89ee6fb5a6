#include "tests/crash/store_scenarios.h"

#include <filesystem>
#include <optional>
#include <span>
#include <stdexcept>

#include "postbag/error.h"
#include "store/sqlite_schema.h"
#include "tests/crash/fault_vfs.h"

namespace postbag::test {
namespace {

constexpr WallMs before_any_id_ms = 1'000;
constexpr auto recursive = std::filesystem::copy_options::recursive;

void accept(IoBench& bench) {
  for (int i = 0; i < 3; ++i) {
    bench.maker().begin();
    for (int j = 0; j < 4; ++j) bench.maker().append(bench.model());
    bench.maker().remember();
    bench.commit(CommitLevel::sync);
  }
}

// As the store thread does: the sync comes after the commit, or two.
void accept_and_sync(IoBench& bench) {
  for (int i = 0; i < 5; ++i) {
    bench.maker().begin();
    for (int j = 0; j < 4; ++j) bench.maker().append(bench.model());
    bench.maker().remember();
    bench.commit(CommitLevel::sync_later);
    if (i != 1) bench.sync();
  }
}

void settle(IoBench& bench) {
  for (int i = 0; i < 4; ++i) {
    bench.maker().begin();
    for (int j = 0; j < 4; ++j) bench.maker().settle(bench.model());
    bench.maker().count_attempt(bench.model());
    bench.commit(i == 2 ? CommitLevel::sync : CommitLevel::no_sync);
  }
}

void fail(IoBench& bench) {
  for (int i = 0; i < 3; ++i) {
    bench.maker().begin();
    bench.maker().fail(bench.model());
    bench.maker().fail(bench.model());
    bench.commit(CommitLevel::sync);
  }
}

void list_rows(IoBench& bench) {
  std::optional<FailedKey> next;
  do {
    FailedPage page;
    SliceLimits limits;
    limits.rows = 7;
    if (!bench.read([&](Store& store) { return store.list_failed({}, next, limits, page); })) break;
    for (const FailedHook& row : page.rows) {
      // A body that could not be read must not look like one that is damaged, nor like an empty
      // one.
      if (row.body != bench.model().failed().at(row.key).body) {
        bench.found("list_failed answered without an error and with another body");
      }
    }
    next = page.next;
  } while (next);
  for (const auto& [key, row] : bench.model().failed()) {
    std::optional<FailedHook> found;
    bench.read([&, number = key](Store& store) {
      found = store.find_failed(number);
      return std::error_code();
    });
    if (found && found->body != row.body) bench.found("find_failed gave another body");
  }
}

void list(IoBench& bench) {
  std::vector<PendingChunk> chunks;
  std::vector<std::string> blobs;
  if (bench.read([&](Store& store) { return store.scan_pending(0, 1'000, chunks); }) &&
      chunks.size() != bench.model().chunks().size()) {
    bench.found("scan_pending left something out");
  }
  for (const auto& [number, chunk] : bench.model().chunks()) {
    const std::span asked(&number, 1);
    if (bench.read([&](Store& store) { return store.read_chunks(asked, blobs); }) &&
        blobs[0] != chunk.data) {
      bench.found("read_chunks gave other bytes");
    }
    bench.read([asked](Store& store) {
      (void)store.find_chunk(asked[0]);
      return std::error_code();
    });
  }
  list_rows(bench);
  bench.read(
      [](Store& store) { return store.load_ids(before_any_id_ms, [](const RememberedId&) {}); });
  bench.read([](Store& store) {
    (void)store.stats();
    return std::error_code();
  });
}

// What retry-failed-hooks does: rows go, or are replaced.
void retry(IoBench& bench) {
  for (int i = 0; i < 4; ++i) {
    bench.maker().begin();
    if (i % 2 == 0) {
      bench.maker().delete_failed(bench.model());
    } else {
      bench.maker().fail_again(bench.model());
    }
    bench.commit(i == 0 ? CommitLevel::no_sync : CommitLevel::sync);
  }
}

void purge_all(IoBench& bench, std::size_t rows) {
  std::optional<FailedKey> next;
  for (int slices = 0; slices < 1'000; ++slices) {
    SliceLimits limits;
    limits.rows = rows;
    std::uint64_t purged = 0;
    const std::optional<FailedKey> after = next;
    const auto& failed = bench.model().failed();
    std::vector<FailedKey> keys;
    for (auto row = after ? failed.upper_bound(*after) : failed.begin();
         row != failed.end() && keys.size() < rows; ++row) {
      keys.push_back(row->first);
    }
    const auto error = bench.call(
        [&](Store& store) { return store.purge_failed({}, after, limits, {}, purged, next); });
    if (!error && purged < keys.size()) keys.resize(purged);  // it ended by time
    if (error == Errc::store_io) return;                      // it did not get to delete anything
    // Slices go without a sync, up to the last.
    if (!bench.changed(error, !next, [&](StoreModel& model) { model.purge(keys); })) return;
    if (!next) return;
  }
}

void purge(IoBench& bench) {
  purge_all(bench, 9);
}

void maintain(IoBench& bench) {
  bool more = true;
  const auto slice = [&more](Store& store) {
    more = store.maintain();
    return std::error_code();
  };
  for (int i = 0; i < 200 && more; ++i) {
    if (bench.call(slice)) return;
  }
}

void checkpoint(IoBench& bench) {
  for (int i = 0; i < 2; ++i) {
    accept(bench);
    settle(bench);
    maintain(bench);
  }
}

// Pages go back to the file system.
void shrink(IoBench& bench) {
  purge_all(bench, 1'000);
  for (int i = 0; i < 12 && !bench.model().chunks().empty(); ++i) settle(bench);
  maintain(bench);
  maintain(bench);
}

void forget(IoBench& bench) {
  // None expires, so nothing changes but what is looked at.
  const auto error = bench.call([](Store& store) { return store.forget_ids(before_any_id_ms); });
  bench.changed(error, false, [](StoreModel&) {});
  accept(bench);
}

void open_it(IoBench& bench) {
  if (bench.open()) list(bench);
}

// A store of the first schema: a copy, then one transaction.
void migrate(IoBench& bench) {
  if (!bench.open()) return;
  FaultVfs::disarm();
  try {
    SQLite::Database before = open_existing(bench.path() + ".before-v2");
    if (pragma_value(before, "PRAGMA user_version") != 1) bench.found("the copy is migrated, too");
    const auto chunks = pragma_value(before, "SELECT count(*) FROM chunk");
    if (chunks != static_cast<std::int64_t>(bench.model().chunks().size())) {
      bench.found("the copy does not hold all");
    }
  } catch (const std::exception& error) {
    bench.found(std::string("migrated without a sound copy: ") + error.what());
  }
}

void close_it(IoBench& bench) {
  bench.close();
}

void backup(IoBench& bench) {
  const std::string copy = bench.file("copy.db");
  const auto error = bench.call([&](Store& store) { return store.backup(copy); });
  if (error) {
    if (error != Errc::store_io && error != Errc::disk_low && error != Errc::store_cannot_create &&
        error != std::errc::not_enough_memory) {
      bench.found("backup answered " + error.message());
    }
    for (const std::string& half : {copy, copy + ".part"}) {
      if (std::filesystem::exists(half)) bench.found("backup left half a copy");
    }
  } else {
    FaultVfs::disarm();
    std::string problem;
    if (digest_of(*open_sqlite_store(small_store(copy)), problem) != bench.model().digest()) {
      bench.found("the backup is not what was copied " + problem);
    }
  }
  for (const char* name :
       {"copy.db", "copy.db.witness", "copy.db-wal", "copy.db-journal", "copy.db.part-wal"}) {
    std::filesystem::remove(bench.file(name));
  }
}

// Without ids a call is taken for a new one, without attempts a batch begins with the first: that
// much salvage may lose without a word, but no hook.
void compare_salvaged(IoBench& bench, Store& store, const SalvageReport& report) {
  const StoreModel& model = bench.model();
  if (report.chunks != model.chunks().size() || report.failed != model.failed().size()) {
    bench.found("salvage neither took nor counted all");
  }
  std::vector<std::string> blobs;
  for (const auto& [number, chunk] : model.chunks()) {
    if (store.read_chunks(std::span(&number, 1), blobs) || blobs[0] != chunk.data) {
      bench.found("salvage says that nothing is lost, but chunk " + std::to_string(number) + " is");
    }
  }
  for (const auto& [key, row] : model.failed()) {
    const auto found = store.find_failed(key);
    if (!found || found->body != row.body) {
      bench.found("salvage says that nothing is lost, but row " + std::to_string(key) + " is");
    }
  }
}

void salvage(IoBench& bench) {
  const std::string copy = bench.file("salvaged.db");
  SalvageReport report;
  try {
    const auto error = bench.apart([&] {
      report = salvage_sqlite_store(bench.path(), copy);
      return std::error_code();
    });
    FaultVfs::disarm();
    if (error) return;
    if (report.lost_chunks + report.lost_failed > 0) return;  // it says that it could not read all
    compare_salvaged(bench, *open_sqlite_store(small_store(copy)), report);
  } catch (const StoreError&) {
    // It says that it could not.
  }
}

}  // namespace

const std::vector<StoreScenario>& store_scenarios() {
  static const std::vector<StoreScenario> all{
      {"accept", Begin::closed, false, accept},
      {"accept_after_kill", Begin::killed, false, accept},
      {"accept_and_sync", Begin::closed, false, accept_and_sync},
      {"settle", Begin::closed, false, settle},
      {"fail", Begin::closed, false, fail},
      {"list", Begin::closed, false, list},
      {"retry", Begin::closed, false, retry},
      {"purge", Begin::closed, false, purge},
      {"forget", Begin::closed, false, forget},
      {"checkpoint", Begin::closed, false, checkpoint},
      {"shrink", Begin::closed, false, shrink},
      {"open_new", Begin::nothing, true, open_it},
      {"open_closed", Begin::closed, true, open_it},
      {"open_killed", Begin::killed, true, open_it},
      {"migrate", Begin::version_1, true, migrate},
      {"backup", Begin::closed, false, backup},
      {"salvage_closed", Begin::closed, true, salvage},
      {"salvage_killed", Begin::killed, true, salvage},
      {"close", Begin::killed, false, close_it},
  };
  return all;
}

StoreTemplates::StoreTemplates() {
  const std::string path = closed_.file("store.db");
  auto store = open_sqlite_store(small_store(path));
  GroupMaker maker(3);
  bool wants_sync = false;
  for (int i = 0; i < 60; ++i) {
    const StoreGroup& group = maker.make(model_, wants_sync);
    if (const auto error = store->commit(group, CommitLevel::sync)) {
      throw std::runtime_error("the store to begin with cannot be made: " + error.message());
    }
    model_.apply(group);
    if (i == 40) store->maintain();
  }
  maker.begin();
  for (int i = 0; i < 10; ++i) maker.append(model_);
  if (store->commit(maker.group(), CommitLevel::sync)) throw std::runtime_error("no room");
  model_.apply(maker.group());
  std::filesystem::copy(closed_.path(), killed_.path(), recursive);
  store.reset();
  make_version_1();
}

void StoreTemplates::copy_to(Begin begin, const std::string& folder) const {
  if (begin == Begin::nothing) return;
  const TempDirectory& from = begin == Begin::closed   ? closed_
                              : begin == Begin::killed ? killed_
                                                       : version_1_;
  std::filesystem::copy(from.path(), folder, recursive);
}

// What schema 2 added goes; a version that wrote schema 1 knew no witness.
void StoreTemplates::make_version_1() {
  std::filesystem::copy(closed_.path(), version_1_.path(), recursive);
  const std::string path = version_1_.file("store.db");
  std::filesystem::remove(path + ".witness");
  SQLite::Database db = open_database(path, OpenFor::writing);
  for (const char* column : {"failed_bytes", "epoch", "sequence", "taken_hooks", "last_number"}) {
    db.exec(std::string("ALTER TABLE meta DROP COLUMN ") + column);
  }
  db.exec("PRAGMA user_version = 1");
}

}  // namespace postbag::test

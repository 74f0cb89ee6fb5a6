#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <condition_variable>
#include <cstdio>
#include <filesystem>
#include <mutex>
#include <system_error>
#include <utility>

#include "cli/commands/commands.h"
#include "cli/demo/ledger.h"
#include "cli/demo/payloads.h"
#include "cli/document.h"
#include "cli/exit_codes.h"
#include "cli/failed_text.h"
#include "cli/local_receiver.h"
#include "cli/signals.h"
#include "cli/table.h"
#include "cli/text/json_writer.h"
#include "postbag/config.h"
#include "postbag/engine.h"
#include "postbag/sqlite_store.h"

namespace postbag {

namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr Duration patience = seconds(15);  // for something that should come within three

class DemoDirectory {
 public:
  DemoDirectory() {
    path_ = (std::filesystem::temp_directory_path() / "postbag-demo-XXXXXX").string();
    if (mkdtemp(path_.data()) == nullptr) {
      throw std::system_error(errno, std::generic_category(), "cannot make " + path_);
    }
  }
  ~DemoDirectory() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  DemoDirectory(const DemoDirectory&) = delete;
  DemoDirectory& operator=(const DemoDirectory&) = delete;
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

// Says what happens as it happens, with the time since the start. Any thread.
class Narrator {
 public:
  Narrator(Console& console, bool as_json)
      : console_(console), as_json_(as_json), started_(std::chrono::steady_clock::now()) {}

  void say(const std::string& text) {
    const double passed =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - started_).count();
    char time[24];
    std::snprintf(time, sizeof time, "%6.2fs  ", passed);
    put(time + text);
  }
  void title(const std::string& text) { put("\n" + text); }
  void put(std::string text) {
    if (text.ends_with('\n')) text.pop_back();  // of a table
    const std::lock_guard lock(mutex_);
    if (as_json_) return console_.say(text);
    console_.print_line(text);
    console_.flush();
  }

 private:
  Console& console_;
  bool as_json_;
  TimePoint started_;
  std::mutex mutex_;
};

// The last group of a batch id: where it was made. Enough to tell one from another here.
std::string tail_of(const std::string& id) {
  return id.substr(id.rfind('-') + 1);
}

// The three receivers, as one server: /ci, /tracker and /mirror.
class DemoReceivers {
 public:
  DemoReceivers(DemoLedger& ledger, Narrator& narrator)
      : ledger_(ledger),
        narrator_(narrator),
        receiver_(0, [this](const ReceivedRequest& request) { return on_request(request); }) {}

  std::string url(const std::string& name) const {
    return "http://127.0.0.1:" + std::to_string(receiver_.port()) + "/" + name;
  }
  std::size_t add(const std::string& name, std::size_t size) {
    names_.push_back(name);
    return ledger_.add_target(name, size);
  }
  void set_mirror_down(bool down) { mirror_down_ = down; }

  // Until so many requests came in for the target. False: too late, or stopped.
  bool wait_for(std::size_t target, std::uint64_t requests) {
    std::unique_lock lock(mutex_);
    return arrived_.wait_for(lock, patience,
                             [&] { return ledger_.rows()[target].attempts >= requests; });
  }

 private:
  ReceiverAnswer on_request(const ReceivedRequest& request) {
    const std::string name = request.path.substr(1);
    ReceiverAnswer answer;
    for (std::size_t i = 0; i < names_.size(); ++i) {
      if (names_[i] != name) continue;
      answer.status = name == "mirror" && mirror_down_ ? 503 : 200;
      const auto arrival = ledger_.arrived(i, request.batch_id, request.body, answer.status == 200);
      narrator_.say(name + " got batch ..." + tail_of(request.batch_id) + ": " +
                    counted(arrival.hooks, "hook") +
                    (!arrival.first ? ""
                     : arrival.full ? ", cut by size"
                                    : ", cut by time") +
                    ", attempt " + request.attempt + " -> " + std::to_string(answer.status));
      const std::lock_guard lock(mutex_);
      arrived_.notify_all();
      return answer;
    }
    answer.status = 404;
    return answer;
  }

  DemoLedger& ledger_;
  Narrator& narrator_;
  std::vector<std::string> names_;
  std::atomic<bool> mirror_down_{false};
  std::mutex mutex_;
  std::condition_variable arrived_;
  LocalReceiver receiver_;
};

class Demo {
 public:
  Demo(Console& console, bool as_json, SignalWatch& signals)
      : console_(console), as_json_(as_json), signals_(signals), narrator_(console, as_json) {
    ci_ = receivers_.add("ci", 5);
    tracker_ = receivers_.add("tracker", 100);
    mirror_ = receivers_.add("mirror", 4);
    SqliteStoreOptions store;
    store.path = directory_.path() + "/postbag.db";
    engine_ = std::make_unique<Engine>(options(), open_sqlite_store(store));
  }

  int run() {
    narrator_.put(
        "Three receivers on this machine, one engine in this process, failures in SQLite.");
    narrator_.put(render_table({{"TARGET", "BAG IS CUT AT", "RETRIES"},
                                {"ci", "5 hooks or 2s", "2, 1s apart"},
                                {"tracker", "100 hooks or 1s", "2, 1s apart"},
                                {"mirror", "4 hooks or 1s", "2, 1s apart"}}));
    bags_by_size();
    bags_by_time();
    target_goes_down();
    const bool listed = list_failed();
    retry_command();
    return conclude(listed);
  }

 private:
  Options options() const {
    Options options;
    options.store.path = directory_.path() + "/postbag.db";
    options.engine.threads = 1;
    options.defaults.network.allow_http = true;
    options.defaults.network.allow = {"127.0.0.1"};
    options.defaults.retry.retries = 2;
    options.defaults.retry.retry_interval = seconds(1);
    const auto add = [&](const char* name, std::uint32_t size, Duration time) {
      TargetBlock block;
      block.url = receivers_.url(name);
      block.policy = options.defaults;
      block.policy.batch.size = size;
      block.policy.batch.time = time;
      options.targets.push_back(block);
    };
    add("ci", 5, seconds(2));
    add("tracker", 100, seconds(1));
    add("mirror", 4, seconds(1));
    return options;
  }

  // A little apart, as hooks come in life; ends early when the person wants to leave.
  void pace() const {
    pollfd stop{signals_.stop_fd(), POLLIN, 0};
    poll(&stop, 1, 25);
    if (signals_.stopped()) throw CommandError(exit_hooks_failed, "stopped");
  }

  void submit(std::size_t target, const std::string& name, const DemoPayload& payload) {
    HookView hook;
    const std::string url = receivers_.url(name);
    hook.target = url;
    hook.event = payload.event;
    hook.body = payload.body;
    HookList hooks;
    hooks.add(hook);
    ledger_.submitted(target, payload.body);
    const SubmitResult result = engine_->submit(std::move(hooks), {});
    if (!result.ok()) throw CommandError(exit_bug, "the engine refused a hook: " + result.message);
    pace();
  }
  void expect_requests(std::size_t target, std::uint64_t requests) {
    if (!receivers_.wait_for(target, requests)) {
      throw CommandError(exit_hooks_failed, "a batch did not come in time");
    }
  }

  void bags_by_size() {
    narrator_.title("1. Full bags go at once: 17 pushes to ci, 5 a bag");
    for (std::uint64_t i = 0; i < 17; ++i) submit(ci_, "ci", demo_push(i));
    narrator_.say("17 pushes handed over; 2 wait in a bag that is not full");
    expect_requests(ci_, 4);
  }

  void bags_by_time() {
    narrator_.title("2. A bag that does not get full goes when its time is up: issues to tracker");
    for (std::uint64_t i = 0; i < 3; ++i) submit(tracker_, "tracker", demo_issue(i));
    narrator_.say("3 issues handed over; the bag waits 1s from its first hook");
    expect_requests(tracker_, 1);
    for (std::uint64_t i = 3; i < 7; ++i) submit(tracker_, "tracker", demo_issue(i));
    narrator_.say("4 more");
    expect_requests(tracker_, 2);
  }

  void target_goes_down() {
    narrator_.title("3. mirror goes down: retried twice, then given up; ci does not notice");
    receivers_.set_mirror_down(true);
    for (std::uint64_t i = 0; i < 8; ++i) submit(mirror_, "mirror", demo_release(i));
    narrator_.say("8 releases handed over to mirror");
    for (std::uint64_t i = 17; i < 22; ++i) submit(ci_, "ci", demo_push(i));
    expect_requests(ci_, 5);
    expect_requests(mirror_, 6);
    if (!engine_->wait_idle(patience)) throw CommandError(exit_hooks_failed, "hooks are left over");
    narrator_.say("mirror is given up: " + std::to_string(failed_rows().size()) +
                  " hooks are failed rows in SQLite now");
  }

  std::vector<FailedHook> failed_rows() {
    FailedPage page;
    if (const auto error = engine_->list_failed({}, {}, {}, page)) {
      throw CommandError(exit_io, "cannot list the failed hooks: " + error.message());
    }
    return std::move(page.rows);
  }

  bool list_failed() {
    narrator_.title("4. postbag failed list");
    const std::vector<FailedHook> rows = failed_rows();
    std::vector<std::vector<std::string>> table = {failed_table_head()};
    bool all_of_mirror = true;
    for (const FailedHook& row : rows) {
      table.push_back(failed_table_row(row));
      all_of_mirror = all_of_mirror && row.target == receivers_.url("mirror") &&
                      row.status == 503 && row.attempts == 3;
    }
    narrator_.put(render_table(table, {4, 6}));
    ledger_.failed(mirror_, rows.size());
    return all_of_mirror && rows.size() == 8;
  }

  void retry_command() {
    narrator_.title("5. mirror is back: postbag retry-failed-hooks");
    receivers_.set_mirror_down(false);
    ledger_.begin_retry_command();
    const RetryProgress progress = engine_->retry_failed({});
    narrator_.say("delivered " + std::to_string(progress.delivered) + ", failed again " +
                  std::to_string(progress.failed) + ", skipped " +
                  std::to_string(progress.skipped));
  }

  int conclude(bool listed) {
    const std::vector<LedgerRow> rows = ledger_.rows();
    std::vector<std::string> problems = check_ledger(rows);
    if (!listed) problems.push_back("the failed rows are not the 8 hooks of mirror");
    if (!failed_rows().empty()) problems.push_back("failed rows are left after the retry");
    const EngineStatus status = engine_->status();
    std::uint64_t submitted = 0, attempts = 0;
    for (const LedgerRow& row : rows) {
      submitted += row.submitted;
      attempts += row.attempts;
    }
    if (status.accepted != submitted)
      problems.push_back("the engine accepted another number of hooks");
    if (status.attempts != attempts) {
      problems.push_back("the engine counted " + std::to_string(status.attempts) + " attempts, " +
                         std::to_string(attempts) + " came in");
    }
    narrator_.title("What went in and what came out, counted at both ends:");
    narrator_.put(render_ledger(rows));
    narrator_.put(
        "In every row: HOOKS = DELIVERED, BY SIZE + BY TIME = BATCHES, BATCHES + REPEATS = "
        "ATTEMPTS, "
        "FAILED = RETRIED.");
    for (const std::string& problem : problems) narrator_.put("DOES NOT ADD UP: " + problem);
    if (problems.empty()) narrator_.put("It all adds up.");
    if (as_json_) print_json(rows, problems.empty());
    return problems.empty() ? exit_ok : exit_hooks_failed;
  }

  void print_json(const std::vector<LedgerRow>& rows, bool ok) {
    print_document(console_, [&](JsonWriter& json) {
      json.member("ok", ok);
      json.key("targets");
      json.begin_array();
      for (const LedgerRow& row : rows) {
        json.begin_object();
        json.member("target", row.name);
        json.member("hooks", row.submitted);
        json.member("batches", row.batches);
        json.member("by_size", row.by_size);
        json.member("by_time", row.by_time);
        json.member("attempts", row.attempts);
        json.member("repeats", row.repeats);
        json.member("failed", row.failed);
        json.member("retried", row.retried);
        json.member("delivered", row.delivered);
        json.member("bytes_equal", row.wrong == 0 && row.retries_equal);
        json.end_object();
      }
      json.end_array();
    });
  }

  Console& console_;
  bool as_json_;
  SignalWatch& signals_;
  DemoDirectory directory_;
  Narrator narrator_;
  DemoLedger ledger_;
  DemoReceivers receivers_{ledger_, narrator_};
  std::size_t ci_ = 0, tracker_ = 0, mirror_ = 0;
  std::unique_ptr<Engine> engine_;
};

}  // namespace

int run_demo(const DemoArguments& arguments, Console& console) {
  SignalWatch signals({SIGINT, SIGTERM});
  signals.start();
  Demo demo(console, arguments.json, signals);
  return demo.run();
}

}  // namespace postbag

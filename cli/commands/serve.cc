#include <signal.h>
#include <sys/un.h>
#include <unistd.h>

#include <condition_variable>
#include <deque>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <utility>

#include "cli/commands/commands.h"
#include "cli/descriptors.h"
#include "cli/document.h"
#include "cli/exit_codes.h"
#include "cli/intake/engine_backend.h"
#include "cli/intake/server.h"
#include "cli/log.h"
#include "cli/own_addresses.h"
#include "cli/recovery_progress.h"
#include "cli/signals.h"
#include "cli/store_access.h"
#include "cli/text/json_writer.h"
#include "cli/token_file.h"
#include "postbag/config.h"
#include "postbag/engine.h"

namespace postbag {

namespace {

// What the main thread waits for. Any thread may push.
class DaemonEvents {
 public:
  enum class Kind { stop, reload, fatal };
  struct Event {
    Kind kind = Kind::stop;
    std::error_code error;
  };

  void push(Event event) {
    const std::lock_guard lock(mutex_);
    events_.push_back(event);
    wake_.notify_one();
  }
  Event wait() {
    std::unique_lock lock(mutex_);
    wake_.wait(lock, [this] { return !events_.empty(); });
    const Event event = events_.front();
    events_.pop_front();
    return event;
  }

  // The first stop signal asks the main thread; a further one ends the drain that it began.
  void on_signal(int number) {
    if (number == SIGHUP) return push({Kind::reload, {}});
    {
      const std::lock_guard lock(mutex_);
      if (++stops_ > 1) {
        if (engine_ != nullptr) engine_->hurry();
        return;
      }
    }
    push({Kind::stop, {}});
  }
  bool hurried() {
    const std::lock_guard lock(mutex_);
    return stops_ > 1;
  }
  void set_engine(Engine* engine) {
    const std::lock_guard lock(mutex_);
    engine_ = engine;
  }

 private:
  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<Event> events_;
  int stops_ = 0;
  Engine* engine_ = nullptr;
};

// Keeps `events` from calling an engine that is gone.
class EngineForSignals {
 public:
  EngineForSignals(DaemonEvents& events, Engine& engine) : events_(events) {
    events_.set_engine(&engine);
  }
  ~EngineForSignals() { events_.set_engine(nullptr); }
  EngineForSignals(const EngineForSignals&) = delete;
  EngineForSignals& operator=(const EngineForSignals&) = delete;

 private:
  DaemonEvents& events_;
};

// Before the store is opened, as a start that cannot listen shall leave no trace.
void check_socket_path(const Options& options) {
  constexpr std::size_t path_bytes_max = sizeof(sockaddr_un{}.sun_path) - 1;
  const std::string path = control_socket_path(options);
  if (path.size() <= path_bytes_max) return;
  throw CommandError(exit_config, "[store] path: the socket beside it, " + path +
                                      ", would have more than the " +
                                      std::to_string(path_bytes_max) +
                                      " bytes that are allowed; use a shorter or a relative path");
}

void log_notes(const LoadedOptions& loaded, const Log& log) {
  for (const std::string& warning : loaded.warnings) log.warning(warning);
  for (const std::string& note : loaded.notes) log.info("note: " + note);
}

class Daemon {
 public:
  Daemon(const ServeArguments& arguments, Options options, DaemonEvents& events, Log& log,
         Console& console)
      : arguments_(arguments),
        options_(std::move(options)),
        open_files_max_(raise_descriptor_limit()),
        listen_(listen_address(options_)),
        had_config_file_(config_file_of(arguments).has_value()),
        events_(events),
        log_(log),
        console_(console),
        tokens_(tokens_of(options_)),
        engine_(prepared(options_), opened_store(), log.logger()),
        backend_(engine_),
        server_(backend_, server_options(), log.logger()),
        for_signals_(events, engine_) {}

  int run() {
    engine_.on_fatal([this](std::error_code error) {
      events_.push({DaemonEvents::Kind::fatal, error});
    });
    recover();
    say_ready();
    for (;;) {
      const DaemonEvents::Event event = events_.wait();
      if (event.kind == DaemonEvents::Kind::reload) reload();
      if (event.kind == DaemonEvents::Kind::stop) return drain();
      if (event.kind == DaemonEvents::Kind::fatal) {
        const bool no_memory = event.error == std::errc::not_enough_memory;
        const int code = no_memory ? exit_bug : exit_io;
        log_.error("stopping at once, exit code " + std::to_string(code),
                   {{"event", "stopping"}, {"cause", event.error.message()}});
        server_.stop();
        report_end(engine_.drain(Duration::zero()));
        return code;
      }
    }
  }

 private:
  static ListenAddress listen_address(const Options& options) {
    auto address = parse_listen(options.intake.listen);
    if (!address) {
      throw CommandError(exit_config, "[intake] listen: \"" + options.intake.listen +
                                          "\" is no address with a port; 127.0.0.1:8420 and "
                                          "[::1]:8420 are some");
    }
    if (address->port == 0) address->port = find_free_port(*address);
    // Before the store is opened: a port that is taken ends the start without a trace. If it is the
    // daemon of this very store that has it, the store says so.
    if (!connect_daemon(options)) check_can_listen(*address);
    return *address;
  }
  // Nothing: no token is asked for.
  static std::optional<std::vector<std::string>> tokens_of(const Options& options) {
    const std::string& path = options.intake.token_file;
    if (path.empty()) return {};
    return read_tokens(path);
  }
  // As the engine gets them: with what only the process knows.
  Options prepared(Options options) {
    options.own_addresses = own_addresses_of(listen_);
    intake_connections_ = IntakeServerOptions().connections_max;
    if (const auto warning = fit_to_descriptors(options, open_files_max_, intake_connections_)) {
      log_.warning(*warning);
    }
    return options;
  }
  std::unique_ptr<Store> opened_store() {
    // Recovery counts what is pending: to read a large store twice would take twice as long.
    return open_store_alone(options_, true, arguments_.accept_loss, false);
  }
  IntakeServerOptions server_options() const {
    IntakeServerOptions server;
    server.listen = format_listen(listen_);
    server.unix_socket = control_socket_path(options_);
    server.max_body = options_.intake.max_body;
    server.tokens = tokens_;
    server.durability = options_.store.durability;
    server.bodies_bytes_max = options_.engine.max_memory / 4;
    server.connections_max = intake_connections_;
    return server;
  }

  void recover() {
    RecoveryProgress progress(std::chrono::steady_clock::now());
    const std::uint64_t found = engine_.recover(
        [&](std::uint64_t hooks) {
          if (const auto line = progress.found(hooks, std::chrono::steady_clock::now())) {
            log_.info(*line);
          }
        },
        [this] {
          // Listens before anything is delivered: the port may have been taken meanwhile.
          server_.start();
        });
    if (found > 0) log_.info(progress.done(found, std::chrono::steady_clock::now()));
    waiting_ = found;
  }

  void say_ready() {
    const std::string address = format_listen(listen_);
    const EngineStatus status = engine_.status();
    log_.info("postbag " + std::string(version()) + " is ready: listening on " + address +
                  ", store " + options_.store.path + " (" +
                  std::string(durability_name(options_.store.durability)) + "), " +
                  counted(status.shards, "shard") + ", " + counted(waiting_, "hook") +
                  " waiting, " + std::to_string(status.failed) + " failed, " +
                  config_file_of(arguments_).value_or("no configuration file"),
              {{"event", "ready"},
               {"version", version()},
               {"listening", address},
               {"waiting", waiting_},
               {"failed", status.failed}});
    if (!arguments_.json) return;
    print_document(console_, [&](JsonWriter& json) {
      json.member("listening", address);
      json.member("socket", control_socket_path(options_));
      json.member("store", options_.store.path);
      json.member("durability", durability_name(options_.store.durability));
      json.member("pid", getpid());
    });
    console_.flush();
  }

  // A file that cannot be used changes nothing.
  void reload() {
    try {
      // ./postbag.toml may be missing at a start; one that went away is half a deployment, not the
      // wish for defaults.
      if (had_config_file_ && !config_file_of(arguments_)) {
        throw CommandError(exit_no_input, "./postbag.toml is gone");
      }
      LoadedOptions loaded = load_command_options(arguments_);
      // Here, as a token file that cannot be read is a bad configuration.
      const auto tokens = tokens_of(loaded.options);
      const auto restart_keys = engine_.reload(prepared(loaded.options));
      server_.set_tokens(tokens);
      log_.set_level(loaded.options.log.level);
      log_notes(loaded, log_);
      for (const std::string& key : restart_keys) {
        // The engine has neither; they were taken over here.
        if (key == "intake.token_file" || key == "log.level") continue;
        log_.warning("reload: " + key + " changes only with a restart");
      }
      log_.info("reloaded: targets, policies, tokens and log.level are those of the file now",
                {{"event", "reloaded"}});
    } catch (const std::exception& error) {
      log_.error(std::string("not reloaded, the old configuration stays: ") + error.what(),
                 {{"event", "not_reloaded"}, {"cause", error.what()}});
    }
  }

  int drain() {
    log_.info("stopping: intake is closed, delivering what waits", {{"event", "stopping"}});
    server_.stop_accepting();
    const DrainReport report = engine_.drain(options_.engine.drain_timeout);
    server_.stop();
    return report_end(report);
  }

  // Gives the exit code. What failed and what is lost the engine has said.
  int report_end(const DrainReport& report) {
    std::string said = "stopped";
    if (!report.error && report.timed_out) {
      said += events_.hurried() ? " by a second signal" : " at the drain timeout";
    }
    if (report.left > 0) {
      said += "; " + counted(report.left, "hook") + (report.left == 1 ? " stays" : " stay");
      said += " in the store";
    }
    if (report.stored_failed > 0) {
      said += "; " + counted(report.stored_failed, "hook") + " stored as failed (shutdown)";
    }
    if (report.lost > 0) {
      said += "; " + counted(report.lost, "hook") + (report.lost == 1 ? " is lost" : " are lost");
    }
    log_.info(said, {{"event", "stopped"},
                     {"left", report.left},
                     {"stored_failed", report.stored_failed},
                     {"lost", report.lost}});
    if (report.error == std::errc::not_enough_memory) return exit_bug;
    return report.error || report.lost > 0 ? exit_io : exit_ok;
  }

  const ServeArguments& arguments_;
  const Options options_;
  const std::uint64_t open_files_max_;
  std::uint32_t intake_connections_ = 0;  // over TCP, as prepared() found
  const ListenAddress listen_;            // its port is never 0
  const bool had_config_file_;
  DaemonEvents& events_;
  Log& log_;
  Console& console_;
  const std::optional<std::vector<std::string>> tokens_;  // of the start
  Engine engine_;
  EngineBackend backend_;
  IntakeServer server_;
  std::uint64_t waiting_ = 0;  // hooks of an earlier run
  EngineForSignals for_signals_;
};

}  // namespace

int run_serve(const ServeArguments& arguments, Console& console) {
  const LoadedOptions loaded = load_command_options(arguments);
  check_socket_path(loaded.options);
  DaemonEvents events;
  // Before any thread, as threads inherit what it blocks.
  SignalWatch signals({SIGINT, SIGTERM, SIGHUP});
  Log log(loaded.options.log);
  log_notes(loaded, log);
  signals.start([&events](int number) { events.on_signal(number); });
  Daemon daemon(arguments, loaded.options, events, log, console);
  return daemon.run();
}

}  // namespace postbag

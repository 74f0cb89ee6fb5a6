#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <system_error>
#include <utility>

#include "cli/commands/commands.h"
#include "cli/daemon_answers.h"
#include "cli/descriptors.h"
#include "cli/exit_codes.h"
#include "cli/log.h"
#include "cli/progress.h"
#include "cli/send_way.h"
#include "cli/store_access.h"
#include "cli/text/json_writer.h"

namespace postbag {

namespace {

constexpr std::uint64_t send_group_bytes = 1 << 20;

class InputFile {
 public:
  explicit InputFile(const std::string& path) : fd_(STDIN_FILENO) {
    if (path == "-") return;
    fd_ = open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (fd_ >= 0) return;
    const int error = errno;
    throw CommandError(error == EACCES ? exit_permission : exit_no_input,
                       path + ": " + std::generic_category().message(error));
  }
  ~InputFile() {
    if (fd_ != STDIN_FILENO) close(fd_);
  }
  InputFile(const InputFile&) = delete;
  InputFile& operator=(const InputFile&) = delete;
  int fd() const { return fd_; }

 private:
  int fd_;
};

struct Sent {
  std::optional<SendError> error;
  bool whole = false;  // everything was handed over
};

// For whoever wants to send the rest: what was sent must not go twice.
std::string not_sent_text(const SendGroup& group) {
  const auto& lines = group.line_numbers;
  const std::uint64_t first = lines.empty() ? group.error->line.value_or(0) : lines.front();
  if (!group.unanswered) {
    return " (the lines from " + std::to_string(first) + " on were not sent)";
  }
  return " (whether the lines from " + std::to_string(first) + " to " +
         std::to_string(lines.back()) + " were accepted is not known; those from " +
         std::to_string(lines.back() + 1) + " on were not sent)";
}

// Hands over group by group. What is before a bad group has been accepted and is delivered; the
// group and everything after it is not sent.
Sent hand_over_all(SendInput& input, SendWay& way, const SignalWatch& signals,
                   const std::function<void()>& look) {
  Sent sent;
  while (!signals.stopped()) {
    SendGroup group = input.next();
    if (!group.error && !group.line_numbers.empty()) {
      try {
        group.error = way.hand_over(group);
      } catch (const CommandError& error) {
        group.error = SendError{{}, error.what(), error.exit_code()};
      }
      if (!group.error && !group.accepted) break;
    }
    if (group.error) {
      group.error->message += not_sent_text(group);
      sent.error = std::move(group.error);
      return sent;
    }
    look();
    sent.whole = group.last && !group.stopped;
    if (group.last) break;
  }
  return sent;
}

std::string as_json_text(const SendCounts& counts) {
  std::string out;
  JsonWriter json(out);
  json.begin_object();
  json.member("accepted", counts.accepted);
  json.member("duplicates", counts.duplicates);
  json.member("delivered", counts.delivered);
  json.member("failed", counts.failed);
  json.member("left", counts.left);
  json.end_object();
  return out;
}

int report(SendWay& way, const Sent& sent, bool stopped, bool as_json, Console& console) {
  const SendCounts counts = way.counts();
  if (as_json) console.print_line(as_json_text(counts));
  std::string said = "accepted " + std::to_string(counts.accepted) + ", delivered " +
                     std::to_string(counts.delivered) + ", failed " + std::to_string(counts.failed);
  if (counts.duplicates > 0) said += ", duplicates " + std::to_string(counts.duplicates);
  if (counts.left > 0) said += ", left " + std::to_string(counts.left) + " " + way.left_text();
  if (stopped) said += "; stopped early";
  console.say(said);
  if (counts.failed > 0) {
    console.say(
        "`postbag failed list` shows what failed, `postbag retry-failed-hooks` sends it again");
  }
  if (sent.error) {
    const auto& line = sent.error->line;
    throw CommandError(sent.error->exit_code,
                       (line ? "line " + std::to_string(*line) + ": " : "") + sent.error->message);
  }
  return sent.whole && counts.failed + counts.left == 0 ? exit_ok : exit_hooks_failed;
}

int send_by(SendWay& way, SendInput& input, const SignalWatch& signals, bool as_json,
            Console& console) {
  Sent sent;
  {
    ProgressBar bar(console, "send");
    const auto look = [&] {
      if (!console.draws()) return;
      const SendCounts counts = way.counts();
      bar.update(counts.delivered + counts.failed, counts.accepted);
    };
    sent = hand_over_all(input, way, signals, look);
    // Whatever ended the input, what was accepted before gets its outcome.
    try {
      way.finish(look);
    } catch (const CommandError& error) {
      if (!sent.error) sent.error = SendError{{}, error.what(), error.exit_code()};
    }
  }
  return report(way, sent, signals.stopped(), as_json, console);
}

// A daemon that stores nothing before it is sent cannot be told to.
void require_stored(ControlClient& daemon) {
  const EngineStatus status = expect_parsed(parse_engine_status(ask_status(daemon)));
  if (status.durability != Durability::memory) return;
  throw CommandError(exit_config,
                     "--durable: the daemon that holds the store has [store] durability = "
                     "\"memory\" and would not store the hooks before they are sent; nothing was "
                     "sent");
}

}  // namespace

int run_send(const SendArguments& arguments, Console& console) {
  Options options = load_command_options(arguments).options;
  InputFile file(arguments.file);
  SignalWatch signals({SIGINT, SIGTERM});
  // A line holds one payload and what stands around it.
  LineReader lines(file.fd(), options.intake.max_hook + (64u << 10), signals.stop_fd());
  StoreHolder holder = open_daemon_or_store(options, StoreUse::send, console);
  if (holder.daemon) {
    signals.start();
    holder.daemon->stop_on(signals.stop_fd());
    if (arguments.durable) require_stored(*holder.daemon);
    SendThroughDaemon way(*holder.daemon, options.store.keep_failed, signals);
    // A request of more than max_body is refused.
    SendInput input(lines, arguments.target, std::min(send_group_bytes, options.intake.max_body));
    return send_by(way, input, signals, arguments.json, console);
  }
  options.store.durability = arguments.durable ? Durability::fsync : Durability::memory;
  // A log line would tear the progress bar; what fails is told at the end.
  const LogLevel least = console.draws() ? LogLevel::error : LogLevel::warning;
  options.log.level = std::max(options.log.level, least);
  Log log(options.log);
  if (!log.logger().enabled(LogLevel::warning)) say_noticed(console, *holder.store);
  // With --durable the engine's log says it, if anything.
  if (!arguments.durable || !log.enabled(LogLevel::warning)) {
    say_waiting_hooks(console, *holder.store);
  }
  std::uint32_t no_intake = 0;
  if (const auto warning = fit_to_descriptors(options, raise_descriptor_limit(), no_intake)) {
    log.warning(*warning);
  }
  SendAlone way(std::move(holder.store), options, log.logger(), signals);
  signals.start();
  SendInput input(lines, arguments.target, send_group_bytes);
  return send_by(way, input, signals, arguments.json, console);
}

}  // namespace postbag

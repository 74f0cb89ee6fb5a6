#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <system_error>
#include <utility>

#include "cli/commands/commands.h"
#include "cli/exit_codes.h"
#include "cli/log.h"
#include "cli/progress.h"
#include "cli/send_way.h"
#include "cli/store_access.h"
#include "cli/text/json_writer.h"

namespace postbag {

namespace {

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

// Hands over group by group. What is before a bad group has been accepted and is delivered; the
// group and everything after it is not sent.
std::optional<LineError> hand_over_all(SendInput& input, SendWay& way, const SignalWatch& signals,
                                       const std::function<void()>& look) {
  while (!signals.stopped()) {
    SendGroup group = input.next();
    if (group.error) return group.error;
    if (!group.line_numbers.empty()) {
      const std::uint64_t first_line = group.line_numbers.front();
      if (auto error = way.hand_over(group)) {
        error->message += " (the lines from " + std::to_string(first_line) + " on were not sent)";
        return error;
      }
    }
    look();
    if (group.last) break;
  }
  return std::nullopt;
}

int report(const SendCounts& counts, const std::optional<LineError>& error, bool stopped,
           bool through_daemon, bool as_json, Console& console) {
  if (as_json) {
    std::string out;
    JsonWriter json(out);
    json.begin_object();
    json.member("accepted", counts.accepted);
    json.member("duplicates", counts.duplicates);
    json.member("delivered", counts.delivered);
    json.member("failed", counts.failed);
    json.member("left", counts.left);
    json.end_object();
    console.print_line(out);
  }
  std::string said = "accepted " + std::to_string(counts.accepted) + ", delivered " +
                     std::to_string(counts.delivered) + ", failed " + std::to_string(counts.failed);
  if (counts.duplicates > 0) said += ", duplicates " + std::to_string(counts.duplicates);
  if (counts.left > 0) {
    said += ", left " + std::to_string(counts.left) +
            (through_daemon ? " with the daemon" : " pending in the store");
  }
  if (stopped) said += "; stopped early";
  console.say(said);
  if (counts.failed > 0) {
    console.say(
        "`postbag failed list` shows what failed, `postbag retry-failed-hooks` sends it again");
  }
  if (error) {
    throw CommandError(error->exit_code,
                       "line " + std::to_string(error->line) + ": " + error->message);
  }
  return counts.failed + counts.left == 0 ? exit_ok : exit_hooks_failed;
}

int send_by(SendWay& way, LineReader& lines, const SendArguments& arguments,
            const SignalWatch& signals, bool through_daemon, Console& console) {
  SendInput input(lines, arguments.target);
  std::optional<LineError> error;
  {
    ProgressBar bar(console, "send");
    const auto look = [&] {
      if (!console.draws()) return;
      const SendCounts counts = way.counts();
      bar.update(counts.delivered + counts.failed, counts.accepted);
    };
    error = hand_over_all(input, way, signals, look);
    way.finish(look);
  }
  return report(way.counts(), error, signals.stopped(), through_daemon, arguments.json, console);
}

}  // namespace

int run_send(const SendArguments& arguments, Console& console) {
  Options options = load_command_options(arguments).options;
  InputFile file(arguments.file);
  SignalWatch signals({SIGINT, SIGTERM});
  // A line holds one payload and what stands around it.
  LineReader lines(file.fd(), options.intake.max_hook + (64u << 10), signals.stop_fd());
  StoreHolder holder = open_daemon_or_store(options, true);
  if (holder.daemon) {
    signals.start();
    SendThroughDaemon way(*holder.daemon, options.store.keep_failed, signals);
    return send_by(way, lines, arguments, signals, true, console);
  }
  say_waiting_hooks(console, *holder.store);
  options.store.durability = arguments.durable ? Durability::fsync : Durability::memory;
  // A log line would tear the progress bar; what fails is told at the end.
  const LogLevel least = console.draws() ? LogLevel::error : LogLevel::warning;
  options.log.level = std::max(options.log.level, least);
  Log log(options.log);
  SendAlone way(std::move(holder.store), options, log.logger(), signals);
  signals.start();
  return send_by(way, lines, arguments, signals, false, console);
}

}  // namespace postbag

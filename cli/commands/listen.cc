#include <poll.h>
#include <signal.h>

#include <limits>
#include <mutex>

#include "cli/commands/commands.h"
#include "cli/exit_codes.h"
#include "cli/failed_filter.h"
#include "cli/local_receiver.h"
#include "cli/signals.h"
#include "cli/text/json_writer.h"
#include "cli/text/rfc3339.h"
#include "engine/shell/clock.h"
#include "postbag/config.h"

namespace postbag {

namespace {

const char* or_dash(const std::string& text) {
  return text.empty() ? "-" : text.c_str();
}

class ListenReport {
 public:
  ListenReport(const ListenArguments& arguments, Console& console, std::uint32_t delay_ms)
      : arguments_(arguments), console_(console), delay_ms_(delay_ms) {}

  ReceiverAnswer on_request(const ReceivedRequest& request) {
    ReceiverAnswer answer;
    answer.delay_ms = delay_ms_;
    answer.status = arguments_.status;
    if (arguments_.fail_first > 0) {
      const int failure = arguments_.status == 200 ? 503 : arguments_.status;
      answer.status = request.number <= arguments_.fail_first ? failure : 200;
    }
    answer.hang = arguments_.hang;
    answer.drop = arguments_.drop;
    print(request, answer);
    return answer;
  }

 private:
  void print(const ReceivedRequest& request, const ReceiverAnswer& answer) {
    const std::string what = answer.hang   ? "hang"
                             : answer.drop ? "drop"
                                           : std::to_string(answer.status);
    std::string line;
    if (arguments_.json) {
      JsonWriter json(line);
      json.begin_object();
      json.time_member("time", wall_now_ms());
      json.member("method", request.method);
      json.member("path", request.path);
      json.member("batch_id", request.batch_id);
      json.member("batch_size", request.batch_size);
      json.member("attempt", request.attempt);
      json.member("bytes", request.body.size());
      json.member("answer", what);
      if (arguments_.bodies) json.member("body", request.body);
      json.end_object();
    } else {
      line = format_rfc3339(wall_now_ms()) + " " + printable(request.method) + " " +
             printable(request.path) + " batch " + printable(or_dash(request.batch_id)) + " size " +
             printable(or_dash(request.batch_size)) + " attempt " +
             printable(or_dash(request.attempt)) + " bytes " + std::to_string(request.body.size()) +
             " -> " + what;
      if (arguments_.bodies) line += "\n  " + printable(request.body);
    }
    try {
      console_.print_line(line);
      console_.flush();
    } catch (const CommandError&) {
      // Nobody reads any more; the receiver goes on until it is told to end.
    }
  }

  const ListenArguments& arguments_;
  Console& console_;
  std::uint32_t delay_ms_;
};

}  // namespace

int run_listen(const ListenArguments& arguments, Console& console) {
  std::uint32_t delay_ms = 0;
  if (!arguments.delay.empty()) {
    const auto delay = parse_duration(arguments.delay);
    if (!delay || *delay > std::chrono::hours(24)) {
      throw CommandError(exit_usage, "--delay: \"" + arguments.delay +
                                         "\" is no duration up to 24h; 250ms and 2s are some");
    }
    delay_ms = static_cast<std::uint32_t>(
        std::chrono::duration_cast<std::chrono::milliseconds>(*delay).count());
  }
  SignalWatch signals({SIGINT, SIGTERM});
  ListenReport report(arguments, console, delay_ms);
  LocalReceiver receiver(arguments.port, [&report](const ReceivedRequest& request) {
    return report.on_request(request);
  });
  signals.start();
  console.say("listening on http://127.0.0.1:" + std::to_string(receiver.port()) +
              "/ until Ctrl-C; to send here: [network] allow_http = true, allow = [\"127.0.0.1\"]");
  pollfd stop{signals.stop_fd(), POLLIN, 0};
  while (poll(&stop, 1, -1) < 1) {
  }
  receiver.stop();
  return exit_ok;
}

}  // namespace postbag

#include "cli/commands/commands.h"
#include "cli/daemon_answers.h"
#include "cli/exit_codes.h"
#include "cli/store_access.h"

namespace postbag {

int run_flush(const FlushArguments& arguments, Console& console) {
  const Options options = load_command_options(arguments).options;
  ControlClient daemon = require_daemon(options, "flush");
  ControlRequest request;
  request.method = "POST";
  request.path = "/v1/flush";
  if (!arguments.target.empty()) request.path += "?target=" + query_escape(arguments.target);
  const ControlAnswer answer = daemon.send(request);
  expect_success(answer);
  if (arguments.json) {
    console.print_line(answer.body);
  } else {
    console.say("cut " + counted(json_number(answer.body, "bags"), "bag"));
  }
  return exit_ok;
}

}  // namespace postbag

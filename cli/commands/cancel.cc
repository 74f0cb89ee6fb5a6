#include "cli/commands/commands.h"
#include "cli/daemon_answers.h"
#include "cli/exit_codes.h"
#include "cli/store_access.h"

namespace postbag {

// Waiting hooks are a daemon's affair: without one nobody delivers them, so there is nothing to
// cancel in time.
int run_cancel(const CancelArguments& arguments, Console& console) {
  const Options options = load_command_options(arguments).options;
  ControlClient daemon = require_daemon(options, "cancel");
  ControlRequest request;
  request.method = "DELETE";
  request.path = "/v1/hooks?target=" + query_escape(arguments.target);
  request.may_take_long = true;
  const ControlAnswer answer = daemon.send(request);
  expect_success(answer);
  if (arguments.json) {
    console.print_line(answer.body);
  } else {
    console.say("moved " + counted(json_number(answer.body, "cancelled"), "waiting hook") +
                " to the failed ones (`postbag failed list --reason cancelled`)");
  }
  return exit_ok;
}

}  // namespace postbag

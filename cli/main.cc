#include "cli/arguments.h"
#include "cli/commands/commands.h"
#include "cli/console.h"

int main(int argc, char** argv) {
  postbag::Console console = postbag::Console::standard();
  const postbag::ParsedArguments parsed = postbag::parse_arguments(argc, argv);
  if (parsed.command.index() != 0) return postbag::run_command(parsed.command, console);
  std::fputs(parsed.out.c_str(), stdout);
  std::fputs(parsed.err.c_str(), stderr);
  return parsed.exit_code;
}

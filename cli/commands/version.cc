#include "cli/commands/commands.h"
#include "cli/exit_codes.h"
#include "cli/text/json_writer.h"
#include "postbag/engine.h"

namespace postbag {

int run_version(const VersionArguments& arguments, Console& console) {
  if (!arguments.json) {
    console.print_line("postbag " + std::string(version()));
    return exit_ok;
  }
  std::string out;
  JsonWriter json(out);
  json.begin_object();
  json.member("version", version());
  json.end_object();
  console.print_line(out);
  return exit_ok;
}

}  // namespace postbag

#include "cli/commands/commands.h"
#include "cli/document.h"
#include "cli/exit_codes.h"
#include "cli/text/json_writer.h"
#include "postbag/engine.h"

namespace postbag {

int run_version(const VersionArguments& arguments, Console& console) {
  if (!arguments.json) {
    console.print_line("postbag " + std::string(version()));
    return exit_ok;
  }
  print_document(console, [&](JsonWriter& json) { json.member("version", version()); });
  return exit_ok;
}

}  // namespace postbag

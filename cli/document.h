#pragma once

#include <string>

#include "cli/console.h"
#include "cli/text/json_writer.h"

namespace postbag {

// Prints the one JSON object that a command promises on standard output with --json; `fill` writes
// its members.
template <typename Fill>
void print_document(Console& console, Fill fill) {
  std::string out;
  JsonWriter json(out);
  json.begin_object();
  fill(json);
  json.end_object();
  console.print_line(out);
}

}  // namespace postbag

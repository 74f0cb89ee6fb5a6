#include "cli/token_file.h"

#include <utility>

#include "cli/exit_codes.h"
#include "config/file_checks.h"

namespace postbag {

std::vector<std::string> read_tokens(const std::string& path) {
  std::string problem;
  auto tokens = read_token_file(path, problem);
  if (!tokens) {
    throw CommandError(exit_config, "[intake] token_file: " + path + ": " + problem);
  }
  return *std::move(tokens);
}

}  // namespace postbag

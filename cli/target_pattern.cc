#include "cli/target_pattern.h"

#include "postbag/options.h"

namespace postbag {

std::string target_pattern(std::string_view text) {
  std::string ignored;
  std::string canonical = canonical_target(text, ignored);
  return canonical.empty() ? std::string(text) : canonical;
}

}  // namespace postbag

#include "postbag/glob.h"

namespace postbag {

bool glob_match(std::string_view pattern, std::string_view text) {
  if (pattern.empty()) return true;
  // Only the last '*' is ever taken up again: what an earlier one could give up, the last one can
  // take.
  std::size_t star = std::string_view::npos;
  std::size_t star_text = 0;
  std::size_t p = 0;
  std::size_t t = 0;
  while (t < text.size()) {
    if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      star_text = t;
    } else if (p < pattern.size() && (pattern[p] == '?' || pattern[p] == text[t])) {
      ++p;
      ++t;
    } else if (star != std::string_view::npos) {
      p = star + 1;
      t = ++star_text;
    } else {
      return false;
    }
  }
  while (p < pattern.size() && pattern[p] == '*') ++p;
  return p == pattern.size();
}

}  // namespace postbag

#pragma once

#include <cstdio>
#include <cstdlib>
#include <source_location>

namespace postbag {

// An invariant of our own code, checked in release builds too: to go on would risk sending wrong
// bytes. Nothing that a peer, a file or a caller can cause is checked this way.
inline void check(bool holds, const std::source_location where = std::source_location::current()) {
  if (holds) [[likely]]
    return;
  std::fprintf(stderr, "postbag: invariant broken at %s:%u in %s\n", where.file_name(),
               static_cast<unsigned>(where.line()), where.function_name());
  std::abort();
}

}  // namespace postbag

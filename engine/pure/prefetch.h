#pragma once

#include <cstddef>

namespace postbag {

// Brings memory into the caches that is about to be used; nothing is read, so it may be anything.
// Worth it where several misses wait for each other otherwise. Inlined always: g++ 12 takes a
// function that only prefetches for one without effect and drops the call.
[[gnu::always_inline]] inline void fetch(const void* memory, std::size_t bytes) {
  constexpr std::size_t line_bytes = 64;
  const auto* at = static_cast<const char*>(memory);
  for (std::size_t done = 0; done < bytes; done += line_bytes) __builtin_prefetch(at + done);
}

}  // namespace postbag

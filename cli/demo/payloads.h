#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace postbag {

// GitHub-like webhook payloads made from a number: the same number gives the same bytes, no two
// numbers the same ones. Names with accents, emoji and escaped quotes are among them, as in life.
// Pure.
struct DemoPayload {
  std::string event;  // "push", "issues", "release"
  std::string body;   // JSON text
};
DemoPayload demo_push(std::uint64_t number);
DemoPayload demo_issue(std::uint64_t number);
DemoPayload demo_release(std::uint64_t number);

}  // namespace postbag

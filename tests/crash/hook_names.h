#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace postbag::test {

// A hook of a crash run: who made it and its place among that producer's. Everything else about it
// follows from the name and the run's seed, so that an oracle needs to keep no bytes.
struct HookName {
  std::uint32_t producer = 0, number = 0;
};

// Pure; any thread.
class HookNames {
 public:
  HookNames(std::uint64_t seed, std::uint32_t targets) : seed_(seed), targets_(targets) {}

  // JSON that begins with the name; 20 to about 600 bytes.
  std::string payload(HookName name) const;
  std::uint32_t target(HookName name) const;
  static std::string id(HookName name);
  // The name in a payload; nothing if it is none of ours.
  static std::optional<HookName> parse(std::string_view payload);
  std::uint32_t targets() const { return targets_; }

 private:
  std::uint64_t mix(HookName name) const;

  std::uint64_t seed_;
  std::uint32_t targets_;
};

// A good 64-bit mix of a number (splitmix64).
std::uint64_t mix64(std::uint64_t value);

}  // namespace postbag::test

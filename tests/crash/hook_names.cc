#include "tests/crash/hook_names.h"

#include <charconv>

namespace postbag::test {

std::uint64_t mix64(std::uint64_t value) {
  value += 0x9e3779b97f4a7c15;
  value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9;
  value = (value ^ (value >> 27)) * 0x94d049bb133111eb;
  return value ^ (value >> 31);
}

std::uint64_t HookNames::mix(HookName name) const {
  return mix64(seed_ ^ mix64(std::uint64_t{name.producer} << 32 | name.number));
}

std::string HookNames::id(HookName name) {
  return "p" + std::to_string(name.producer) + "-" + std::to_string(name.number);
}

std::uint32_t HookNames::target(HookName name) const {
  return static_cast<std::uint32_t>(mix(name) >> 40) % targets_;
}

// Escapes, brackets in strings and bytes beyond ASCII, because bodies are compared byte for byte.
std::string HookNames::payload(HookName name) const {
  static constexpr std::string_view pieces[] = {"x", " ] ", "\\\"", "zo\xc3\xab", "\\u0041", "{,"};
  std::uint64_t random = mix(name);
  std::string text = "{\"hook\": \"" + id(name) + "\",\"pad\":\"";
  for (std::uint64_t left = random % 150; left > 0; --left) {
    random = mix64(random);
    text += pieces[random % std::size(pieces)];
  }
  return text + "\"}";
}

std::optional<HookName> HookNames::parse(std::string_view payload) {
  constexpr std::string_view begin = "{\"hook\": \"p";
  if (!payload.starts_with(begin)) return std::nullopt;
  const char* const end = payload.data() + payload.size();
  HookName name;
  auto [at, error] = std::from_chars(payload.data() + begin.size(), end, name.producer);
  if (error != std::errc() || at == end || *at != '-') return std::nullopt;
  const auto number = std::from_chars(at + 1, end, name.number);
  if (number.ec != std::errc()) return std::nullopt;
  return name;
}

}  // namespace postbag::test

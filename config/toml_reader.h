#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace postbag {

// A TOML document as plain values, so that the heavy parser stays behind one .cc. Lines and columns
// begin with 1.
struct TomlPosition {
  std::uint32_t line = 1;
  std::uint32_t column = 1;
};

struct TomlNode;
struct TomlMember;

// In the order of the file, which is the order of headers on the wire and of error messages.
using TomlTable = std::vector<TomlMember>;
using TomlArray = std::vector<TomlNode>;
// The dates and times of TOML: nothing here takes one.
struct TomlDate {};

struct TomlNode {
  TomlPosition position;
  std::variant<TomlDate, bool, std::int64_t, double, std::string, TomlArray, TomlTable> value;
};

struct TomlMember {
  std::string key;
  TomlPosition position;  // of the key
  TomlNode node;
};

// "a string", "an integer", ...: for messages about a wrong type.
std::string_view type_name(const TomlNode& node);

// Throws ConfigError with the position of a syntax error. The result is always a table.
TomlNode parse_toml(std::string_view text, const std::string& file_name);

// Throws ConfigError "file:line:column: message"; the message begins with the key.
[[noreturn]] void throw_config_error(const std::string& file_name, TomlPosition position,
                                     std::string_view message);

}  // namespace postbag

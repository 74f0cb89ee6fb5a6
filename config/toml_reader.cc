#include "config/toml_reader.h"

#include <algorithm>
#include <string>
#include <tuple>
#include <utility>

#include <toml++/toml.h>

#include "postbag/config.h"

namespace postbag {
namespace {

// toml++ leaves 0 where it knows no place: for tables that are named only on the way to others.
TomlPosition position_of(const toml::source_region& region, TomlPosition otherwise = {}) {
  return region.begin ? TomlPosition{region.begin.line, region.begin.column} : otherwise;
}

TomlNode convert(const toml::node& node, TomlPosition otherwise);

TomlTable convert_table(const toml::table& table) {
  TomlTable members;
  members.reserve(table.size());
  for (const auto& [key, node] : table) {
    const TomlPosition position = position_of(key.source());
    members.push_back({std::string(key.str()), position, convert(node, position)});
  }
  // toml++ sorts by name.
  std::stable_sort(members.begin(), members.end(), [](const TomlMember& a, const TomlMember& b) {
    return std::tie(a.position.line, a.position.column) <
           std::tie(b.position.line, b.position.column);
  });
  return members;
}

// The depth of nesting is bounded by the parser (256).
TomlNode convert(const toml::node& node, TomlPosition otherwise) {
  TomlNode out{position_of(node.source(), otherwise), TomlDate{}};
  if (const auto* flag = node.as_boolean()) {
    out.value = flag->get();
  } else if (const auto* integer = node.as_integer()) {
    out.value = integer->get();
  } else if (const auto* number = node.as_floating_point()) {
    out.value = number->get();
  } else if (const auto* text = node.as_string()) {
    out.value = text->get();
  } else if (const auto* array = node.as_array()) {
    TomlArray items;
    items.reserve(array->size());
    for (const auto& item : *array) items.push_back(convert(item, out.position));
    out.value = std::move(items);
  } else if (const auto* table = node.as_table()) {
    out.value = convert_table(*table);
  }
  return out;
}

}  // namespace

std::string_view type_name(const TomlNode& node) {
  static constexpr std::string_view names[] = {
      "a date or time", "true or false", "an integer", "a number with a fraction",
      "a string",       "an array",      "a table"};
  return names[node.value.index()];
}

TomlNode parse_toml(std::string_view text, const std::string& file_name) {
  try {
    return convert(toml::parse(text), {});
  } catch (const toml::parse_error& error) {
    std::string message = "not valid TOML: ";
    throw_config_error(file_name, position_of(error.source()), message.append(error.description()));
  }
}

void throw_config_error(const std::string& file_name, TomlPosition position,
                        std::string_view message) {
  std::string text = file_name + ":" + std::to_string(position.line) + ":" +
                     std::to_string(position.column) + ": ";
  throw ConfigError(text.append(message));
}

}  // namespace postbag

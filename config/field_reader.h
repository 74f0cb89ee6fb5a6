#pragma once

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "config/file_checks.h"
#include "config/keys.h"
#include "config/toml_reader.h"
#include "postbag/config.h"

namespace postbag {

inline constexpr std::size_t path_bytes_max = 4096;
inline constexpr std::size_t shown_bytes_max = 64;

// A string of the file in a message. Never used for header values.
inline std::string show(std::string_view text) {
  return text.size() <= shown_bytes_max ? quote_toml(text)
                                        : quote_toml(text.substr(0, shown_bytes_max)) + "...";
}

inline std::string show_number(const TomlNode& node) {
  if (const auto* integer = std::get_if<std::int64_t>(&node.value)) return std::to_string(*integer);
  char text[32];  // as it may have been written, and not 300 digits
  std::snprintf(text, sizeof text, "%.15g", std::get<double>(node.value));
  return text;
}

// A key as it stands in a path: bare where TOML takes it so.
inline std::string show_key(std::string_view key) {
  const bool bare = !key.empty() && std::all_of(key.begin(), key.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '_';
  });
  return bare ? std::string(key.substr(0, shown_bytes_max)) : show(key);
}

// Positions of everything read, so that what validate_options() finds gets its place in the file.
class Source {
 public:
  explicit Source(const std::string& file_name) : file_name_(file_name) {}

  void remember(const std::string& path, TomlPosition position) { positions_[path] = position; }

  // Where it stands; null: the file does not name it.
  const TomlPosition* find(const std::string& path) const {
    const auto found = positions_.find(path);
    return found == positions_.end() ? nullptr : &found->second;
  }

  [[noreturn]] void fail(TomlPosition position, const std::string& path,
                         std::string_view what) const {
    throw_config_error(file_name_, position, std::string(path).append(": ").append(what));
  }

  // `message` begins with a path; the longest known beginning of it has the position.
  [[noreturn]] void fail_at_path(const std::string& message) const {
    TomlPosition best;
    std::size_t best_size = 0;
    for (const auto& [path, position] : positions_) {
      if (path.size() >= best_size && message.starts_with(path) &&
          std::string_view(":.[").find(message.c_str()[path.size()]) != std::string_view::npos) {
        best = position;
        best_size = path.size();
      }
    }
    throw_config_error(file_name_, best, message);
  }

 private:
  const std::string& file_name_;
  std::map<std::string, TomlPosition> positions_;
};

// Stores one value of the file into its field, or fails with what would be right.
template <typename Root>
class FieldReader {
 public:
  FieldReader(Source& source, const std::string& path, const TomlNode& node, Root& root)
      : source_(source), path_(path), node_(node), root_(root) {}

  void operator()(const FlagField<Root>& field) const {
    field.at(root_) = expect<bool>("true or false");
  }

  void operator()(const CountField<Root>& field) const {
    const std::string allowed = "an integer from " + std::to_string(field.range.min) + " to " +
                                std::to_string(field.range.max);
    const std::int64_t value = expect<std::int64_t>(allowed);
    if (value < std::int64_t{field.range.min} || value > std::int64_t{field.range.max})
      refuse(std::to_string(value) + " is out of range", allowed);
    field.at(root_) = static_cast<std::uint32_t>(value);
  }

  void operator()(const SizeField<Root>& field) const {
    const std::string allowed = "bytes or a string as \"64KiB\", \"1MiB\", \"10GB\", from " +
                                format_size(field.range.min) + " to " +
                                format_size(field.range.max);
    std::optional<std::uint64_t> bytes;
    std::string shown;
    if (const auto* text = std::get_if<std::string>(&node_.value)) {
      bytes = parse_size(*text);
      shown = show(*text);
      if (!bytes) refuse(shown + " is not a size", allowed);
    } else {
      const std::int64_t value = expect<std::int64_t>(allowed);
      bytes = value < 0 ? std::nullopt : std::optional(static_cast<std::uint64_t>(value));
      shown = std::to_string(value);
    }
    if (!bytes || !field.range.contains(*bytes)) refuse(shown + " is out of range", allowed);
    field.at(root_) = *bytes;
  }

  void operator()(const DurationField<Root>& field) const {
    const std::string allowed =
        "seconds or a string as \"250ms\", \"5s\", \"10m\", \"1h\", \"7d\", from " +
        format_duration(field.range.min) + " to " + format_duration(field.range.max);
    std::optional<Duration> duration;
    std::string shown;
    if (const auto* text = std::get_if<std::string>(&node_.value)) {
      duration = parse_duration(*text);
      shown = show(*text);
      const bool has_unit = !text->empty() && (text->back() < '0' || text->back() > '9');
      if (!duration || !has_unit)
        refuse(shown + (duration ? " has no unit" : " is not a duration"), allowed);
    } else {
      duration = seconds(allowed);
      shown = show_number(node_);
    }
    if (!duration || !field.range.contains(*duration)) refuse(shown + " is out of range", allowed);
    field.at(root_) = *duration;
  }

  void operator()(const ShareField<Root>& field) const {
    const std::string allowed = "a number from 0 to 1";
    const auto* integer = std::get_if<std::int64_t>(&node_.value);
    const double value = integer ? static_cast<double>(*integer) : expect<double>(allowed);
    if (!field.range.contains(value)) refuse(show_number(node_) + " is out of range", allowed);
    field.at(root_) = value;
  }

  void operator()(const TextField<Root>& field) const {
    const auto& text = expect<std::string>("a string");
    if (const auto problem = check_text(field.rule, text))
      source_.fail(node_.position, path_, show(text) + " " + *problem);
    field.at(root_) = text;
  }

  void operator()(const ChoiceField<Root>& field) const {
    std::string allowed;
    for (const std::string_view word : field.words)
      allowed.append(allowed.empty() ? "" : ", ").append(quote_toml(word));
    const auto& text = expect<std::string>(allowed);
    const auto found = std::find(field.words.begin(), field.words.end(), text);
    if (found == field.words.end()) refuse(show(text) + " is not known", allowed);
    field.set(root_, static_cast<std::size_t>(found - field.words.begin()));
  }

  void operator()(const ListField<Root>& field) const {
    std::vector<std::string> items;
    for (const TomlNode& item : expect<TomlArray>("an array of strings")) {
      const std::string item_path = path_ + "[" + std::to_string(items.size()) + "]";
      source_.remember(item_path, item.position);
      items.push_back(
          FieldReader(source_, item_path, item, root_).template expect<std::string>("a string"));
    }
    field.at(root_) = std::move(items);
  }

  void operator()(const HeadersField<Root>& field) const {
    HeaderList headers;
    for (const TomlMember& header : expect<TomlTable>("a table of strings")) {
      // As validate_options() spells it.
      source_.remember(path_ + "." + header.key, header.position);
      const std::string header_path = path_ + "." + show_key(header.key);
      const FieldReader reader(source_, header_path, header.node, root_);
      const auto& value = reader.template expect<std::string>("a string");
      if (value == masked_value) {
        reader.refuse("is " + quote_toml(masked_value) + ", by which config show hides a value",
                      "the value itself");
      }
      headers.emplace_back(header.key, value);
    }
    field.at(root_) = std::move(headers);
  }

 private:
  [[noreturn]] void refuse(const std::string& what, std::string_view allowed) const {
    source_.fail(node_.position, path_, (what + "; allowed is ").append(allowed));
  }

  template <typename Value>
  const Value& expect(std::string_view allowed) const {
    const Value* value = std::get_if<Value>(&node_.value);
    if (value == nullptr) refuse("is " + std::string(type_name(node_)), allowed);
    return *value;
  }

  // A number of seconds; nothing if it is negative, not finite, too large, or so small that it
  // would become 0.
  std::optional<Duration> seconds(std::string_view allowed) const {
    constexpr double nanoseconds = 1e9;
    constexpr std::int64_t seconds_max = 9'000'000'000;  // what Duration holds, nearly
    if (const auto* integer = std::get_if<std::int64_t>(&node_.value)) {
      return *integer < 0 || *integer > seconds_max
                 ? std::nullopt
                 : std::optional<Duration>(std::chrono::seconds(*integer));
    }
    const double value = expect<double>(allowed);
    if (!(value >= 0 && value <= static_cast<double>(seconds_max))) return std::nullopt;
    const Duration duration(std::llround(value * nanoseconds));
    return value > 0 && duration == Duration::zero() ? std::nullopt : std::optional(duration);
  }

  static std::optional<std::string> check_text(TextRule rule, const std::string& text) {
    switch (rule) {
      case TextRule::store_path:
        // SQLite would take these two for something else than a file of that name.
        if (text.starts_with("file:") || text == ":memory:")
          return "is not the path of a file; allowed is a plain path, as \"postbag.db\"";
        if (text.empty() || text.size() > path_bytes_max || text.find('\0') != std::string::npos)
          return "is not a path; allowed are 1 to 4096 bytes without NUL";
        return std::nullopt;
      case TextRule::listen:
        return std::nullopt;  // validate_options() knows addresses
      case TextRule::token_file:
        return named_file(text, check_token_file, "a readable file with a token a line, or \"\"");
      case TextRule::ca_file:
        return named_file(text, check_ca_file, "a readable PEM file of certificates, or \"\"");
    }
    return std::nullopt;
  }

  static std::optional<std::string> named_file(
      const std::string& path, std::optional<std::string> (*check)(const std::string&),
      std::string_view allowed) {
    auto problem = path.empty() ? std::nullopt : check(path);
    if (problem) problem->append("; allowed is ").append(allowed);
    return problem;
  }

  Source& source_;
  const std::string& path_;
  const TomlNode& node_;
  Root& root_;
};

}  // namespace postbag

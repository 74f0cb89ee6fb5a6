#pragma once

#include <cstdint>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "postbag/options.h"

namespace postbag {

// what() is "file:line:column: key: what is wrong; what is allowed".
class ConfigError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// What `config check` and the start say of options that are good.
struct LoadedOptions {
  Options options;
  std::vector<std::string> notes;     // "waits without limit until 500 hooks are there"
  std::vector<std::string> warnings;  // open to strangers: intake without a token, secrets
};

// Reads a TOML file over the daemon's built-in defaults (durability fsync). Throws ConfigError; an
// unreadable file is a ConfigFileError. Defined in config/.
LoadedOptions load_options(const std::string& path);
LoadedOptions parse_options(std::string_view toml, const std::string& file_name);
class ConfigFileError : public ConfigError {
 public:
  using ConfigError::ConfigError;
};

// The daemon's built-in defaults, as if the file were empty.
Options default_options();

// A commented file of every key with its default (`config init`).
std::string default_config_text();
// The effective values as TOML (`config show`): header values masked.
std::string effective_config_text(const Options& options);

// "250ms", "5s", "1.5h", or bare seconds; negative or overflowing is refused (nullopt). "1MiB",
// "10GB", or bare bytes.
std::optional<Duration> parse_duration(std::string_view text);
std::optional<std::uint64_t> parse_size(std::string_view text);
std::string format_duration(Duration duration);
std::string format_size(std::uint64_t bytes);

}  // namespace postbag

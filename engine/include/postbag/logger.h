#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <span>
#include <string_view>
#include <variant>

#include "postbag/options.h"

namespace postbag {

// What a line is about, for programs: the message says it in words. `event` names the kind of line;
// cli/README.md has the names. Views are valid during the call only.
struct LogField {
  std::string_view name;                                // [a-z_]
  std::variant<std::string_view, std::uint64_t> value;  // an empty text says nothing
};

// A logger is a value: a level and a function. The function is called on any engine thread, must be
// thread-safe and must not block on the engine. Messages and fields hold no body, no header value,
// no path or query of a URL.
struct Logger {
  LogLevel level = LogLevel::off;
  // If set it says the level, which may change at any time; lives as long as the logger is used.
  const std::atomic<LogLevel>* level_now = nullptr;
  std::function<void(LogLevel, std::string_view)> write{};
  // If set it is called instead of `write`.
  std::function<void(LogLevel, std::string_view, std::span<const LogField>)> write_fields{};

  bool enabled(LogLevel at) const {
    const LogLevel least =
        level_now != nullptr ? level_now->load(std::memory_order_relaxed) : level;
    return at >= least && least != LogLevel::off && (write || write_fields);
  }
  void log(LogLevel at, std::string_view message, std::span<const LogField> fields) const {
    if (!enabled(at)) return;
    if (write_fields) return write_fields(at, message, fields);
    write(at, message);
  }
  void log(LogLevel at, std::string_view message,
           std::initializer_list<LogField> fields = {}) const {
    log(at, message, std::span(fields.begin(), fields.size()));
  }
};

}  // namespace postbag

#pragma once

#include <functional>
#include <string_view>

#include "postbag/options.h"

namespace postbag {

// A logger is a value: a level and a function. The function is called on any engine thread, must be
// thread-safe and must not block on the engine. Messages hold no body, no header value, no URL
// query.
struct Logger {
  LogLevel level = LogLevel::off;
  std::function<void(LogLevel, std::string_view)> write;

  bool enabled(LogLevel at) const { return at >= level && level != LogLevel::off && write; }
  void log(LogLevel at, std::string_view message) const {
    if (enabled(at)) write(at, message);
  }
};

}  // namespace postbag

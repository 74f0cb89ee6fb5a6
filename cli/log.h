#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "postbag/logger.h"
#include "postbag/options.h"

namespace postbag {

// The log of the process: lines on standard error, text for people or one JSON object a line. A
// thread of its own writes them; when it cannot keep up (a blocked pipe) the oldest waiting lines
// are dropped, delivery never waits. At most 20 lines a second of one kind, 4 of them about one
// target (log_limiter.h). Make it after SignalWatch, destroy it after the engine.
class Log {
 public:
  explicit Log(const LogOptions& options);
  ~Log();  // writes what waits
  Log(const Log&) = delete;
  Log& operator=(const Log&) = delete;

  // From now on what is below it is not written. Any thread.
  void set_level(LogLevel level);
  bool enabled(LogLevel at) const;
  // A value that may be copied; must not be called once the Log is gone. Its level is the lowest
  // one, as that of the Log may change.
  Logger logger() const;

  void info(std::string_view message) const { logger().log(LogLevel::info, message); }
  void warning(std::string_view message) const { logger().log(LogLevel::warning, message); }
  void error(std::string_view message) const { logger().log(LogLevel::error, message); }

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

// The message as a JSON string with its quotes; bytes that are not UTF-8 are shown as \xNN. Pure.
std::string log_json_string(std::string_view message);

}  // namespace postbag

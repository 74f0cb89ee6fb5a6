#pragma once

#include <initializer_list>
#include <memory>
#include <span>
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
  // A value that may be copied; must not be used once the Log is gone.
  Logger logger() const;

  void info(std::string_view message, std::initializer_list<LogField> fields = {}) const {
    logger().log(LogLevel::info, message, fields);
  }
  void warning(std::string_view message, std::initializer_list<LogField> fields = {}) const {
    logger().log(LogLevel::warning, message, fields);
  }
  void error(std::string_view message, std::initializer_list<LogField> fields = {}) const {
    logger().log(LogLevel::error, message, fields);
  }

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

// The message as a JSON string with its quotes; bytes that are not UTF-8 are shown as \xNN. Pure.
std::string log_json_string(std::string_view message);
// What a line says, as members of a JSON object: the message, then the fields. Pure.
std::string log_json_members(std::string_view message, std::span<const LogField> fields);

}  // namespace postbag

#pragma once

#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "postbag/logger.h"

namespace postbag::test {

// What is logged from a level on. Any thread; longer alive than who logs.
class LoggedLines {
 public:
  LoggedLines(Logger& logger, LogLevel level) {
    logger.level = level;
    logger.write = [this](LogLevel, std::string_view line) {
      const std::lock_guard lock(mutex_);
      lines_.emplace_back(line);
    };
  }
  std::vector<std::string> all() const {
    const std::lock_guard lock(mutex_);
    return lines_;
  }

 private:
  mutable std::mutex mutex_;
  std::vector<std::string> lines_;
};

}  // namespace postbag::test

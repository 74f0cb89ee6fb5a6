#pragma once

#include <stdexcept>
#include <string>
#include <system_error>

namespace postbag {

// The exit codes of the executable (sysexits.h where it has a name for it); README lists them.
inline constexpr int exit_ok = 0;
inline constexpr int exit_hooks_failed = 1;
inline constexpr int exit_usage = 64;
inline constexpr int exit_bad_data = 65;
inline constexpr int exit_no_input = 66;
inline constexpr int exit_unavailable = 69;  // the daemon cannot be reached
inline constexpr int exit_bug = 70;
inline constexpr int exit_system = 71;
inline constexpr int exit_cannot_create = 73;
inline constexpr int exit_io = 74;
inline constexpr int exit_store_busy = 75;
inline constexpr int exit_permission = 77;
inline constexpr int exit_config = 78;

// What ends a command early: run_command() prints the message on standard error and ends with the
// code.
class CommandError : public std::runtime_error {
 public:
  CommandError(int exit_code, const std::string& message)
      : std::runtime_error(message), exit_code_(exit_code) {}
  int exit_code() const { return exit_code_; }

 private:
  int exit_code_;
};

// The code for an error of the engine or the store (Errc, or an errno of the system).
int exit_code_of(std::error_code error);

}  // namespace postbag

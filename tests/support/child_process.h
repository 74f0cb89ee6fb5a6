#pragma once

#include <sys/types.h>

#include <optional>
#include <string>
#include <vector>

namespace postbag::test {

struct ProcessResult {
  int exit_code = -1;  // 128 + signal if one ended it
  std::string out, err;
};

// A program under test in a folder of its own. Its output is read all the time, so it never blocks
// on a full pipe. Killed with SIGKILL if it still runs at the end. One thread.
class ChildProcess {
 public:
  // `arguments[0]` is the program. Standard input is a pipe.
  ChildProcess(const std::vector<std::string>& arguments, const std::string& folder);
  ~ChildProcess();
  ChildProcess(const ChildProcess&) = delete;
  ChildProcess& operator=(const ChildProcess&) = delete;

  void write_input(const std::string& text);
  void close_input();
  void signal(int number) const;
  // SIGSTOP; back once it has stopped.
  void stop_and_wait() const;
  // Looks, and does not wait.
  bool has_ended() const;

  // Until the text stands in what came on standard output (or error) since the last such call, or
  // half a minute. Gives the line that holds it.
  std::optional<std::string> wait_for_out(const std::string& text) { return wait_for(0, text); }
  std::optional<std::string> wait_for_err(const std::string& text) { return wait_for(1, text); }
  // Waits for the end (half a minute at most; then it is killed and the code is -1).
  ProcessResult wait();

 private:
  std::optional<std::string> wait_for(int stream, const std::string& text);
  bool read_some();

  pid_t pid_ = -1;
  int input_ = -1;
  int fds_[2] = {-1, -1};
  std::string texts_[2];
  std::size_t seen_[2] = {0, 0};
};

// Runs to the end.
ProcessResult run_process(const std::vector<std::string>& arguments, const std::string& folder,
                          const std::string& input = "");

}  // namespace postbag::test

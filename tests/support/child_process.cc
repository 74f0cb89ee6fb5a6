#include "tests/support/child_process.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <stdexcept>

namespace postbag::test {

namespace {
constexpr int patience_ms = 30'000;
}

ChildProcess::ChildProcess(const std::vector<std::string>& arguments, const std::string& folder) {
  ::signal(SIGPIPE, SIG_IGN);
  int in[2], out[2], err[2];
  if (pipe2(in, O_CLOEXEC) != 0 || pipe2(out, O_CLOEXEC) != 0 || pipe2(err, O_CLOEXEC) != 0) {
    throw std::runtime_error("pipe2 failed");
  }
  std::vector<char*> argv;
  for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  pid_ = fork();
  if (pid_ < 0) throw std::runtime_error("fork failed");
  if (pid_ == 0) {
    dup2(in[0], STDIN_FILENO);
    dup2(out[1], STDOUT_FILENO);
    dup2(err[1], STDERR_FILENO);
    if (chdir(folder.c_str()) == 0) execv(argv[0], argv.data());
    _exit(127);
  }
  close(in[0]);
  close(out[1]);
  close(err[1]);
  input_ = in[1];
  fds_[0] = out[0];
  fds_[1] = err[0];
}

ChildProcess::~ChildProcess() {
  if (pid_ > 0) {
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
  }
  close_input();
  for (const int fd : fds_) {
    if (fd >= 0) close(fd);
  }
}

void ChildProcess::write_input(const std::string& text) {
  std::size_t written = 0;
  while (written < text.size()) {
    const ssize_t now = write(input_, text.data() + written, text.size() - written);
    if (now <= 0 && errno != EINTR) return;  // it ended without reading all: its answer tells
    if (now > 0) written += static_cast<std::size_t>(now);
  }
}

void ChildProcess::close_input() {
  if (input_ >= 0) close(input_);
  input_ = -1;
}

void ChildProcess::signal(int number) const {
  kill(pid_, number);
}

void ChildProcess::stop_and_wait() const {
  kill(pid_, SIGSTOP);
  siginfo_t info{};
  waitid(P_PID, static_cast<id_t>(pid_), &info, WSTOPPED | WEXITED | WNOWAIT);
}

bool ChildProcess::has_ended() const {
  siginfo_t info{};
  return waitid(P_PID, static_cast<id_t>(pid_), &info, WEXITED | WNOHANG | WNOWAIT) != 0 ||
         info.si_pid != 0;
}

// Waits for output and keeps it. False: both streams ended, or nothing came for too long.
bool ChildProcess::read_some() {
  pollfd fds[2] = {{fds_[0], POLLIN, 0}, {fds_[1], POLLIN, 0}};
  if (fds_[0] < 0 && fds_[1] < 0) return false;
  if (poll(fds, 2, patience_ms) <= 0) return false;
  for (int i = 0; i < 2; ++i) {
    if (fds[i].revents == 0) continue;
    char buffer[16 << 10];
    const ssize_t got = read(fds_[i], buffer, sizeof buffer);
    if (got > 0) {
      texts_[i].append(buffer, static_cast<std::size_t>(got));
    } else {
      close(fds_[i]);
      fds_[i] = -1;
    }
  }
  return true;
}

std::optional<std::string> ChildProcess::wait_for(int stream, const std::string& text) {
  std::string& all = texts_[stream];
  for (;;) {
    const std::size_t at = all.find(text, seen_[stream]);
    const std::size_t end = at == std::string::npos ? at : all.find('\n', at);
    if (end != std::string::npos) {
      const std::size_t newline = all.rfind('\n', at);
      const std::size_t begin = newline == std::string::npos ? 0 : newline + 1;
      seen_[stream] = end + 1;
      return all.substr(begin, end - begin);
    }
    if (!read_some()) return std::nullopt;
  }
}

ProcessResult ChildProcess::wait() {
  close_input();
  while (read_some()) {
  }
  ProcessResult result;
  // Both streams ended, so it has ended or is about to; one that hangs with its streams open is
  // killed.
  if (fds_[0] >= 0 || fds_[1] >= 0) kill(pid_, SIGKILL);
  int status = 0;
  waitpid(pid_, &status, 0);
  pid_ = -1;
  result.out = texts_[0];
  result.err = texts_[1];
  if (WIFEXITED(status)) result.exit_code = WEXITSTATUS(status);
  if (WIFSIGNALED(status)) result.exit_code = 128 + WTERMSIG(status);
  return result;
}

ProcessResult run_process(const std::vector<std::string>& arguments, const std::string& folder,
                          const std::string& input) {
  ChildProcess child(arguments, folder);
  child.write_input(input);
  return child.wait();
}

}  // namespace postbag::test

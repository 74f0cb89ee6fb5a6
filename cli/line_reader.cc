#include "cli/line_reader.h"

#include <poll.h>
#include <unistd.h>

#include <cerrno>

namespace postbag {

namespace {
constexpr std::size_t read_bytes = 256 << 10;
}

// Reads once. False: nothing came, `result` says why.
bool LineReader::fill(Result& result) {
  pollfd fds[2] = {{fd_, POLLIN, 0}, {stop_fd_, POLLIN, 0}};
  for (;;) {
    const int ready = poll(fds, stop_fd_ >= 0 ? 2 : 1, -1);
    if (ready < 0 && errno == EINTR) continue;
    if (stop_fd_ >= 0 && fds[1].revents != 0) {
      result = Result::stopped;
      return false;
    }
    break;
  }
  if (start_ > 0) {
    buffer_.erase(0, start_);
    scanned_ -= start_;
    start_ = 0;
  }
  const std::size_t old_bytes = buffer_.size();
  buffer_.resize(old_bytes + read_bytes);
  ssize_t got = 0;
  do {
    got = read(fd_, buffer_.data() + old_bytes, read_bytes);
  } while (got < 0 && errno == EINTR);
  buffer_.resize(old_bytes + (got > 0 ? static_cast<std::size_t>(got) : 0));
  if (got < 0) {
    errno_ = errno;
    result = Result::error;
    return false;
  }
  ended_ = got == 0;
  return true;
}

LineReader::Result LineReader::next(std::string_view& line) {
  ++line_number_;
  for (;;) {
    const std::size_t end = buffer_.find('\n', scanned_);
    const bool last = end == std::string::npos && ended_;
    if (last && start_ == buffer_.size()) {
      --line_number_;
      return Result::end;
    }
    const std::size_t stop = end == std::string::npos ? buffer_.size() : end;
    if (stop - start_ > line_bytes_max_) return Result::too_long;
    if (end != std::string::npos || last) {
      line = std::string_view(buffer_).substr(start_, stop - start_);
      if (!line.empty() && line.back() == '\r') line.remove_suffix(1);
      start_ = last ? buffer_.size() : end + 1;
      scanned_ = start_;
      return Result::line;
    }
    scanned_ = buffer_.size();
    Result result = Result::end;
    if (!fill(result)) return result;
  }
}

}  // namespace postbag

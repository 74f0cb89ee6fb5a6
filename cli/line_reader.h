#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace postbag {

// Lines from a descriptor with bounded memory; a wait for input ends when `stop_fd` becomes
// readable, so that a signal is heard while nothing comes. One thread. Does not own the
// descriptors.
class LineReader {
 public:
  enum class Result { line, end, stopped, too_long, error };

  // `line_bytes_max` bounds what is held; `stop_fd` -1: none.
  LineReader(int fd, std::size_t line_bytes_max, int stop_fd = -1)
      : fd_(fd), line_bytes_max_(line_bytes_max), stop_fd_(stop_fd) {}

  // The next line without its end ("\n" or "\r\n"); the view is valid until the next call. A last
  // line without an end counts.
  Result next(std::string_view& line);
  // True if a whole line lies ready: next() will not wait.
  bool ready() const { return buffer_.find('\n', start_) != std::string::npos; }
  // Of the last line given, 1-based; of the line in progress after too_long or error.
  std::uint64_t line_number() const { return line_number_; }
  int error() const { return errno_; }  // the errno after Result::error

 private:
  bool fill(Result& result);

  int fd_;
  std::size_t line_bytes_max_;
  int stop_fd_;
  std::string buffer_;
  std::size_t start_ = 0, scanned_ = 0;
  std::uint64_t line_number_ = 0;
  bool ended_ = false;
  int errno_ = 0;
};

}  // namespace postbag

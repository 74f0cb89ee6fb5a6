#pragma once

#include <cstdint>
#include <cstdio>
#include <string>
#include <string_view>

namespace postbag {

// Where a command writes: standard output is for programs, standard error for people. Used by one
// thread at a time, but for say(), which any thread may call. Does not own the streams.
class Console {
 public:
  Console(std::FILE* out, std::FILE* err, bool err_is_terminal)
      : out_(out), err_(err), err_is_terminal_(err_is_terminal) {}
  // The process's own streams.
  static Console standard();

  // To standard output, as it is. Throws CommandError (I/O) when nobody takes it any more.
  void print(std::string_view text);
  void print_line(std::string_view text);
  void flush();
  // One line to standard error; never fails.
  void say(std::string_view text);

  // A line that is redrawn in place; only on a terminal. An empty text wipes it.
  void draw(std::string_view line);
  bool draws() const { return err_is_terminal_; }

 private:
  std::FILE* out_;
  std::FILE* err_;
  bool err_is_terminal_;
  bool drawn_ = false;
};

// Bytes from elsewhere made safe for a terminal: control characters and anything that is not UTF-8
// become "\xNN".
std::string printable(std::string_view text);

// "1 hook", "2 hooks". `thing` takes an s where it is not one.
std::string counted(std::uint64_t count, std::string_view thing);

}  // namespace postbag

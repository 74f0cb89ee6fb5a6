#include "cli/console.h"

#include <unistd.h>

#include "cli/exit_codes.h"
#include "cli/text/utf8.h"

namespace postbag {

namespace {

// C1 controls, line separators and bidirectional overrides can rewrite what a person sees.
bool is_deceptive(std::string_view sequence) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(sequence[i]); };
  if (sequence.size() == 2) return byte(0) == 0xC2 && byte(1) < 0xA0;
  if (sequence.size() != 3 || byte(0) != 0xE2) return false;
  return (byte(1) == 0x80 && byte(2) >= 0xA8 && byte(2) <= 0xAE) ||
         (byte(1) == 0x81 && byte(2) >= 0xA6 && byte(2) <= 0xA9);
}

}  // namespace

Console Console::standard() {
  return Console(stdout, stderr, isatty(STDERR_FILENO) == 1);
}

void Console::print(std::string_view text) {
  if (std::fwrite(text.data(), 1, text.size(), out_) != text.size()) {
    throw CommandError(exit_io, "cannot write to standard output");
  }
}

void Console::print_line(std::string_view text) {
  print(text);
  print("\n");
}

void Console::flush() {
  if (std::fflush(out_) != 0) throw CommandError(exit_io, "cannot write to standard output");
}

void Console::say(std::string_view text) {
  draw({});
  std::string line(text);
  line += '\n';
  std::fwrite(line.data(), 1, line.size(), err_);
}

void Console::draw(std::string_view line) {
  if (!err_is_terminal_ || (line.empty() && !drawn_)) return;
  std::string text = "\r\x1b[2K";
  text += line;
  std::fwrite(text.data(), 1, text.size(), err_);
  std::fflush(err_);
  drawn_ = !line.empty();
}

std::string printable(std::string_view text) {
  static constexpr char hex[] = "0123456789abcdef";
  std::string out;
  out.reserve(text.size());
  for (std::size_t i = 0; i < text.size();) {
    const auto byte = static_cast<unsigned char>(text[i]);
    if (byte >= 0x20 && byte < 0x7F) {
      out += text[i++];
      continue;
    }
    const std::size_t length = byte < 0x80 ? 0 : utf8_sequence_length(text, i);
    if (length != 0 && !is_deceptive(text.substr(i, length))) {
      out += text.substr(i, length);
      i += length;
      continue;
    }
    out += "\\x";
    out += hex[byte >> 4];
    out += hex[byte & 15];
    ++i;
  }
  return out;
}

std::string counted(std::uint64_t count, std::string_view thing) {
  return std::to_string(count).append(" ").append(thing).append(count == 1 ? "" : "s");
}

}  // namespace postbag

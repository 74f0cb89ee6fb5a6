#pragma once

#include <string>
#include <vector>

namespace postbag {

// The tokens of [intake] token_file, a line each; blanks around one and empty lines do not count.
// Throws CommandError (77 where it may not be read, else 78) for a file that cannot be read, for
// over 1,000 lines, and for a line that no client could send after "Bearer " (RFC 6750
// section 2.1), such as a comment: it would look like a token and be none. The message names the
// file and the line, never what is in it. Blocks for the file.
std::vector<std::string> read_tokens(const std::string& path);

}  // namespace postbag

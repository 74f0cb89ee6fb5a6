#pragma once

#include <string>
#include <vector>

namespace postbag {

// The tokens of [intake] token_file, read as the configuration's check reads them: what is good
// there is good at the start. Throws CommandError (78) where read_token_file() says what is wrong;
// the message names the file and the line, never what is in it. Blocks for the file.
std::vector<std::string> read_tokens(const std::string& path);

}  // namespace postbag

#include "cli/intake/tokens.h"

#include <openssl/crypto.h>
#include <openssl/sha.h>

#include "cli/intake/request_head.h"
#include "engine/pure/ascii.h"

namespace postbag {
namespace {

std::string_view trim(std::string_view text) {
  constexpr std::string_view blanks = " \t\r\n";
  const std::size_t begin = text.find_first_not_of(blanks);
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(blanks) - begin + 1);
}

}  // namespace

TokenSet::TokenSet(const std::vector<std::string>& lines) {
  for (const std::string& line : lines) {
    const std::string_view token = trim(line);
    if (!token.empty()) digests_.push_back(digest(token));
  }
}

bool TokenSet::allows(std::string_view authorization) const {
  const std::size_t blank = authorization.find(' ');
  if (blank == std::string_view::npos) return false;
  if (!equal_ignoring_case(authorization.substr(0, blank), "bearer")) return false;
  const Digest candidate = digest(trim(authorization.substr(blank)));
  bool found = false;
  for (const Digest& known : digests_) {
    found |= CRYPTO_memcmp(known.data(), candidate.data(), known.size()) == 0;
  }
  return found;
}

TokenSet::Digest TokenSet::digest(std::string_view token) {
  Digest out{};
  SHA256(reinterpret_cast<const unsigned char*>(token.data()), token.size(), out.data());
  return out;
}

}  // namespace postbag

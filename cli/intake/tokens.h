#pragma once

#include <array>
#include <string>
#include <string_view>
#include <vector>

namespace postbag {

// The bearer tokens that may use intake. Only their SHA-256 is kept, and a candidate is compared
// with all of them in constant time. Immutable: any thread.
class TokenSet {
 public:
  // Lines of the token file; blanks around a token and empty lines do not count.
  explicit TokenSet(const std::vector<std::string>& lines);

  bool empty() const { return digests_.empty(); }
  // `authorization` is the value of that header: "Bearer TOKEN".
  bool allows(std::string_view authorization) const;

 private:
  using Digest = std::array<unsigned char, 32>;
  static Digest digest(std::string_view token);
  std::vector<Digest> digests_;
};

}  // namespace postbag

#include "engine/pure/url_hash.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

namespace postbag {

std::uint64_t url_hash(std::string_view url) {
  return XXH3_64bits(url.data(), url.size());
}

}  // namespace postbag

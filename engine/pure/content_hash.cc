#include "engine/pure/content_hash.h"

#include <string>

#define XXH_INLINE_ALL
#include <xxhash.h>

namespace postbag {
namespace {

Hash128 digest(const XXH128_hash_t& hash) {
  return {hash.high64, hash.low64};
}

// The length goes in too, so that no two different lists of fields give the same bytes.
void add_field(std::string& bytes, std::string_view field) {
  const std::uint64_t size = field.size();
  bytes.append(reinterpret_cast<const char*>(&size), sizeof size);
  bytes.append(field);
}

}  // namespace

Hash128 content_hash(const HookView& hook) {
  thread_local std::string bytes;
  bytes.clear();
  for (const std::string_view field :
       {hook.target, hook.group, hook.event, hook.content_type, hook.body}) {
    add_field(bytes, field);
  }
  for (const HeaderView& header : hook.headers) {
    add_field(bytes, header.name);
    add_field(bytes, header.value);
  }
  return digest(XXH3_128bits(bytes.data(), bytes.size()));
}

Hash128 id_hash(std::string_view id) {
  return digest(XXH3_128bits(id.data(), id.size()));
}

}  // namespace postbag

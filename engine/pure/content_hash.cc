#include "engine/pure/content_hash.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

namespace postbag {
namespace {

Hash128 digest(const XXH128_hash_t& hash) {
  return {hash.high64, hash.low64};
}

// The length goes in too, so that no two different lists of fields give the same bytes.
void feed(XXH3_state_t& state, std::string_view field) {
  const std::uint64_t size = field.size();
  XXH3_128bits_update(&state, &size, sizeof size);
  XXH3_128bits_update(&state, field.data(), field.size());
}

}  // namespace

Hash128 content_hash(const HookView& hook) {
  XXH3_state_t state;
  XXH3_128bits_reset(&state);
  for (const std::string_view field :
       {hook.target, hook.group, hook.event, hook.content_type, hook.body}) {
    feed(state, field);
  }
  for (const HeaderView& header : hook.headers) {
    feed(state, header.name);
    feed(state, header.value);
  }
  return digest(XXH3_128bits_digest(&state));
}

Hash128 id_hash(std::string_view id) {
  return digest(XXH3_128bits(id.data(), id.size()));
}

}  // namespace postbag

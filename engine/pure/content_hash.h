#pragma once

#include <array>
#include <cstdint>
#include <string_view>

#include "postbag/hook.h"

namespace postbag {

using Hash128 = std::array<std::uint64_t, 2>;

// Of everything that makes a hook what it is: target, group, event, headers, content type, payload.
Hash128 content_hash(const HookView& hook);
Hash128 id_hash(std::string_view id);

}  // namespace postbag

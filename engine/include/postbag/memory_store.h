#pragma once

#include <memory>

#include "postbag/store.h"

namespace postbag {

// The store's twin without a file: the same contract, nothing survives. For embedders that want no
// file, and for tests. Defined in store/memory_store.cc.
std::unique_ptr<Store> make_memory_store();

}  // namespace postbag

#pragma once

#include <cstdint>
#include <memory>

#include "engine/pure/parcel.h"

namespace postbag {

// A parcel on its way to a shard, made before anything of its call is handed over: the hand-over
// itself takes no memory, so a call goes to all of its shards or to none.
struct InboxParcel {
  Parcel parcel;
  std::uint64_t reserved_bytes = 0;
  bool is_refused = false;      // by the shard, whose thread writes it before its call's end
  std::shared_ptr<void> keep;   // whoever owns this, until the shard is done with it
  InboxParcel* next = nullptr;  // the inbox's
};

}  // namespace postbag

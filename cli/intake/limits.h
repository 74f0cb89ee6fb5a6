#pragma once

#include "postbag/time.h"

namespace postbag {

// How long intake waits for a client.
struct ConnectionLimits {
  Duration head_timeout = std::chrono::seconds(10);   // from its first byte to its last
  Duration body_timeout = std::chrono::seconds(30);   // for the whole body
  Duration write_timeout = std::chrono::seconds(30);  // for an answer, or a piece of one
  Duration idle_timeout = std::chrono::seconds(75);   // between requests
  // For the peer to read the last answer, from its last byte on; as long as a body at most.
  Duration linger_timeout = std::chrono::seconds(2);
};

}  // namespace postbag

// The only source that knows the number, so that a new one compiles nothing else again.
#include "postbag/engine.h"

namespace postbag {

std::string_view version() {
  return POSTBAG_VERSION;
}

}  // namespace postbag

#pragma once

#include <string_view>

namespace postbag {

// True: an object or array as check_json_thoroughly() (engine/pure/json.h) takes it, seen in one
// pass without a copy or an allocation; for the texts that hooks are in half its time. False: not
// known. So it is for a text that is wrong, and for a right one that is no object or array or has
// what is rare in a payload: much that is not ASCII, or surrogates. Any thread.
bool accept_json(std::string_view text);

}  // namespace postbag

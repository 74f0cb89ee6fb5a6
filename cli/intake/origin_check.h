#pragma once

#include "cli/intake/request_head.h"

namespace postbag {

// Whether a browser sent this request for a page of another origin: `Origin`, or a `Sec-Fetch-Site`
// that is neither `none` nor `same-origin`. Any web page may send a simple POST to this machine.
// A browser marks such requests, programs do not. Pure.
bool is_of_foreign_page(const RequestHead& head);

// Whether Host is a name of several labels, as every name is that a stranger can own. A page whose
// own name was made to resolve to this machine (DNS rebinding) sends it, and no Origin with a GET.
// An address, `localhost`, what ends in `.localhost` (RFC 6761, 6.3) and names of one label are of
// this machine or its network. Pure.
bool is_of_public_name(const RequestHead& head);

}  // namespace postbag

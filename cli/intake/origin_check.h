#pragma once

#include "cli/intake/request_head.h"

namespace postbag {

// Whether a browser sent this request for a page of another origin: `Origin`, or a `Sec-Fetch-Site`
// that is neither `none` nor `same-origin`. Any web page may send a simple POST to this machine.
// A browser marks such requests, programs do not. Pure.
bool is_of_foreign_page(const RequestHead& head);

}  // namespace postbag

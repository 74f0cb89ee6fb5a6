#pragma once

#include <string>
#include <string_view>

#include "postbag/time.h"

namespace postbag {

// "HTTP/1.1 202 Accepted\r\n"
void append_status_line(std::string& out, int status);

// One chunk of the chunked coding; `data` is not empty.
void append_chunk(std::string& out, std::string_view data);

// "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n"
std::string date_line(WallMs wall_ms);

}  // namespace postbag

#pragma once

#include <string>
#include <string_view>

namespace postbag {

// What stands for a value that is not shown.
inline constexpr std::string_view masked_header_value = "***";

// The header lines of a receiver's answer as they are shown to people: those that carry cookies,
// credentials or challenges, and what it sent back under a name that the hook's own header lines
// `sent` have, without their values. Pure.
std::string mask_response_headers(std::string_view response, std::string_view sent);

}  // namespace postbag

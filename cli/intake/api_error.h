#pragma once

#include <cstddef>
#include <optional>
#include <string>

#include "postbag/error.h"

namespace postbag {

// An error as intake answers it: {"error": {"code", "message", "index"?}}. Holds no payload and no
// secret.
struct ApiError {
  int status = 400;
  std::string code;
  std::string message;
  std::optional<std::size_t> index;  // which hook of the call, 0-based
};

// The status that an engine error is answered with.
int http_status(Errc error);

}  // namespace postbag

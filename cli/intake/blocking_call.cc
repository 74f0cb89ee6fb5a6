#include "cli/intake/blocking_call.h"

#include <stdexcept>
#include <system_error>

#include "cli/intake/answers.h"

namespace postbag {

Answer guarded(const std::function<Answer()>& job) {
  try {
    return job();
  } catch (const std::bad_alloc&) {
    return error_answer({503, "full", "no room for the request", {}});
  } catch (const std::system_error& error) {
    return error_answer(to_api_error(error.code()));
  } catch (const std::invalid_argument& error) {
    return error_answer({422, "bad_argument", error.what(), {}});
  } catch (const std::exception& error) {
    return error_answer({500, "internal", error.what(), {}});
  }
}

}  // namespace postbag

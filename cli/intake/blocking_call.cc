#include "cli/intake/blocking_call.h"

#include <stdexcept>
#include <system_error>

#include "cli/intake/answers.h"

namespace postbag {

ApiError why_not_started(const WorkerPool& pool) {
  if (pool.is_stopping()) return {503, "stopping", "the daemon is stopping", {}};
  return {503,
          "full",
          "all " + std::to_string(pool.threads()) + " workers of intake are busy and " +
              std::to_string(pool.queue_max()) + " requests wait for one, which is the most",
          {}};
}

Answer answer_of(const std::function<Answer()>& job) {
  try {
    return job();
  } catch (const std::bad_alloc&) {
    return error_answer(out_of_memory());
  } catch (const std::system_error& error) {
    return error_answer(to_api_error(error.code()));
  } catch (const std::invalid_argument& error) {
    return error_answer({422, "bad_argument", error.what(), {}});
  } catch (const std::exception& error) {
    return error_answer({500, "internal", error.what(), {}});
  }
}

}  // namespace postbag

#pragma once

#include <atomic>
#include <memory>

#include "cli/intake/backend.h"
#include "cli/intake/exchange.h"
#include "cli/intake/loop.h"
#include "cli/intake/worker_pool.h"

namespace postbag {

// What runs of retry-failed-hooks need of the server that they are asked of.
struct RetryRoute {
  IntakeBackend& backend;
  std::shared_ptr<IntakeLoop> loop;
  WorkerPool& pool;
  // Set by any thread: runs end after what they have in flight.
  std::shared_ptr<std::atomic<bool>> stop;
  std::shared_ptr<int> runs = std::make_shared<int>(0);  // under way; intake's thread only
};

// POST /v1/failed/retry: a run on a worker, with its progress as a stream if asked for. Answers
// `exchange`, now or later. Intake's thread.
void run_retry(const RetryRoute& route, const std::shared_ptr<Exchange>& exchange,
               RetryOptions options);

}  // namespace postbag

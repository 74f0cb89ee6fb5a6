#pragma once

#include <condition_variable>
#include <cstddef>
#include <functional>
#include <list>
#include <mutex>
#include <thread>
#include <vector>

namespace postbag {

// A few threads for engine calls that block, so that intake's own thread never does. Bounded: a
// full queue is an answer to the caller.
class WorkerPool {
 public:
  WorkerPool(std::size_t threads, std::size_t queue_max);
  ~WorkerPool();
  WorkerPool(const WorkerPool&) = delete;
  WorkerPool& operator=(const WorkerPool&) = delete;

  // False: the queue is full or the pool is stopping; `job` was not taken. Throws std::bad_alloc.
  // Jobs must not throw.
  bool try_run(std::function<void()> job);
  // As try_run() says no to everything.
  bool is_stopping() const;
  std::size_t threads() const { return threads_.size(); }
  std::size_t queue_max() const { return queue_max_; }
  // Waits for the jobs that run; those still in the queue are dropped. Idempotent.
  void stop();

 private:
  void run();

  const std::size_t queue_max_;
  mutable std::mutex mutex_;
  std::condition_variable wake_;
  std::list<std::function<void()>> queue_;  // an empty one takes no memory, so stop() needs none
  bool stopping_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace postbag

#pragma once

#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <utility>

#include "cli/intake/api_error.h"
#include "cli/intake/exchange.h"
#include "cli/intake/loop.h"
#include "cli/intake/worker_pool.h"

namespace postbag {

// Runs an engine call and turns its exceptions into an error answer. Throws std::bad_alloc if there
// is no memory even for that.
Answer answer_of(const std::function<Answer()>& job);

// The answer where BlockingCall::start() says no.
ApiError why_not_started(const WorkerPool& pool);

// An engine call that blocks: runs on a worker and is answered on intake's thread. Everything that
// the way back needs is allocated beforehand; if the answer itself finds no memory, the connection
// ends without one.
class BlockingCall : public LoopWork {
 public:
  BlockingCall(std::shared_ptr<Exchange> exchange, std::function<Answer()> job)
      : exchange_(std::move(exchange)), serial_(exchange_->serial()), job_(std::move(job)) {}

  // Intake's thread. False: the workers have too much to do or are stopping; nothing was begun.
  static bool start(WorkerPool& pool, std::shared_ptr<IntakeLoop> loop,
                    std::shared_ptr<BlockingCall> call) {
    return pool.try_run([loop = std::move(loop), call = std::move(call)] {
      call->work();
      loop->post(call);
    });
  }

  void run() override {
    if (exchange_->serial() != serial_) return dropped();  // that request was answered without it
    if (!failed_) return finish(*exchange_, std::move(answer_));
    exchange_->give_up();
    dropped();
  }

 protected:
  // Intake's thread: one of the two, once.
  virtual void finish(Exchange& exchange, Answer answer) { exchange.answer(std::move(answer)); }
  virtual void dropped() {}

 private:
  // On a worker.
  void work() noexcept {
    try {
      answer_ = answer_of(job_);
    } catch (const std::exception&) {
      failed_ = true;
    }
  }

  const std::shared_ptr<Exchange> exchange_;
  const std::uint64_t serial_;
  const std::function<Answer()> job_;
  Answer answer_;
  bool failed_ = false;
};

}  // namespace postbag

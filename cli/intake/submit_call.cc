#include <mutex>
#include <utility>

#include "cli/intake/router.h"

namespace postbag {
namespace {

// What the way from the engine's answer back to the client needs; one allocation a request.
struct PendingCall {
  std::shared_ptr<IntakeLoop> loop;
  std::shared_ptr<Exchange> exchange;
  std::shared_ptr<RequestBody> body;  // `ids` point into it
  std::vector<std::string_view> ids;
  Durability durability = Durability::memory;
  SubmitResult result;

  Answer accepted() const {
    return result.ok() ? accepted_answer(result, ids, durability)
                       : error_answer(to_api_error(result));
  }
};

// A call that waits for the outcome of all its hooks. The outcomes arrive on engine threads, before
// or after the answer to submit(); the client is answered on intake's thread, once: with the last
// outcome or at the timeout. From that moment, and from the moment the client is gone, outcomes are
// not taken any more.
class WaitingCall : public OutcomeListener, public std::enable_shared_from_this<WaitingCall> {
 public:
  WaitingCall(PendingCall pending, std::size_t hooks)
      : pending_(std::move(pending)), hooks_(hooks), open_(hooks) {}

  // Intake's thread, before submit().
  void start(Duration timeout) {
    timer_ = pending_.loop->after(timeout, [self = shared_from_this()] { self->on_timeout(); });
    pending_.exchange->on_peer_gone([self = shared_from_this()] { self->on_peer_gone(); });
  }

  bool hook_done(std::size_t index, const HookOutcome& outcome) override {
    bool all = false;
    {
      const std::lock_guard lock(mutex_);
      if (gone_) return false;
      if (index >= hooks_.size() || hooks_[index].known) return false;
      hooks_[index] = {true, outcome};
      all = --open_ == 0;
    }
    if (all) pending_.loop->post([self = shared_from_this()] { self->finish_if_complete(); });
    return true;
  }

  // Intake's thread: the engine's answer to submit().
  void on_submitted(SubmitResult result) {
    submitted_ = true;
    pending_.result = std::move(result);
    if (!pending_.result.ok()) {
      detach();
      finish(pending_.accepted());
    } else if (timed_out_) {
      finish_with_outcomes();
    } else {
      finish_if_complete();
    }
  }

 private:
  void on_timeout() {
    timed_out_ = true;
    // Whether the hooks were accepted is not known before the engine's answer: that is waited for.
    if (submitted_) finish_with_outcomes();
  }

  void on_peer_gone() {
    pending_.loop->cancel(timer_);
    detach();
    finished_ = true;
    let_go();
  }

  void finish_if_complete() {
    {
      const std::lock_guard lock(mutex_);
      if (open_ > 0) return;
    }
    if (submitted_) finish_with_outcomes();
  }

  void finish_with_outcomes() {
    detach();
    finish(waited_answer(pending_.result, pending_.ids, pending_.durability, hooks_));
  }

  void finish(Answer answer) {
    if (finished_) return;
    finished_ = true;
    pending_.loop->cancel(timer_);
    pending_.exchange->answer(std::move(answer));
    let_go();
  }

  // The engine may hold this object for long: what belongs to the request ends with the request.
  void let_go() {
    pending_.exchange.reset();
    pending_.ids.clear();
    pending_.body.reset();
  }

  // After it hooks_ does not change any more.
  void detach() {
    const std::lock_guard lock(mutex_);
    gone_ = true;
  }

  PendingCall pending_;
  IntakeLoop::TimerId timer_ = 0;
  bool submitted_ = false;
  bool timed_out_ = false;
  bool finished_ = false;

  std::mutex mutex_;
  std::vector<WaitedHook> hooks_;
  std::size_t open_;
  bool gone_ = false;
};

}  // namespace

void run_submit(IntakeBackend& backend, const std::shared_ptr<IntakeLoop>& loop,
                const std::shared_ptr<Exchange>& exchange, Durability durability, SubmitCall call) {
  PendingCall pending{loop,       exchange, exchange->request().body, std::move(call.ids),
                      durability, {}};
  SubmitOptions options;
  options.want_ids = true;
  // Calls of a few hooks that came together reach the engine together. A large one is worth a wake.
  constexpr std::size_t burst_hooks_max = 16;
  if (call.hooks.size() <= burst_hooks_max) loop->begin_burst();
  if (call.hooks.size() > burst_hooks_max) loop->end_burst();
  if (call.wait) {
    const auto waiting = std::make_shared<WaitingCall>(std::move(pending), call.hooks.size());
    waiting->start(*call.wait);
    options.listener = waiting;
    backend.submit(std::move(call.hooks), std::move(options), [loop, waiting](SubmitResult result) {
      loop->post([waiting, answer = std::move(result)]() mutable {
        waiting->on_submitted(std::move(answer));
      });
    });
    return;
  }
  const auto state = std::make_shared<PendingCall>(std::move(pending));
  if (state->ids.empty())
    state->body.reset();  // the engine's HookList keeps it as long as it needs it
  backend.submit(std::move(call.hooks), std::move(options), [state](SubmitResult result) {
    state->result = std::move(result);
    state->loop->post([state] { state->exchange->answer(state->accepted()); });
  });
}

}  // namespace postbag

#include "cli/intake/submit_call.h"

#include <mutex>
#include <utility>

#include "cli/intake/answers.h"

namespace postbag {
namespace {

// What the way from the engine's answer back to the client needs; one allocation a request, made
// before the engine is asked: once hooks are accepted, nothing on this way may fail unseen.
struct PendingCall : LoopWork {
  PendingCall(std::shared_ptr<IntakeLoop> intake, std::shared_ptr<Exchange> way_back,
              std::vector<std::string_view> own_ids, Durability level)
      : loop(std::move(intake)),
        exchange(std::move(way_back)),
        ids(std::move(own_ids)),
        durability(level) {
    // Without ids nothing points into it: the engine's HookList keeps it as long as it needs it.
    if (!ids.empty()) body = exchange->request().body;
  }

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

  // The engine's answer is in `result`.
  void run() override {
    try {
      exchange->answer(accepted());
    } catch (const std::exception&) {
      exchange->give_up();
    }
  }
};

// A call that waits for the outcome of all its hooks. The outcomes arrive on engine threads, before
// or after the answer to submit(); the client is answered on intake's thread, once: with the last
// outcome (that one is not remembered counts as one), when the store has let go of what failed, or
// at the timeout. From then on, and from the moment the client is gone, outcomes are not taken any
// more. A client that has finished sending may be gone: it is told of what was delivered, but what
// fails is kept, which ends the wait (504).
class WaitingCall : public OutcomeListener, public std::enable_shared_from_this<WaitingCall> {
 public:
  WaitingCall(PendingCall& pending, std::size_t hooks)
      : loop_(pending.loop),
        exchange_(std::move(pending.exchange)),
        body_(std::move(pending.body)),
        ids_(std::move(pending.ids)),
        durability_(pending.durability),
        on_submitted_(*this),
        on_complete_(*this),
        hooks_(hooks),
        open_(hooks) {}

  // Intake's thread, before submit().
  void start(Duration timeout) {
    timer_ = loop_->after(timeout, [self = shared_from_this()] { self->on_timeout(); });
    exchange_->on_peer_gone([self = shared_from_this()] { self->on_peer_gone(); },
                            [self = shared_from_this()] { self->on_peer_finished(); });
  }

  // Any thread, once: the engine's answer to submit().
  void submitted(SubmitResult result) noexcept {
    result_ = std::move(result);
    loop_->post(std::shared_ptr<LoopWork>(shared_from_this(), &on_submitted_));
  }

  bool hook_done(std::size_t index, const HookOutcome& outcome) override {
    bool all = false;
    {
      const std::lock_guard lock(mutex_);
      if (gone_) return false;
      if (index >= hooks_.size() || hooks_[index].known) return false;
      if (!outcome.delivered && client_finished_) {
        if (std::exchange(kept_one_, true)) return false;
        loop_->post(std::shared_ptr<LoopWork>(shared_from_this(), &on_complete_));
        return false;
      }
      hooks_[index] = {true, outcome};
      if (!outcome.delivered) return true;
      all = --open_ == 0;
    }
    if (all) loop_->post(std::shared_ptr<LoopWork>(shared_from_this(), &on_complete_));
    return true;
  }

  void hook_forgotten(std::size_t index) override {
    {
      const std::lock_guard lock(mutex_);
      if (gone_ || index >= hooks_.size() || hooks_[index].known || hooks_[index].forgotten) return;
      hooks_[index].forgotten = true;
      if (--open_ > 0) return;
    }
    loop_->post(std::shared_ptr<LoopWork>(shared_from_this(), &on_complete_));
  }

  bool is_gone() override {
    const std::lock_guard lock(mutex_);
    return gone_;
  }

  void hook_settled(std::size_t) override {
    {
      const std::lock_guard lock(mutex_);
      if (--open_ > 0) return;
    }
    loop_->post(std::shared_ptr<LoopWork>(shared_from_this(), &on_complete_));
  }

 private:
  // Something happened: intake looks whether that is the end.
  struct Look : LoopWork {
    explicit Look(WaitingCall& owner) : call(owner) {}
    void run() override { call.look(this == &call.on_submitted_); }
    WaitingCall& call;
  };

  // Intake's thread. Without memory for the answer the connection ends without one.
  void look(bool submitted) {
    submitted_ = submitted_ || submitted;
    // Whether the hooks were accepted is not known before the engine's answer: that is waited for.
    if (!submitted_ || finished_) return;
    try {
      finish_if_ended();
    } catch (const std::exception&) {
      end();
      exchange_->give_up();
      let_go();
    }
  }

  void finish_if_ended() {
    if (!result_.ok()) {
      detach();
      finish(error_answer(to_api_error(result_)));
    } else if (timed_out_ || is_over()) {
      detach();
      finish(waited_answer(result_, ids_, durability_, hooks_));
    }
  }

  void on_timeout() {
    timed_out_ = true;
    look(false);
  }

  void on_peer_gone() {
    end();
    let_go();
  }

  void on_peer_finished() {
    const std::lock_guard lock(mutex_);
    client_finished_ = true;
  }

  bool is_over() {
    const std::lock_guard lock(mutex_);
    return open_ == 0 || kept_one_;
  }

  void finish(Answer answer) {
    end();
    exchange_->answer(std::move(answer));
    let_go();
  }

  void end() {
    finished_ = true;
    loop_->cancel(timer_);
    detach();
  }

  // The engine may hold this object for long: what belongs to the request ends with the request.
  void let_go() {
    exchange_.reset();
    ids_.clear();
    body_.reset();
    const std::lock_guard lock(mutex_);
    hooks_ = {};
  }

  // After it hooks_ does not change any more.
  void detach() {
    const std::lock_guard lock(mutex_);
    gone_ = true;
  }

  const std::shared_ptr<IntakeLoop> loop_;
  std::shared_ptr<Exchange> exchange_;
  std::shared_ptr<RequestBody> body_;  // `ids_` point into it
  std::vector<std::string_view> ids_;
  const Durability durability_;
  Look on_submitted_, on_complete_;
  SubmitResult result_;  // intake's once on_submitted_ runs
  IntakeLoop::TimerId timer_ = 0;
  bool submitted_ = false;
  bool timed_out_ = false;
  bool finished_ = false;

  std::mutex mutex_;
  std::vector<WaitedHook> hooks_;
  std::size_t open_;  // wait for their outcome, or failed and are not settled
  bool gone_ = false;
  bool client_finished_ = false;
  bool kept_one_ = false;  // failed since then
};

}  // namespace

void run_submit(IntakeBackend& backend, const std::shared_ptr<IntakeLoop>& loop,
                const std::shared_ptr<Exchange>& exchange, Durability durability, SubmitCall call) {
  const auto state = std::make_shared<PendingCall>(loop, exchange, std::move(call.ids), durability);
  SubmitOptions options;
  options.want_ids = true;
  // Calls of a few hooks that came together reach the engine together. A large one is worth a wake.
  constexpr std::size_t burst_hooks_max = 16;
  if (call.hooks.size() <= burst_hooks_max) loop->begin_burst();
  if (call.hooks.size() > burst_hooks_max) loop->end_burst();
  if (call.wait) {
    const auto waiting = std::make_shared<WaitingCall>(*state, call.hooks.size());
    waiting->start(*call.wait);
    options.listener = waiting;
    backend.submit(std::move(call.hooks), std::move(options),
                   [waiting](SubmitResult result) { waiting->submitted(std::move(result)); });
    return;
  }
  backend.submit(std::move(call.hooks), std::move(options), [state](SubmitResult result) {
    state->result = std::move(result);
    state->loop->post(state);
  });
}

}  // namespace postbag

#include "cli/intake/loop.h"

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <utility>

namespace postbag {

namespace asio = boost::asio;

namespace {

// A wake that waits for more calls than this gains little more, and the shard has work by then.
constexpr int burst_calls_max = 32;

}  // namespace

struct IntakeLoop::Timer {
  Timer(asio::io_context& context, std::function<void()> function)
      : timer(context), work(std::move(function)) {}
  asio::steady_timer timer;
  std::function<void()> work;
};

struct IntakeLoop::Guard {
  explicit Guard(asio::io_context& context) : guard(context.get_executor()) {}
  asio::executor_work_guard<asio::io_context::executor_type> guard;
};

IntakeLoop::IntakeLoop()
    : context_(std::make_unique<asio::io_context>(1)), guard_(std::make_unique<Guard>(*context_)) {}

IntakeLoop::~IntakeLoop() = default;

void IntakeLoop::post(std::function<void()> work) {
  const std::lock_guard lock(mutex_);
  if (closed_) return;
  inbox_.push_back(std::move(work));
  if (wake_ == Wake::sent) return;
  if (HeldWakes::active()) {
    if (wake_ == Wake::held) return;
    if (HeldWakes::hold(shared_from_this())) {
      wake_ = Wake::held;
      return;
    }
  }
  wake();
}

void IntakeLoop::wake_now() {
  const std::lock_guard lock(mutex_);
  if (wake_ == Wake::held && !closed_) wake();
}

void IntakeLoop::wake() {
  wake_ = Wake::sent;
  // Weak: work that waits in the context must not keep the context alive.
  asio::post(*context_, [weak = weak_from_this()] {
    if (const auto self = weak.lock()) self->drain_inbox();
  });
}

void IntakeLoop::drain_inbox() {
  std::vector<std::function<void()>> works;
  {
    const std::lock_guard lock(mutex_);
    works.swap(inbox_);
    wake_ = Wake::none;
  }
  for (auto& work : works) {
    work();
    work = nullptr;  // what it holds is let go before the next one runs
  }
}

void IntakeLoop::close() {
  std::vector<std::function<void()>> dropped;
  {
    const std::lock_guard lock(mutex_);
    closed_ = true;
    dropped.swap(inbox_);
  }
  guard_.reset();
}

IntakeLoop::TimerId IntakeLoop::after(Duration delay, std::function<void()> work) {
  const TimerId id = next_timer_++;
  const auto it = timers_.emplace(id, std::make_unique<Timer>(*context_, std::move(work))).first;
  it->second->timer.expires_after(delay);
  it->second->timer.async_wait([weak = weak_from_this(), id](boost::system::error_code) {
    const auto self = weak.lock();
    if (!self) return;
    const auto found = self->timers_.find(id);
    if (found == self->timers_.end()) return;  // cancelled
    const auto function = std::move(found->second->work);
    self->timers_.erase(found);
    function();
  });
  return id;
}

void IntakeLoop::cancel(TimerId timer) {
  timers_.erase(timer);
}

void IntakeLoop::fire_all() {
  for (auto& [id, timer] : timers_)
    timer->timer.expires_at(std::chrono::steady_clock::time_point::min());
}

void IntakeLoop::begin_burst() {
  if (burst_ && ++burst_calls_ > burst_calls_max) end_burst();
  if (burst_) return;
  if (!burst_end_posted_) {
    // Comes behind everything that is ready by now.
    asio::post(*context_, [weak = weak_from_this()] {
      const auto self = weak.lock();
      if (!self) return;
      self->burst_end_posted_ = false;
      self->end_burst();
    });
    burst_end_posted_ = true;
  }
  burst_.emplace();
  burst_calls_ = 1;
}

void IntakeLoop::end_burst() {
  burst_.reset();
}

std::size_t IntakeLoop::run_ready() {
  return context_->poll();
}

void IntakeLoop::run() {
  context_->run();
  end_burst();
}

}  // namespace postbag

#include "cli/intake/loop.h"

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <utility>

namespace postbag {

namespace asio = boost::asio;

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
  {
    const std::lock_guard lock(mutex_);
    if (closed_) return;
    inbox_.push_back(std::move(work));
    if (inbox_.size() > 1) return;  // a wake is under way
  }
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

void IntakeLoop::run() {
  context_->run();
}

}  // namespace postbag

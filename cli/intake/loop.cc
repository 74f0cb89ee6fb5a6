#include "cli/intake/loop.h"

#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <utility>

#include "engine/shell/loop_waker.h"

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

IntakeLoop::IntakeLoop()
    : context_(std::make_unique<asio::io_context>(1)),
      waker_(std::make_unique<LoopWaker>(*context_, wake_memory_, [this] { drain_inbox(); })) {}

IntakeLoop::~IntakeLoop() {
  close();
}

void IntakeLoop::post(std::shared_ptr<LoopWork> work) noexcept {
  bool wakes = false;
  {
    const std::lock_guard lock(mutex_);
    if (closed_) return;
    LoopWork* const node = work.get();
    node->next_ = nullptr;
    node->keep_ = std::move(work);
    (inbox_tail_ != nullptr ? inbox_tail_->next_ : inbox_head_) = node;
    inbox_tail_ = node;
    wakes = wake_.want(true, [this] { return shared_from_this(); });
  }
  if (wakes) waker_->wake();
}

void IntakeLoop::post(std::function<void()> work) {
  struct Function : LoopWork {
    explicit Function(std::function<void()> wrapped) : function(std::move(wrapped)) {}
    void run() override { function(); }
    std::function<void()> function;
  };
  post(std::make_shared<Function>(std::move(work)));
}

void IntakeLoop::wake_now() {
  bool wakes = false;
  {
    const std::lock_guard lock(mutex_);
    wakes = wake_.want_held();
  }
  if (wakes) waker_->wake();
}

void IntakeLoop::drain_inbox() {
  LoopWork* node = nullptr;
  {
    const std::lock_guard lock(mutex_);
    node = std::exchange(inbox_head_, nullptr);
    inbox_tail_ = nullptr;
    wake_.taken();
  }
  // Also when one throws: what comes behind it must run.
  struct Rest {
    ~Rest() {
      if (node != nullptr) loop.put_back(node);
    }
    IntakeLoop& loop;
    LoopWork*& node;
  } rest{*this, node};
  while (node != nullptr) {
    const auto kept = std::move(node->keep_);  // let go before the next one runs
    node = node->next_;
    kept->run();
  }
}

void IntakeLoop::put_back(LoopWork* first) noexcept {
  bool wakes = false;
  {
    const std::lock_guard lock(mutex_);
    LoopWork* last = first;
    while (last->next_ != nullptr) last = last->next_;
    last->next_ = inbox_head_;
    inbox_head_ = first;
    if (inbox_tail_ == nullptr) inbox_tail_ = last;
    wakes = wake_.want_now();
  }
  if (wakes) waker_->wake();
}

void IntakeLoop::close() {
  LoopWork* dropped = nullptr;
  {
    const std::lock_guard lock(mutex_);
    closed_ = true;
    dropped = std::exchange(inbox_head_, nullptr);
    inbox_tail_ = nullptr;
  }
  while (dropped != nullptr) {
    LoopWork* const next = dropped->next_;
    dropped->keep_.reset();
    dropped = next;
  }
  waker_->stop();
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
    asio::post(*context_, HandlerIn(burst_memory_, [this] {
      burst_end_posted_ = false;
      end_burst();
    }));
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

#include "engine/shell/loop_waker.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <boost/asio/buffer.hpp>
#include <cerrno>
#include <system_error>
#include <utility>

namespace postbag {
namespace {

int make_event() {
  const int event = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  if (event < 0) throw std::system_error(errno, std::system_category(), "eventfd");
  return event;
}

}  // namespace

LoopWaker::LoopWaker(boost::asio::io_context& io, HandlerMemory& memory,
                     std::function<void()> on_wake)
    : memory_(memory), on_wake_(std::move(on_wake)), event_(io, make_event()) {
  wait();
}

void LoopWaker::wake() noexcept {
  const std::uint64_t one = 1;
  // It can only fail where the count is full: then the other side has not been there for ages.
  [[maybe_unused]] const auto written = ::write(event_.native_handle(), &one, sizeof one);
}

void LoopWaker::stop() noexcept {
  stopped_ = true;
  wake();
}

void LoopWaker::wait() {
  event_.async_read_some(boost::asio::buffer(&count_, sizeof count_),
                         HandlerIn(memory_, [this](boost::system::error_code error, std::size_t) {
                           if (error) return;      // the end
                           if (!stopped_) wait();  // first: what follows may throw
                           on_wake_();
                         }));
}

}  // namespace postbag

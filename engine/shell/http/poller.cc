#include "engine/shell/http/poller.h"

#include <algorithm>
#include <cerrno>
#include <system_error>

namespace postbag {

std::shared_ptr<Poller> Poller::make(boost::asio::io_context& io) {
  const int epoll = epoll_create1(EPOLL_CLOEXEC);
  if (epoll < 0) throw std::system_error(errno, std::system_category(), "epoll");
  std::shared_ptr<Poller> made(new Poller(io, epoll));
  made->wait();
  return made;
}

bool Poller::add(int descriptor, PollerClient& client) {
  epoll_event event{};
  event.events = EPOLLIN | EPOLLRDHUP;
  event.data.ptr = &client;
  return epoll_ctl(epoll_.native_handle(), EPOLL_CTL_ADD, descriptor, &event) == 0;
}

void Poller::watch_writing(int descriptor, PollerClient& client, bool wanted) {
  epoll_event event{};
  event.events = EPOLLIN | EPOLLRDHUP | (wanted ? EPOLLOUT : 0u);
  event.data.ptr = &client;
  epoll_ctl(epoll_.native_handle(), EPOLL_CTL_MOD, descriptor, &event);
}

void Poller::remove(int descriptor, PollerClient& client) {
  epoll_event unused{};
  epoll_ctl(epoll_.native_handle(), EPOLL_CTL_DEL, descriptor, &unused);
  // What was seen of it in this round is not handed out any more.
  for (int i = next_; i < count_; ++i) {
    epoll_event& event = events_[static_cast<std::size_t>(i)];
    if (event.data.ptr == &client) event.data.ptr = nullptr;
  }
}

void Poller::stop() {
  stopped_ = true;
  boost::system::error_code ignored;
  epoll_.close(ignored);
}

void Poller::wait() {
  epoll_.async_wait(Descriptor::wait_read, [self = shared_from_this()](const auto& error) {
    if (!error && !self->stopped_) self->dispatch();
  });
}

void Poller::dispatch() {
  next_ = 0;
  ++rounds_;
  count_ = std::max(0, epoll_wait(epoll_.native_handle(), events_.data(), events_max, 0));
  while (next_ < count_) {
    const epoll_event& event = events_[static_cast<std::size_t>(next_++)];
    auto* const client = static_cast<PollerClient*>(event.data.ptr);
    if (client == nullptr) continue;
    const bool readable = (event.events & ~static_cast<std::uint32_t>(EPOLLOUT)) != 0;
    const bool writable = (event.events & EPOLLOUT) != 0;
    client->ready(readable, writable);
    if (stopped_) return;
  }
  count_ = 0;
  if (round_end_) round_end_();
  if (!stopped_) wait();
}

}  // namespace postbag

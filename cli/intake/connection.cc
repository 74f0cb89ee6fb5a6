#include "cli/intake/connection.h"

#include <sys/socket.h>

#include <algorithm>
#include <boost/asio/buffer.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/write.hpp>
#include <cstring>
#include <utility>

namespace postbag {
namespace {

namespace asio = boost::asio;
using boost::system::error_code;

constexpr std::size_t input_bytes_min = 4 * 1024;
constexpr std::size_t input_bytes_max = 2 * head_bytes_max;
constexpr std::size_t discard_max = 64 << 20;

}  // namespace

IntakeConnection::IntakeConnection(std::shared_ptr<IntakeLoop> loop, Socket socket, bool local,
                                   Shared& shared)
    : loop_(std::move(loop)), socket_(std::move(socket)), shared_(&shared) {
  request_.local = local;
  in_.resize(input_bytes_min);
}

void IntakeConnection::start() {
  guard([this] { next_request(); });
}

void IntakeConnection::give_up(const char* what) noexcept {
  if (state_ == State::closed) return;
  shared_->on_give_up(what);
  close();
}

void IntakeConnection::enter(State state, Duration timeout) {
  state_ = state;
  deadline_ = shared_->clock() + timeout;
}

void IntakeConnection::enter(State state) {
  state_ = state;
  deadline_ = time_point_never;
}

void IntakeConnection::check_deadline(TimePoint now) {
  if (now < deadline_) return;
  switch (state_) {
    case State::reading_head:
      if (!head_begun_) return close();
      [[fallthrough]];
    case State::reading_body: {
      error_code ignored;
      socket_.cancel(ignored);
      return guard([this] {
        refuse({408, "request_timeout", "the request did not arrive in time", {}});
      });
    }
    case State::handling:
    case State::streaming:
    case State::writing:
    case State::lingering:
      return close();
    case State::closed:
      return;
  }
}

bool IntakeConnection::is_idle() {
  if (state_ != State::reading_head || head_begun_ || !input().empty()) return false;
  if (in_[in_end_] != '\0') return false;  // read_more() has got something, its handler waits
  char byte;
  return ::recv(socket_.native_handle(), &byte, 1, MSG_PEEK | MSG_DONTWAIT) <= 0;
}

void IntakeConnection::finish() {
  finishing_ = true;
  close_after_ = true;
  const bool answered = state_ == State::writing || (state_ == State::streaming && stream_ended_);
  if (!answered) close();
}

void IntakeConnection::close() noexcept {
  if (state_ == State::closed) return;
  enter(State::closed);
  error_code ignored;
  socket_.close(ignored);
  const auto gone = std::exchange(peer_gone_, nullptr);
  forget_peer_handlers();
  if (gone) gone();
  release_chunked();
  request_.body.reset();
  std::exchange(shared_, nullptr)->on_closed(*this);
}

// Reading

void IntakeConnection::consume(std::size_t bytes) {
  in_begin_ += bytes;
  if (in_begin_ == in_end_) in_begin_ = in_end_ = 0;
}

void IntakeConnection::read_more() {
  if (in_begin_ > 0 && in_.size() - in_end_ < input_bytes_min / 2) {
    std::memmove(in_.data(), in_.data() + in_begin_, in_end_ - in_begin_);
    in_end_ -= in_begin_;
    in_begin_ = 0;
  }
  if (in_end_ == in_.size()) in_.resize(std::min(in_.size() * 2, input_bytes_max));
  in_[in_end_] = '\0';  // is_idle() looks at it; no request begins so
  socket_.async_read_some(
      asio::buffer(in_.data() + in_end_, in_.size() - in_end_),
      HandlerIn(read_memory_, [self = shared_from_this()](error_code error, std::size_t bytes) {
        self->guard([&] { self->on_read(error, bytes); });
      }));
}

// Behind what is to be done now, answers to others in the main: nothing stands between their system
// calls, whoever reads them finds several, and by then there is something to read here.
void IntakeConnection::read_later() {
  if (in_end_ < in_.size()) in_[in_end_] = '\0';  // as read_more()
  asio::post(loop_->context(), HandlerIn(read_memory_, [self = shared_from_this()] {
               if (self->state_ == State::reading_head) self->guard([&] { self->read_more(); });
             }));
}

void IntakeConnection::on_read(error_code error, std::size_t bytes) {
  if (state_ != State::reading_head && state_ != State::reading_body) return;
  if (error) return close();
  in_end_ += bytes;
  if (state_ == State::reading_head) return process_input();
  process_chunked();
}

void IntakeConnection::process_input() {
  // RFC 9112 2.2: some clients send an empty line behind a body.
  if (scanned_ == 0 && input().starts_with("\r\n")) consume(2);
  if (input().empty() || input() == "\r") return read_more();
  const HeadEnd end = find_head_end(input(), scanned_);
  if (end.state == HeadEnd::State::bad) {
    return refuse(
        {400, "bad_request", "the request head has a line that does not end with CRLF", {}});
  }
  const std::size_t bytes = end.state == HeadEnd::State::complete ? end.bytes : in_end_ - in_begin_;
  if (bytes > head_bytes_max)
    return refuse({431, "head_too_large", "the request head is too large", {}});
  if (end.state == HeadEnd::State::complete) return start_request(bytes);
  if (!head_begun_) {
    head_begun_ = true;
    enter(State::reading_head, shared_->limits.head_timeout);
  }
  read_more();
}

void IntakeConnection::start_request(std::size_t head_bytes) {
  head_.assign(input().substr(0, head_bytes));
  consume(head_bytes);
  scanned_ = 0;
  head_begun_ = false;
  ++shared_->requests;
  ++serial_;
  if (const auto error = check_request_head(head_, request_.head)) {
    return refuse({error->status, "bad_request", std::string(error->message), {}});
  }
  Router::HeadVerdict verdict = shared_->router.judge_head(request_);
  if (verdict.refusal) {
    // What is not read of the body would be taken for the next request.
    if (request_.head.has_body()) verdict.refusal->close = true;
    enter(State::handling);
    return answer_now(*verdict.refusal);
  }
  body_max_ = verdict.body_max;
  if (request_.head.content_length.value_or(0) > body_max_) {
    return refuse(body_too_large(body_max_));
  }
  if (!request_.head.has_body()) return handle();
  start_body();
}

void IntakeConnection::start_body() {
  enter(State::reading_body, shared_->limits.body_timeout);
  const bool wants_continue = request_.head.expect_continue && input().empty();
  if (request_.head.chunked) {
    chunked_ = std::make_unique<ChunkedBody>(head_, body_max_);
    return wants_continue ? send_continue() : process_chunked();
  }
  request_.body = std::make_shared<RequestBody>(shared_->budget, *request_.head.content_length);
  RequestBody& body = *request_.body;
  const std::size_t there = std::min(body.missing(), input().size());
  std::memcpy(body.free_begin(), input().data(), there);
  consume(there);
  if (!body.receive(there)) return refuse(bodies_full(*shared_->budget));
  if (body.missing() == 0) return handle();
  return wants_continue ? send_continue() : read_sized_body();
}

void IntakeConnection::send_continue() {
  static constexpr std::string_view text = "HTTP/1.1 100 Continue\r\n\r\n";
  asio::async_write(
      socket_, asio::buffer(text),
      HandlerIn(write_memory_, [self = shared_from_this()](error_code error, std::size_t) {
        if (self->state_ != State::reading_body) return;
        if (error) return self->close();
        self->guard([&] { self->chunked_ ? self->read_more() : self->read_sized_body(); });
      }));
}

void IntakeConnection::read_sized_body() {
  RequestBody& body = *request_.body;
  // The handler keeps the body: it is being written to.
  socket_.async_read_some(asio::buffer(body.free_begin(), body.missing()),
                          HandlerIn(read_memory_, [self = shared_from_this(), keep = request_.body](
                                                      error_code error, std::size_t bytes) {
                            self->guard([&] { self->on_sized_body(error, bytes); });
                          }));
}

void IntakeConnection::on_sized_body(error_code error, std::size_t bytes) {
  if (state_ != State::reading_body) return;
  if (error) return close();
  if (!request_.body->receive(bytes)) return refuse(bodies_full(*shared_->budget));
  if (request_.body->missing() == 0) return handle();
  read_sized_body();
}

void IntakeConnection::process_chunked() {
  std::size_t used = 0;
  const ChunkedBody::State state = chunked_->put(input(), used);
  consume(used);
  const std::size_t grown = chunked_->body().size() - chunked_charged_;
  if (!shared_->budget->try_charge(grown)) return refuse(bodies_full(*shared_->budget));
  chunked_charged_ += grown;
  switch (state) {
    case ChunkedBody::State::need_more:
      if (input().size() < input_bytes_max) return read_more();
      [[fallthrough]];
    case ChunkedBody::State::bad:
      return refuse({400, "bad_request", std::string(chunked_->problem()), {}});
    case ChunkedBody::State::too_large:
      return refuse(body_too_large(body_max_));
    case ChunkedBody::State::done:
      break;
  }
  request_.body = std::make_shared<RequestBody>(shared_->budget, chunked_->body());
  chunked_charged_ = 0;  // the body has it now
  chunked_.reset();
  handle();
}

void IntakeConnection::release_chunked() {
  if (shared_ != nullptr) shared_->budget->release(std::exchange(chunked_charged_, 0));
  chunked_.reset();
}

// Closing

void IntakeConnection::linger() {
  // Closing while bytes of the peer are unread would reset the connection and take the answer with
  // it.
  error_code ignored;
  socket_.shutdown(Socket::shutdown_send, ignored);
  forget_request();
  enter(State::lingering, shared_->limits.linger_timeout);
  linger_end_ = shared_->clock() + shared_->limits.body_timeout;
  in_begin_ = in_end_ = 0;
  if (finishing_) return close();
  read_to_discard();
}

void IntakeConnection::read_to_discard() {
  socket_.async_read_some(
      asio::buffer(in_.data(), in_.size()),
      HandlerIn(read_memory_, [self = shared_from_this()](error_code error, std::size_t bytes) {
        if (self->state_ != State::lingering) return;
        self->discarded_ += bytes;
        if (error || self->discarded_ > discard_max) return self->close();
        // It still sends, and reads the answer only afterwards.
        self->deadline_ = std::min(self->shared_->clock() + self->shared_->limits.linger_timeout,
                                   self->linger_end_);
        self->guard([&] { self->read_to_discard(); });
      }));
}

}  // namespace postbag

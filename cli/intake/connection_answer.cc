// What a connection writes: answers, whole ones and streams.
#include <sys/socket.h>

#include <boost/asio/buffer.hpp>
#include <boost/asio/write.hpp>
#include <utility>

#include "cli/intake/connection.h"
#include "cli/intake/http_text.h"

namespace postbag {
namespace {

namespace asio = boost::asio;
using boost::system::error_code;

// Memory that a connection keeps between its requests.
constexpr std::size_t output_kept_max = 64 * 1024;

}  // namespace

void IntakeConnection::handle() {
  enter(State::handling);
  try {
    shared_->router.handle(shared_from_this());
  } catch (const std::exception&) {  // no memory, in the main
    answer_now(error_answer(out_of_memory()));
  }
}

void IntakeConnection::refuse(ApiError error) {
  enter(State::handling);
  Answer refusal = error_answer(error);
  refusal.close = true;
  answer_now(refusal);
}

void IntakeConnection::answer(Answer answer) {
  guard([&] { answer_now(answer); });
}

void IntakeConnection::answer_now(const Answer& answer) {
  if (state_ != State::handling) return;
  if (answer.error) shared_->router.note_error(answer);
  if (std::exchange(watching_, false)) {
    error_code ignored;
    socket_.cancel(ignored);
  }
  forget_peer_handlers();
  request_.body.reset();
  close_after_ =
      close_after_ || answer.close || !request_.head.keep_alive || shared_->router.stopping();
  write_answer(answer);
}

void IntakeConnection::write_answer(const Answer& answer) {
  out_.clear();
  append_answer_head(out_, answer,
                     {shared_->date_line, close_after_, request_.head.minor_version == 0});
  if (request_.head.method != "HEAD") out_ += answer.body;
  enter(State::writing, shared_->limits.write_timeout);
  write_out();
}

void IntakeConnection::write_out() {
  std::size_t written = 0;
  // Most answers fit into the socket's buffer: written here they cost no turn of the loop. With a
  // next request in hand the loop keeps the stack flat.
  if (state_ == State::writing && input().empty()) {
    const ssize_t bytes =
        ::send(socket_.native_handle(), out_.data(), out_.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    if (bytes > 0) written = static_cast<std::size_t>(bytes);
    if (written == out_.size()) return on_written({});
  }
  writing_ = true;
  asio::async_write(
      socket_, asio::buffer(out_) + written,
      HandlerIn(write_memory_, [self = shared_from_this()](error_code error, std::size_t) {
        self->guard([&] { self->on_written(error); });
      }));
}

void IntakeConnection::on_written(error_code error) {
  writing_ = false;
  if (state_ == State::closed) return;
  if (error) return close();
  if (state_ == State::streaming) {
    if (!pending_.empty()) {
      out_.swap(pending_);
      pending_.clear();
      enter(State::streaming, shared_->limits.write_timeout);
      return write_out();
    }
    if (!stream_ended_) return enter(State::streaming);
  }
  if (close_after_) return linger();
  next_request();
}

void IntakeConnection::next_request() {
  forget_request();
  enter(State::reading_head, shared_->limits.idle_timeout);
  if (input().empty()) return read_later();
  process_input();
}

void IntakeConnection::forget_request() {
  release_chunked();
  const bool local = request_.local;
  request_.body.reset();
  request_.head.method = {};
  request_.head.minor_version = 1;
  request_.head.keep_alive = true;
  request_.local = local;
  stream_ended_ = false;
  if (out_.capacity() > output_kept_max) out_ = std::string();
}

void IntakeConnection::begin_stream(std::string_view content_type) {
  if (state_ != State::handling) return;
  guard([&] { write_stream_head(content_type); });
}

void IntakeConnection::write_stream_head(std::string_view content_type) {
  stream_chunked_ = request_.head.minor_version == 1;
  close_after_ =
      close_after_ || !request_.head.keep_alive || !stream_chunked_ || shared_->router.stopping();
  out_.clear();
  append_stream_head(out_, content_type, stream_chunked_, {shared_->date_line, close_after_});
  enter(State::streaming, shared_->limits.write_timeout);
  write_out();
}

void IntakeConnection::write_piece(std::string_view piece) {
  if (state_ != State::streaming || stream_ended_ || piece.empty()) return;
  guard([&] {
    if (stream_chunked_) append_chunk(pending_, piece);
    if (!stream_chunked_) pending_ += piece;
    if (!writing_) on_written({});
  });
}

void IntakeConnection::end_stream() {
  if (state_ != State::streaming || stream_ended_) return;
  stream_ended_ = true;
  if (std::exchange(watching_, false)) {
    forget_peer_handlers();  // nothing is left to be stopped
    error_code ignored;
    if (!writing_) socket_.cancel(ignored);
  }
  guard([&] {
    if (stream_chunked_) pending_ += "0\r\n\r\n";
    if (!writing_) on_written({});
  });
}

}  // namespace postbag

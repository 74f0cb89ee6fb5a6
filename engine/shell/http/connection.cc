#include "engine/shell/http/connection.h"

#include <sys/socket.h>
#include <sys/types.h>
#include <unistd.h>

#include <algorithm>
#include <boost/asio/error.hpp>
#include <cerrno>
#include <cstring>
#include <utility>

#include "engine/pure/check.h"
#include "engine/pure/wire.h"
#include "engine/shell/http/transport_impl.h"

namespace postbag {
namespace {

// Up to here a copy is cheaper than the pieces of a gathered write.
constexpr std::size_t copied_request_bytes_max = 2048;
constexpr std::size_t tls_output_bytes_max = 64 * 1024;  // encrypted ahead of the socket

iovec to_piece(std::string_view bytes) {
  return {const_cast<char*>(bytes.data()), bytes.size()};
}

}  // namespace

Connection::Connection(HttpTransport& owner, Pool& pool)
    : owner_(&owner),
      pool_(pool),
      phase_(AttemptDeadline::Kind::phase, this),
      step_(AttemptDeadline::Kind::step, this) {}

void Connection::send(Attempt& attempt) {
  attempt_ = &attempt;
  attempt.connection = this;
  reused_ = true;
  begin_exchange();
}

void Connection::begin_exchange() {
  state_ = State::busy;
  reader_.reset();
  written_ = draining_ = false;
  piece_ = piece_offset_ = 0;
  write_some();
}

void Connection::close() {
  if (owner_ == nullptr) return;
  const boost::intrusive_ptr<Connection> self(this);  // the transport may hold the last reference
  HttpTransport* const owner = std::exchange(owner_, nullptr);
  phase_.unlink();
  step_.unlink();
  if (tls_) {
    if (state_ == State::idle && tls_->output().empty()) {
      tls_->close();
      const std::string_view goodbye = tls_->output();
      ::send(socket_, goodbye.data(), goodbye.size(), MSG_NOSIGNAL);
    }
    tls_.reset();  // it refers to the pool
  }
  state_ = State::closed;
  if (socket_ >= 0) {
    owner->poller().remove(socket_, *this);
    ::close(std::exchange(socket_, -1));
  }
  dialling_.reset();
  owner->closed(*this);
}

// ---- Writing

std::string_view Connection::piece(std::size_t number) const {
  const AttemptRequest& request = attempt_->request;
  return number == 0 ? request.head : request.body[number - 1];
}

bool Connection::request_left() const {
  return attempt_ != nullptr && piece_ <= attempt_->request.body.size();
}

void Connection::advance(std::size_t count) {
  while (request_left()) {
    const std::size_t left = piece(piece_).size() - piece_offset_;
    if (count < left) {
      piece_offset_ += count;
      return;
    }
    count -= left;
    ++piece_;
    piece_offset_ = 0;
  }
}

// What is left of a small request, as one piece.
std::size_t Connection::gather_copied() {
  char* const copy = owner_->record.data();
  char* end = copy;
  std::size_t room = owner_->record.size();
  std::size_t offset = piece_offset_;
  for (std::size_t i = piece_; i <= attempt_->request.body.size(); ++i, offset = 0) {
    const std::string_view bytes = piece(i).substr(offset);
    check(bytes.size() <= room);
    std::memcpy(end, bytes.data(), bytes.size());
    end += bytes.size();
    room -= bytes.size();
  }
  owner_->pieces.front() = {copy, static_cast<std::size_t>(end - copy)};
  return end != copy ? 1 : 0;
}

// Head and body as they lie in memory, as many pieces as one system call takes.
std::size_t Connection::gather_plain() {
  std::size_t count = 0;
  if (attempt_->request.head.size() + attempt_->request.body_bytes <= copied_request_bytes_max) {
    return gather_copied();
  }
  std::size_t offset = piece_offset_;
  const std::size_t end = attempt_->request.body.size() + 1;
  for (std::size_t i = piece_; i < end && count < owner_->pieces.size(); ++i, offset = 0) {
    const std::string_view bytes = piece(i).substr(offset);
    if (!bytes.empty()) owner_->pieces[count++] = to_piece(bytes);
  }
  return count;
}

std::size_t Connection::copy_request(char* to, std::size_t room) {
  std::size_t used = 0;
  while (request_left() && used < room) {
    const std::string_view bytes =
        piece(piece_).substr(piece_offset_).substr(0, std::min(room - used, copied_at_once_bytes));
    std::memcpy(to + used, bytes.data(), bytes.size());
    used += bytes.size();
    advance(bytes.size());
  }
  return used;
}

// The next bytes of the request for one record: as they lie in memory where they lie together.
std::string_view Connection::record_plaintext() {
  const std::size_t bytes_max = owner_->record.size();
  const std::string_view left = piece(piece_).substr(piece_offset_);
  if (left.size() < bytes_max) {
    return {owner_->record.data(), copy_request(owner_->record.data(), bytes_max)};
  }
  advance(bytes_max);
  return left.substr(0, bytes_max);
}

// Fills the TLS output with records of the request, head and body together. False if TLS refuses to
// go on.
bool Connection::encrypt() {
  if (state_ != State::busy || !tls_->output().empty()) return true;
  if (request_left()) tls_->take_memory(owner_->tls_output);
  while (request_left() && tls_->output().size() < tls_output_bytes_max) {
    const std::string_view plaintext = record_plaintext();
    if (plaintext.empty()) break;
    if (tls_->write(plaintext) != TlsSession::Step::done) return false;
  }
  return true;
}

// Writes until the kernel takes no more, without a handler in the usual case that it takes
// everything.
void Connection::write_some() {
  if (write_waits_ || write_broken_) return;
  while (true) {
    std::size_t count = 0;
    if (tls_) {
      if (!encrypt()) {
        write_broken_ = true;  // the reading side has the reason
        return;
      }
      const std::string_view output = tls_->output();
      if (!output.empty()) owner_->pieces[count++] = to_piece(output);
    } else if (request_left()) {
      count = gather_plain();
    }
    if (count == 0) {
      if (tls_) tls_->give_memory(owner_->tls_output);
      written_ = state_ == State::busy;
      step_.unlink();
      return;
    }
    std::size_t sent = 0;
    if (!send_pieces(count, sent)) return write_failed(errno);
    owner_->counters.bytes_sent += sent;
    if (tls_) {
      tls_->sent(sent);
    } else {
      advance(sent);
    }
    step_.unlink();
  }
}

// False: errno says why.
bool Connection::send_pieces(std::size_t count, std::size_t& sent) {
  const iovec& first = owner_->pieces.front();
  msghdr message{};
  message.msg_iov = owner_->pieces.data();
  message.msg_iovlen = count;
  ssize_t result = 0;
  do {
    result = count == 1 ? ::send(socket_, first.iov_base, first.iov_len, MSG_NOSIGNAL)
                        : sendmsg(socket_, &message, MSG_NOSIGNAL);
  } while (result < 0 && errno == EINTR);
  if (result < 0) return false;
  sent = static_cast<std::size_t>(result);
  return true;
}

void Connection::write_failed(int error) {
  if (error != EAGAIN && error != EWOULDBLOCK) {
    // The peer may have answered before it stopped reading: reading finds the answer or
    // the reason.
    write_broken_ = true;
    return;
  }
  write_waits_ = true;
  if (!step_.linked()) owner_->arm(step_, write_stall_limit);
  if (!std::exchange(write_watched_, true)) owner_->poller().watch_writing(socket_, *this, true);
}

void Connection::ready(bool readable, bool writable) {
  const boost::intrusive_ptr<Connection> self(this);  // reading may close it
  if (writable && write_watched_) {
    write_waits_ = false;
    write_some();
    if (!write_waits_) {
      write_watched_ = false;
      owner_->poller().watch_writing(socket_, *this, false);
    }
  }
  if (readable) read_some();
}

// ---- Reading

void Connection::read_some() {
  const ssize_t count = recv(socket_, owner_->input.data(), owner_->input.size(), 0);
  if (count == 0) return on_end(boost::asio::error::eof);
  if (count < 0) {
    // Told again: the poller is level-triggered.
    if (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR) return;
    return on_end(Error(errno, boost::system::system_category()));
  }
  const std::string_view bytes(owner_->input.data(), static_cast<std::size_t>(count));
  if (tls_) return on_ciphertext(bytes);
  if (state_ != State::busy) return close();  // nobody asked
  on_plaintext(reader_.feed(bytes), false);
}

void Connection::on_ciphertext(std::string_view bytes) {
  tls_->receive(bytes);
  if (state_ == State::handshaking) {
    continue_handshake();
    if (owner_ == nullptr) return;
    if (state_ == State::handshaking) return;
  }
  bool ended = false;
  const ResponseReader::Progress progress = drain_tls(ended);
  if (owner_ == nullptr) return;
  if (!tls_->output().empty()) write_some();  // a key update answered
  if (state_ != State::busy) {
    if (ended) close();
    return;
  }
  on_plaintext(progress, ended);
}

// Decrypts what has come. Closes the connection, or ends the attempt, where TLS itself fails.
ResponseReader::Progress Connection::drain_tls(bool& ended) {
  ResponseReader::Progress progress = ResponseReader::Progress::need_more;
  while (true) {
    std::size_t count = 0;
    const TlsSession::Step step = tls_->read(owner_->record.data(), owner_->record.size(), count);
    if (step == TlsSession::Step::done) {
      if (state_ != State::busy) {
        ended = true;  // nobody asked
        return progress;
      }
      const bool was_done = progress == ResponseReader::Progress::done;
      const ResponseReader::Progress fed = reader_.feed({owner_->record.data(), count});
      progress = was_done ? ResponseReader::Progress::done : fed;
      continue;
    }
    if (step == TlsSession::Step::need_more) return progress;
    ended = true;
    if (step == TlsSession::Step::closed || state_ != State::busy || reader_.head_complete()) {
      return progress;
    }
    fail(tls_->reason(), tls_->detail());
    return progress;
  }
}

// After bytes of an answer. `ended`: no more will come.
void Connection::on_plaintext(ResponseReader::Progress progress, bool ended) {
  if (ended && progress == ResponseReader::Progress::need_more)
    return on_end(boost::asio::error::eof);
  switch (progress) {
    case ResponseReader::Progress::done:
      return finish_answer(reader_.reusable() && !ended);
    case ResponseReader::Progress::failed:
      return fail(reader_.error(), reader_.error_text());
    case ResponseReader::Progress::need_more:
      if (reader_.head_complete() && !draining_) {
        draining_ = true;
        owner_->arm(phase_, drain_limit);
      }
  }
}

// The stream ended, orderly or not.
void Connection::on_end(const Error& error) {
  if (state_ == State::handshaking) return fail(Reason::tls_eof, "closed during the TLS handshake");
  if (state_ != State::busy) return close();
  if (reader_.head_complete()) return finish_answer(false);
  if (reader_.has_bytes()) {
    reader_.finish();
    return fail(reader_.error(), reader_.error_text());
  }
  if (reused_ && !attempt_->resent) {
    // The peer closed it while it was idle, or as we wrote: it has not worked on the request.
    Attempt& attempt = *std::exchange(attempt_, nullptr);
    HttpTransport& owner = *owner_;
    close();
    return owner.resend(attempt);
  }
  if (error == boost::asio::error::eof || attempt_->resent) {
    return fail(Reason::closed_no_response, "closed without an answer");
  }
  fail(Reason::reset, error.message());
}

// ---- Ends

void Connection::finish_answer(bool reusable) {
  AttemptResult result;
  result.status = reader_.status();
  if (!reader_.success()) {
    result.reason = Reason::status;
    result.response_headers = reader_.headers();
    result.response_excerpt = reader_.excerpt();
    mask_sent_values(attempt_->request.head, result.response_headers, result.response_excerpt);
  } else if (!written_) {
    result.reason = Reason::early_success;
    result.detail = "answered with success before the request was sent";
  }
  if (!reusable || !written_ || retired_) return fail_with(std::move(result));

  Attempt& attempt = *std::exchange(attempt_, nullptr);
  HttpTransport& owner = *owner_;
  state_ = State::idle;
  idle_until_ = owner.read_now() + idle_limit;
  if (!phase_.linked()) owner.arm(phase_, idle_limit);
  owner.became_idle(*this);
  owner.complete(attempt, std::move(result));  // may start the next request on this connection
}

void Connection::fail(Reason reason, std::string detail) {
  AttemptResult result;
  result.reason = reason;
  result.detail = std::move(detail);
  fail_with(std::move(result));
}

// Ends the attempt, whatever it came to, and the connection with it.
void Connection::fail_with(AttemptResult&& result) {
  Attempt& attempt = *std::exchange(attempt_, nullptr);
  HttpTransport& owner = *owner_;
  close();
  owner.complete(attempt, std::move(result));
}

Reason Connection::phase_timeout() const {
  switch (state_) {
    case State::resolving:
      return Reason::dns_timeout;
    case State::connecting:
      return Reason::connect_timeout;
    case State::handshaking:
      return Reason::tls_timeout;
    default:
      return Reason::timeout;
  }
}

void Connection::expire(AttemptDeadline::Kind kind, TimePoint now) {
  if (owner_ == nullptr) return;
  if (state_ == State::idle) {
    if (idle_until_ <= now) return close();
    // Whole seconds: few different durations.
    return owner_->arm(phase_, std::chrono::ceil<std::chrono::seconds>(idle_until_ - now));
  }
  if (kind == AttemptDeadline::Kind::phase && state_ == State::busy && !draining_) return;
  if (reader_.head_complete()) return finish_answer(false);
  if (kind == AttemptDeadline::Kind::step) {
    if (state_ == State::connecting) {
      ++dial_serial_;
      dialling_->error = Reason::connect_timeout;
      dialling_->detail = "no answer to the connection attempt";
      return dial_next();
    }
    return fail(Reason::write_timeout, "the peer takes no more of the request");
  }
  fail(phase_timeout(), "deadline passed");
}

void Connection::abort(Reason reason) {
  if (owner_ == nullptr || attempt_ == nullptr) return;
  if (reader_.head_complete()) return finish_answer(false);
  fail(reason, "aborted");
}

}  // namespace postbag

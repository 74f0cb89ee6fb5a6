#pragma once

#include <boost/asio/basic_stream_socket.hpp>
#include <boost/asio/generic/stream_protocol.hpp>
#include <boost/asio/io_context.hpp>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "cli/intake/chunked_body.h"
#include "cli/intake/exchange.h"
#include "cli/intake/limits.h"
#include "cli/intake/router.h"

namespace postbag {

// One connection of a client: reads a request, has it answered, writes the answer, and only then
// looks at the next one. Lives on intake's thread alone. Whoever has an answer to give holds a
// reference; after close() it only waits to be let go. If memory runs out it closes itself: no
// public member function throws.
class IntakeConnection : public Exchange, public std::enable_shared_from_this<IntakeConnection> {
 public:
  using Socket = boost::asio::basic_stream_socket<boost::asio::generic::stream_protocol,
                                                  boost::asio::io_context::executor_type>;

  // What connections of one server share.
  struct Shared {
    Router& router;
    const ConnectionLimits& limits;
    const std::function<TimePoint()>& clock;
    std::shared_ptr<ByteBudget> budget;
    const std::string& date_line;                      // "Date: ...\r\n"
    std::function<void(IntakeConnection&)> on_closed;  // must not throw
    std::function<void(const char* what)> on_give_up;  // must not throw
    std::uint64_t requests = 0;
  };

  IntakeConnection(std::shared_ptr<IntakeLoop> loop, Socket socket, bool local, Shared& shared);

  void start();
  // Called from time to time: ends what took too long.
  void check_deadline(TimePoint now);
  // The server ends: an answer that is being written is finished, everything else is closed.
  void finish();
  void close() noexcept;
  bool local() const { return request_.local; }
  // Between two requests, and nothing of the next is there, not even unread.
  bool is_idle();
  TimePoint deadline() const { return deadline_; }

  const Request& request() const override { return request_; }
  std::uint64_t serial() const override { return serial_; }
  void answer(Answer answer) override;
  void give_up() noexcept override { give_up("no memory for an answer"); }
  void begin_stream(std::string_view content_type) override;
  void write_piece(std::string_view piece) override;
  bool stream_busy() const override { return !pending_.empty() || state_ == State::closed; }
  void end_stream() override;
  void on_peer_gone(std::function<void()> gone, std::function<void()> has_finished) override;

 private:
  enum class State { reading_head, reading_body, handling, streaming, writing, lingering, closed };

  // What it does is all or nothing: an exception ends the connection.
  template <typename Step>
  void guard(Step step) noexcept {
    try {
      step();
    } catch (const std::exception& error) {
      give_up(error.what());
    }
  }
  void give_up(const char* what) noexcept;
  void answer_now(const Answer& answer);
  void enter(State state, Duration timeout);
  void enter(State state);
  void read_more();
  void read_later();
  void on_read(boost::system::error_code error, std::size_t bytes);
  void process_input();
  void start_request(std::size_t head_bytes);
  void start_body();
  void send_continue();
  void read_sized_body();
  void on_sized_body(boost::system::error_code error, std::size_t bytes);
  void process_chunked();
  void handle();
  void refuse(ApiError error);
  void write_answer(const Answer& answer);
  void write_stream_head(std::string_view content_type);
  void write_out();
  void on_written(boost::system::error_code error);
  void next_request();
  void linger();
  void read_to_discard();
  void watch_peer();
  void on_peer_readable(boost::system::error_code error);
  void on_peer_finished();
  void watch_reset();
  void forget_peer_handlers() noexcept;
  void forget_request();
  void release_chunked();
  std::string_view input() const {
    return std::string_view(in_).substr(in_begin_, in_end_ - in_begin_);
  }
  void consume(std::size_t bytes);

  const std::shared_ptr<IntakeLoop> loop_;  // first: the socket needs its context to the end
  HandlerMemory read_memory_, write_memory_;
  Socket socket_;
  Shared* shared_;  // null once closed: the server may be gone
  State state_ = State::reading_head;
  TimePoint deadline_ = time_point_never;

  std::string in_;  // arrived and not consumed: in_[in_begin_, in_end_)
  std::size_t in_begin_ = 0, in_end_ = 0;
  std::size_t scanned_ = 0;  // of the head that is being read
  bool head_begun_ = false;  // its deadline runs
  std::string head_;         // raw head of the current request; request_ points into it
  Request request_;
  std::uint64_t serial_ = 0;
  std::uint64_t body_max_ = 0;
  std::unique_ptr<ChunkedBody> chunked_;
  std::size_t chunked_charged_ = 0;

  std::string out_;      // being written
  std::string pending_;  // pieces to be written after it
  bool writing_ = false;
  bool stream_ended_ = false;
  bool stream_chunked_ = false;
  bool close_after_ = false;
  bool finishing_ = false;
  std::size_t discarded_ = 0;
  TimePoint linger_end_{};
  std::function<void()> peer_gone_, peer_finished_;
  bool watching_ = false;
};

}  // namespace postbag

#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "cli/intake/api_error.h"
#include "cli/intake/request_body.h"
#include "cli/intake/request_head.h"

namespace postbag {

// One request as the routes see it. The views are valid until it is answered.
struct Request {
  RequestHead head;
  std::string_view path;
  std::string_view query;             // without '?', still encoded
  bool local = false;                 // came over the Unix socket: no token, and control routes
  unsigned route = 0;                 // which route the head was found to name
  std::shared_ptr<RequestBody> body;  // null if there is none
};

struct Answer {
  int status = 200;
  std::string body;
  std::string_view content_type = "application/json";
  std::string fields;              // further header lines, each with its CRLF
  bool close = false;              // end the connection after this answer
  std::optional<ErrorCode> error;  // that the body tells of; counted with the answer
};

// A request and the way back. All member functions only on intake's thread. Answer exactly once:
// answer(), or begin_stream(), any number of write_piece(), end_stream(). Where the peer is gone
// all of them do nothing; where memory runs out while they write, the connection ends.
class Exchange {
 public:
  virtual ~Exchange() = default;
  virtual const Request& request() const = 0;
  // Of the request; the next one on the same connection has another.
  virtual std::uint64_t serial() const = 0;
  virtual void answer(Answer answer) = 0;
  // Instead of an answer, where there is no memory for one: the connection ends.
  virtual void give_up() noexcept = 0;

  virtual void begin_stream(std::string_view content_type) = 0;
  virtual void write_piece(std::string_view piece) = 0;
  // True while a piece waits for an earlier one to be written: leave out what can be left out.
  virtual bool stream_busy() const = 0;
  virtual void end_stream() = 0;

  // Watches the connection until the answer: `gone` is called at most once if the peer closes it.
  // `has_finished`, if given: a peer that may only have finished sending is not gone; this is
  // called then, and it has its answer if it is still there. Nobody can tell at once whether it is.
  virtual void on_peer_gone(std::function<void()> gone, std::function<void()> has_finished) = 0;
};

}  // namespace postbag

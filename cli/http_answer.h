#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace postbag {

// Decodes one HTTP/1.1 answer, given in pieces: Content-Length, chunked, or up to the end of the
// connection. Strict: what the daemon does not send is refused. Pure.
class HttpAnswerDecoder {
 public:
  // Appends the body bytes found to `body`. False: not an answer that we take; error() says why.
  bool feed(std::string_view bytes, std::string& body);
  // The connection ended. False if the answer was not complete.
  bool end();

  bool head_done() const { return state_ != State::head && state_ != State::broken; }
  bool done() const { return state_ == State::done; }
  int status() const { return status_; }
  const std::string& content_type() const { return content_type_; }
  // Seconds of a Retry-After field, 0 if there is none.
  std::uint32_t retry_after_s() const { return retry_after_s_; }
  bool keep_alive() const { return keep_alive_; }
  const std::string& error() const { return error_; }

 private:
  enum class State {
    head,
    length,
    chunk_size,
    chunk_data,
    chunk_end,
    trailer,
    until_end,
    done,
    broken
  };

  bool parse_head(std::string_view head);
  bool parse_field(std::string_view line);
  bool fail(std::string why);
  bool take_line(std::string_view& line);
  bool step(std::string& body, bool& more);

  State state_ = State::head;
  std::string buffer_;
  std::uint64_t left_ = 0;  // of the body or of the chunk
  int status_ = 0;
  bool chunked_ = false, has_length_ = false, keep_alive_ = true;
  std::uint32_t retry_after_s_ = 0;
  std::string content_type_, error_;
};

}  // namespace postbag

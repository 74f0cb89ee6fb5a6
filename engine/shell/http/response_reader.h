#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "postbag/outcome.h"

namespace postbag {

// Limits of what a receiver may answer.
inline constexpr std::size_t response_head_bytes_max = 16 * 1024;
inline constexpr int response_fields_max = 100;
inline constexpr int response_informational_max = 8;
inline constexpr std::size_t response_informational_bytes_max = 64 * 1024;
// As on the wire, chunk headers included.
inline constexpr std::size_t response_body_bytes_max = 16 * 1024;
// Of body, and as much of header fields.
inline constexpr std::size_t response_excerpt_bytes_max = 1024;
inline constexpr std::size_t response_known_bytes_max = 512;

// Reads the answer to one POST from bytes that come in any pieces. Pure: no I/O, no clock.
//
// The complete final status line and header block decide the outcome; whatever the body does wrong
// later only makes the connection unusable. The grammar is RFC 9112 without its permitted repairs:
// bare LF, folded fields, control characters, Content-Length beside Transfer-Encoding are faults,
// because a proxy between could read them otherwise.
//
// What an answer means depends on its bytes alone, and most answers of a receiver are the one
// before: one that came whole and left the connection usable is known again without parsing.
class ResponseReader {
 public:
  enum class Progress : std::uint8_t { need_more, done, failed };

  // Forgets everything but what it knows again; the next byte begins a new answer.
  void reset();
  // Bytes behind the end of the answer are not kept; they make it not reusable.
  Progress feed(std::string_view bytes);
  // The peer closed the connection.
  Progress finish();

  bool has_bytes() const { return has_bytes_; }
  bool head_complete() const { return phase_ != Phase::head; }
  // 0 until head_complete().
  int status() const { return head_complete() ? status_ : 0; }
  bool success() const { return status_ >= 200 && status_ <= 299; }
  // After `done`: the connection is in step with us and may carry another request.
  bool reusable() const { return reusable_; }
  // After `failed`.
  Reason error() const { return error_; }
  const char* error_text() const { return error_text_; }

  // Kept for answers other than 2xx alone.
  const std::string& headers() const { return headers_; }
  const std::string& excerpt() const { return excerpt_; }

 private:
  enum class Phase : std::uint8_t { head, body };
  enum class BodyKind : std::uint8_t { none, length, chunked, until_close };
  enum class ChunkState : std::uint8_t {
    size,
    extension,
    size_lf,
    data,
    data_cr,
    data_lf,
    trailer_start,
    trailer,
    trailer_lf,
    end_lf
  };
  struct HeadFacts;

  Progress parse(std::string_view bytes);
  Progress consume(std::string_view bytes);
  Progress hold(std::string_view bytes);
  Progress fail(Reason reason, const char* text);
  bool parse_head(std::string_view block);
  bool parse_status_line(std::string_view line, HeadFacts& facts);
  bool parse_field(std::string_view line, HeadFacts& facts);
  bool decide_framing(const HeadFacts& facts);
  Progress consume_body(std::string_view bytes);
  std::size_t consume_length(std::string_view bytes);
  std::size_t consume_chunked(std::string_view bytes);
  bool chunk_step(char c);
  void keep_excerpt(std::string_view bytes);
  bool worth_reading() const;

  Phase phase_ = Phase::head;
  BodyKind body_kind_ = BodyKind::none;
  ChunkState chunk_state_ = ChunkState::size;
  Reason error_ = Reason::none;
  bool has_bytes_ = false;
  bool reusable_ = false;
  bool body_complete_ = false;
  bool chunk_size_seen_ = false;
  int status_ = 0;
  int informational_ = 0;
  std::size_t informational_bytes_ = 0;
  std::size_t scanned_ = 0;      // of held_, already known to hold no end of head
  std::size_t body_seen_ = 0;    // on the wire
  std::uint64_t remaining_ = 0;  // of the body, or of the chunk
  const char* error_text_ = "";
  std::string held_;   // an incomplete head
  std::string known_;  // the latest whole answer with a 2xx and a reusable connection
  int known_status_ = 0;
  std::string headers_;
  std::string excerpt_;
};

}  // namespace postbag

#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

namespace postbag {

inline constexpr std::size_t head_bytes_max = 16 * 1024;
inline constexpr std::size_t head_fields_max = 100;

// Where the head of a request ends, looked for in what has arrived so far.
struct HeadEnd {
  enum class State { incomplete, complete, bad } state = State::incomplete;
  std::size_t bytes = 0;  // complete: of the head, the empty line included
};
// `scanned` remembers between calls with more bytes how far the search came; 0 for a new head. Bad:
// a line that ends without CR (a proxy may end it elsewhere), or a first byte that cannot begin a
// request.
HeadEnd find_head_end(std::string_view arrived, std::size_t& scanned);

struct HeaderField {
  std::string_view name;
  std::string_view value;  // without the blanks around it
};

// A request head whose framing can be read in one way only. Views into the bytes that were parsed.
struct RequestHead {
  std::string_view method;
  std::string_view target;  // origin form, with the query
  int minor_version = 1;
  std::vector<HeaderField> fields;
  std::optional<std::uint64_t> content_length;
  bool chunked = false;
  bool keep_alive = true;
  bool expect_continue = false;
  bool content_encoded = false;

  // The value of a field that may stand once; nothing if it is absent. `count` (if given) says how
  // often it stands.
  std::optional<std::string_view> find(std::string_view name, std::size_t* count = nullptr) const;
  bool has_body() const { return chunked || content_length.value_or(0) > 0; }
};

struct HeadError {
  int status = 400;
  std::string_view message;
};

// Parses and checks a whole head (with its empty line). Stricter than RFC 9112 asks a recipient to
// be, because whatever two parsers read differently smuggles requests: refused are bare LF or CR
// and other control characters, obs-fold, blanks before a colon, Transfer-Encoding other than
// exactly one `chunked`, or with HTTP/1.0, or beside Content-Length, more than one Content-Length
// or one that is not digits, no or two Host, absolute-form targets. After any error the connection
// must be closed. Pure.
std::optional<HeadError> check_request_head(std::string_view raw, RequestHead& head);

}  // namespace postbag

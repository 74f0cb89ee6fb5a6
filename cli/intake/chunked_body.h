#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>

namespace postbag {

// Takes a chunked body apart. Beast's parser does it, behind our own check of the head and with
// limits that it lacks: chunk extensions are refused, and a chunk line or the trailers must fit in
// what is given to put() at once.
class ChunkedBody {
 public:
  // `raw_head`: a whole head that check_request_head() took.
  ChunkedBody(std::string_view raw_head, std::uint64_t body_max);
  ~ChunkedBody();
  ChunkedBody(const ChunkedBody&) = delete;
  ChunkedBody& operator=(const ChunkedBody&) = delete;

  enum class State { need_more, done, bad, too_large };
  // Consumes `used` bytes from the front of `arrived`; the rest must stand at the front of the next
  // call.
  State put(std::string_view arrived, std::size_t& used);
  std::string_view body() const;
  // After State::bad, for the answer.
  std::string_view problem() const;

 private:
  struct Parser;
  std::unique_ptr<Parser> parser_;
};

}  // namespace postbag

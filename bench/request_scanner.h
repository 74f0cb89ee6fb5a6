#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

namespace postbag {

// What a receiver needs to know of one request. Views are valid during the call.
struct CountedRequest {
  std::string_view method;
  std::string_view path;
  std::string_view body;  // empty unless bodies are kept
  std::uint64_t body_bytes = 0;
  std::uint64_t batch_size = 1;  // Postbag-Batch-Size; 1 where it is missing
  bool keep_alive = true;
};

// Cuts the byte stream of one connection into HTTP/1.1 requests with Content-Length, as cheaply as
// it can: a head that came whole is read in place and a body that nobody wants is skipped, not
// copied. No chunked bodies.
class RequestScanner {
 public:
  explicit RequestScanner(bool keep_bodies) : keep_bodies_(keep_bodies) {}

  // Calls `done` for every request that `data` completes. False: not HTTP as we take it; close the
  // connection.
  bool feed(std::string_view data, const std::function<void(const CountedRequest&)>& done);

 private:
  bool parse_head(std::string_view head);
  bool parse_field(std::string_view name, std::string_view value);
  void finish(const std::function<void(const CountedRequest&)>& done);

  bool keep_bodies_;
  bool in_body_ = false;
  std::uint64_t body_left_ = 0;
  CountedRequest request_;
  std::string partial_head_;
  std::string method_, path_;  // kept only while a body is being read
  std::string body_;
};

}  // namespace postbag

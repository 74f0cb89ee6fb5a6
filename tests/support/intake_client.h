#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace postbag::test {

// An answer as it came.
struct Response {
  int status = 0;  // 0: the connection ended first
  std::vector<std::pair<std::string, std::string>> fields;
  std::string body;

  // The value of a field (any case), or "".
  std::string field(const std::string& name) const;
};

// A client that sends exactly the bytes it is given. Blocking; a server that stays silent for long
// fails the test (status 0).
class IntakeClient {
 public:
  explicit IntakeClient(std::uint16_t port);
  explicit IntakeClient(const std::string& unix_path);
  ~IntakeClient();
  IntakeClient(IntakeClient&& other) noexcept;
  IntakeClient& operator=(IntakeClient&&) = delete;

  // A server that has closed already is no error: its answer may be there to be read.
  void send(const std::string& bytes);
  // Sends no more, but listens.
  void finish_sending();
  // The next answer. `has_body` false: to a HEAD.
  Response read_response(bool has_body = true);
  // One chunk of a chunked answer (the first call reads the head); "" at its end.
  std::string read_chunk();
  // True if the server closed and nothing is left to be read.
  bool at_end();
  // Over a Unix socket only. What was sent and the server has not read yet, with the kernel's own
  // overhead: 0 once it has read everything.
  int unread_bytes() const;
  // Over a Unix socket only. Whether the server has closed both ways.
  bool is_closed() const;
  // Whether an answer, or a part of one, is there now.
  bool has_input() const;

 private:
  bool read_some();
  bool read_until(const std::string& what, std::string& line);
  bool read_exactly(std::size_t bytes, std::string& out);
  Response read_head();

  int fd_ = -1;
  std::string buffer_;
  bool in_stream_ = false;
};

// Leaves a socket file behind that nobody listens on.
void make_stale_unix_socket(const std::string& path);

}  // namespace postbag::test

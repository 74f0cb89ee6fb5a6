#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace postbag {

struct HookAnswer {
  int status = 0;  // 0: there was none
  std::string problem;
};

// A producer: one connection to an intake on 127.0.0.1, one call at a time. Reads while it sends,
// as an answer may come early. Not thread-safe.
class HookCaller {
 public:
  explicit HookCaller(std::uint16_t port) : port_(port) {}
  ~HookCaller() { disconnect(); }
  HookCaller(const HookCaller&) = delete;
  HookCaller& operator=(const HookCaller&) = delete;

  // POST /v1/hooks of NDJSON lines; *blocks* until the answer, for at most a minute. Throws
  // std::system_error if nobody listens.
  HookAnswer post(std::string_view body);

 private:
  HookAnswer read_answer(std::string_view head, std::string_view body);
  bool send_some(std::string_view head, std::string_view body, std::size_t& sent);
  void disconnect();

  const std::uint16_t port_;
  int fd_ = -1;
};

}  // namespace postbag

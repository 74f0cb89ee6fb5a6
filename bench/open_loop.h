#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace postbag {

// Instants at a fixed rate. A hook's time starts at its instant, whether or not anyone was ready to
// send it then: what waits for a slow system is counted as waiting (no coordinated omission).
struct OpenLoop {
  std::int64_t start_ns = 0;
  double interval_ns = 0;
  std::uint64_t warm_up = 0;  // the first so many are not counted
  std::uint64_t hooks = 0;    // with those

  static OpenLoop make(double per_second, double warm_up_s, double seconds);
  std::int64_t due_ns(std::uint64_t index) const {
    return start_ns + static_cast<std::int64_t>(static_cast<double>(index) * interval_ns);
  }
  // What the payload says: 0 for those not counted.
  std::int64_t stamp_ns(std::uint64_t index) const { return index < warm_up ? 0 : due_ns(index); }
};

std::int64_t now_ns();  // the steady clock, which processes of one machine share
void sleep_until_ns(std::int64_t instant);

// A 300-byte JSON payload that says when it was due.
class StampedPayload {
 public:
  StampedPayload();
  std::string_view make(std::int64_t stamp_ns);  // valid until the next call
  // Overwrites the stamp of a payload that begins at `at`.
  static void stamp(std::string& text, std::size_t at, std::int64_t stamp_ns);
  // The stamp of the first payload of an array; 0: none, or not to be counted.
  static std::int64_t read(std::string_view body);

 private:
  std::string text_;
};

// The raw client at that rate: constant requests over so many connections, one at a time on each, a
// request is sent as soon as it is due and a connection is free. Throws std::system_error, or
// std::runtime_error if the receiver stops answering.
void run_raw_open_loop(std::uint16_t port, std::uint32_t connections, double per_second,
                       double warm_up_s, double seconds);

}  // namespace postbag

#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "bench/counting_receiver.h"
#include "bench/log_histogram.h"
#include "bench/windowed_tail.h"

namespace postbag {

// Instants at a fixed rate. A hook's time starts at its instant, whether or not anyone was ready to
// send it then: what waits for a slow system is counted as waiting (no coordinated omission).
struct OpenLoop {
  std::int64_t start_ns = 0;
  double interval_ns = 0;
  std::uint64_t warm_up = 0;  // the first so many are not counted
  std::uint64_t hooks = 0;    // with those

  // Begins now.
  static OpenLoop make(double per_second, double warm_up_s, double seconds);
  std::int64_t due_ns(std::uint64_t index) const {
    return start_ns + static_cast<std::int64_t>(static_cast<double>(index) * interval_ns);
  }
  // What the payload says: 0 for those not counted.
  std::int64_t stamp_ns(std::uint64_t index) const { return index < warm_up ? 0 : due_ns(index); }
};

std::int64_t now_ns();  // the steady clock, which processes of one machine share

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

// May lie in memory that processes share.
struct OpenLoopTimes {
  LogHistogram received;  // from the instant a hook was due until its request was received
  WindowedTail tail;      // the same, by the instant it was received
  LogHistogram late;      // of that, until it was offered: what the load itself adds
};

enum class LoadResult : std::uint8_t {
  held,       // every hook was received, about as fast as they were offered
  saturated,  // every hook was received or refused, but the rate is more than was done
  lost,       // a hook was neither received nor refused, and for 10 s nothing came
};

// `last_ns`: when the last hook was received. A queue that grew by a fiftieth of the run is taken
// for one that would have gone on growing.
LoadResult judge_load(const OpenLoop& loop, std::uint64_t received, std::uint64_t refused,
                      std::int64_t last_ns);

// Offers a load and receives what becomes of it, both on one thread: two threads on one core would
// wait for each other's time slices, several milliseconds long, and the sender would be blamed.
// What is due is offered before each request that is taken in, so no more than one stands in
// between.
class OpenLoopLoad {
 public:
  // Hands the hooks from `first` up to `end` (not included) to the sender. May not block.
  using Offer = std::function<void(const OpenLoop&, std::uint64_t first, std::uint64_t end)>;

  explicit OpenLoopLoad(OpenLoopTimes& times);  // listens; throws std::system_error
  std::uint16_t port() const { return receiver_.port(); }
  // On the caller's thread, until all is received or refused, or for 10 s nothing came.
  LoadResult run(const OpenLoop& loop, const Offer& offer);
  // Any thread: so many hooks were refused and will not come.
  void refused(std::uint64_t hooks) { refused_ += hooks; }

 private:
  CountingReceiverOptions receiver_options();
  std::int64_t offer_due();
  void end_if_done(std::int64_t now);

  OpenLoopTimes& times_;
  CountingReceiver receiver_;
  OpenLoop loop_;
  Offer offer_;
  std::uint64_t next_ = 0, seen_ = 0;
  std::int64_t last_progress_ns_ = 0;
  std::atomic<std::uint64_t> refused_{0};
};

}  // namespace postbag

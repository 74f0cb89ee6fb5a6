#include "bench/open_loop.h"

#include <sys/prctl.h>

#include <algorithm>
#include <charconv>
#include <ctime>
#include <utility>

namespace postbag {
namespace {

constexpr std::string_view stamp_prefix = R"({"at":")";
constexpr std::size_t stamp_digits = 18;
constexpr std::size_t payload_bytes = 300;
constexpr std::int64_t second_ns = 1'000'000'000;
constexpr std::int64_t patience_ns = 10 * second_ns;
constexpr std::int64_t look_again_ns = second_ns / 10;
constexpr std::uint64_t offer_hooks_max = 1000;
constexpr std::int64_t behind_ns_min = second_ns / 20;  // a stall of the machine at the end

}  // namespace

OpenLoop OpenLoop::make(double per_second, double warm_up_s, double seconds) {
  OpenLoop loop;
  loop.interval_ns = 1e9 / per_second;
  loop.warm_up = static_cast<std::uint64_t>(per_second * warm_up_s);
  loop.hooks = loop.warm_up + static_cast<std::uint64_t>(per_second * seconds);
  loop.start_ns = now_ns();
  return loop;
}

std::int64_t now_ns() {
  timespec time{};
  clock_gettime(CLOCK_MONOTONIC, &time);
  return time.tv_sec * second_ns + time.tv_nsec;
}

StampedPayload::StampedPayload() {
  text_ = std::string(stamp_prefix) + std::string(stamp_digits, '0') + R"(","data":")";
  text_.append(payload_bytes - text_.size() - 2, 'x');
  text_ += "\"}";
}

std::string_view StampedPayload::make(std::int64_t stamp_ns) {
  stamp(text_, 0, stamp_ns);
  return text_;
}

void StampedPayload::stamp(std::string& text, std::size_t at, std::int64_t stamp_ns) {
  char* const first = text.data() + at + stamp_prefix.size();
  for (std::size_t i = stamp_digits; i-- > 0; stamp_ns /= 10) {
    first[i] = static_cast<char>('0' + stamp_ns % 10);
  }
}

std::int64_t StampedPayload::read(std::string_view body) {
  const std::size_t at = 1 + stamp_prefix.size();
  std::int64_t stamp_ns = 0;
  if (body.size() < at + stamp_digits || !body.substr(1).starts_with(stamp_prefix)) return 0;
  std::from_chars(body.data() + at, body.data() + at + stamp_digits, stamp_ns);
  return stamp_ns;
}

LoadResult judge_load(const OpenLoop& loop, std::uint64_t received, std::uint64_t refused,
                      std::int64_t last_ns) {
  if (received + refused < loop.hooks) return LoadResult::lost;
  const std::int64_t end_ns = loop.due_ns(loop.hooks);
  const std::int64_t allowed_ns = std::max(behind_ns_min, (end_ns - loop.start_ns) / 50);
  return refused == 0 && last_ns - end_ns <= allowed_ns ? LoadResult::held : LoadResult::saturated;
}

OpenLoopLoad::OpenLoopLoad(OpenLoopTimes& times) : times_(times), receiver_(receiver_options()) {}

CountingReceiverOptions OpenLoopLoad::receiver_options() {
  CountingReceiverOptions options;
  options.handler = [this](const CountedRequest& request) {
    const std::int64_t stamp = StampedPayload::read(request.body);
    if (stamp > 0) {
      const std::int64_t now = now_ns();
      times_.received.add(now - stamp);
      times_.tail.add(now, now - stamp);
    }
    return 200;
  };
  options.between = [this] { return offer_due(); };
  return options;
}

LoadResult OpenLoopLoad::run(const OpenLoop& loop, const Offer& offer) {
  prctl(PR_SET_TIMERSLACK, 1);  // its waits end when they should
  loop_ = loop;
  offer_ = offer;
  last_progress_ns_ = loop.start_ns;
  receiver_.run();
  return judge_load(loop_, receiver_.counters().hooks, refused_, last_progress_ns_);
}

std::int64_t OpenLoopLoad::offer_due() {
  std::int64_t now = now_ns();
  const std::uint64_t first = next_;
  const std::uint64_t limit = std::min(loop_.hooks, first + offer_hooks_max);
  for (; next_ < limit && loop_.due_ns(next_) <= now; ++next_) {
    if (next_ >= loop_.warm_up) times_.late.add(now - loop_.due_ns(next_));
  }
  if (next_ > first) {
    offer_(loop_, first, next_);
    now = now_ns();
  }
  end_if_done(now);
  if (next_ == loop_.hooks) return look_again_ns;
  return std::clamp<std::int64_t>(loop_.due_ns(next_) - now, 0, look_again_ns);
}

void OpenLoopLoad::end_if_done(std::int64_t now) {
  const std::uint64_t received = receiver_.counters().hooks;
  if (std::exchange(seen_, received) != received) last_progress_ns_ = now;
  const bool complete = received + refused_ >= loop_.hooks;
  if (complete || now - last_progress_ns_ > patience_ns) receiver_.stop();
}

}  // namespace postbag

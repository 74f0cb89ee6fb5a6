#include "cli/log.h"

#include <limits.h>
#include <poll.h>
#include <spdlog/async_logger.h>
#include <spdlog/details/thread_pool.h>
#include <spdlog/pattern_formatter.h>
#include <spdlog/sinks/base_sink.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <mutex>
#include <utility>
#include <vector>

#include "cli/console.h"
#include "cli/log_limiter.h"

namespace postbag {

namespace {

constexpr std::size_t waiting_lines_max = 8192;
constexpr std::uint32_t lines_per_second = 20;  // of one kind
constexpr std::uint32_t lines_per_target = 4;   // in a second, of one kind

spdlog::level::level_enum spdlog_level(LogLevel level) {
  switch (level) {
    case LogLevel::debug:
      return spdlog::level::debug;
    case LogLevel::info:
      return spdlog::level::info;
    case LogLevel::warning:
      return spdlog::level::warn;
    case LogLevel::error:
      return spdlog::level::err;
    case LogLevel::off:
      break;
  }
  return spdlog::level::off;
}

}  // namespace

std::string log_json_string(std::string_view message) {
  std::string out = "\"";
  for (const char c : printable(message)) {
    if (c == '"' || c == '\\') out += '\\';
    out += c;
  }
  return out + "\"";
}

std::string log_json_members(std::string_view message, std::span<const LogField> fields) {
  std::string out = "\"message\":" + log_json_string(message);
  for (const LogField& field : fields) {
    const auto* text = std::get_if<std::string_view>(&field.value);
    if (text != nullptr && text->empty()) continue;
    out.append(",\"").append(field.name).append("\":");
    out += text != nullptr ? log_json_string(*text)
                           : std::to_string(std::get<std::uint64_t>(field.value));
  }
  return out;
}

namespace {

// Standard error may be a pipe that nobody reads. A line waits for a moment; then lines are dropped
// and counted, so that the end of the process does not hang on it either.
class StderrSink final : public spdlog::sinks::base_sink<std::mutex> {
 public:
  explicit StderrSink(bool json) : json_(json) {}

 private:
  void sink_it_(const spdlog::details::log_msg& message) override {
    if (dropped_ > 0 && can_write()) {
      const std::string text =
          std::to_string(dropped_) + " lines of the log were dropped: nobody read them";
      const LogField fields[] = {{"event", "lines_dropped"}, {"lines", dropped_}};
      const std::string written = json_ ? log_json_members(text, fields) : text;
      if (write(spdlog::details::log_msg("", spdlog::level::warn, written))) dropped_ = 0;
    }
    if (!write(message)) ++dropped_;
  }
  void flush_() override {}

  bool can_write() const {
    pollfd waited{STDERR_FILENO, POLLOUT, 0};
    int ready = 0;
    do {
      ready = poll(&waited, 1, dropped_ > 0 ? 0 : patience_ms);
    } while (ready < 0 && errno == EINTR);
    return ready > 0;
  }
  // In pieces that a pipe takes whole once it takes anything. False: dropped, maybe in part.
  bool write(const spdlog::details::log_msg& message) {
    spdlog::memory_buf_t text;
    if (is_cut_) text.push_back('\n');
    formatter_->format(message, text);
    std::string_view left(text.data(), text.size());
    while (!left.empty()) {
      if (!can_write()) break;
      const ssize_t written =
          ::write(STDERR_FILENO, left.data(), std::min<std::size_t>(left.size(), PIPE_BUF));
      if (written < 0 && errno == EINTR) continue;
      if (written <= 0) break;
      left.remove_prefix(static_cast<std::size_t>(written));
    }
    if (left.size() < text.size()) is_cut_ = !left.empty();
    return left.empty();
  }

  static constexpr int patience_ms = 200;

  const bool json_;
  std::uint64_t dropped_ = 0;
  bool is_cut_ = false;  // a line stands there without its end
};

}  // namespace

class Log::Impl {
 public:
  explicit Impl(const LogOptions& options)
      : level_(options.level),
        json_(options.format == LogFormat::json),
        pool_(std::make_shared<spdlog::details::thread_pool>(waiting_lines_max, 1)),
        limiter_(lines_per_second, lines_per_target) {
    auto sink = std::make_shared<StderrSink>(json_);
    // "overrun_oldest": whoever logs never waits for the sink.
    logger_ = std::make_shared<spdlog::async_logger>("postbag", std::move(sink), pool_,
                                                     spdlog::async_overflow_policy::overrun_oldest);
    logger_->set_level(spdlog::level::trace);
    logger_->flush_on(spdlog::level::trace);
    const char* pattern = json_ ? R"({"time":"%Y-%m-%dT%H:%M:%S.%eZ","level":"%l",%v})"
                                : "%Y-%m-%dT%H:%M:%S.%eZ %l %v";
    logger_->set_formatter(
        std::make_unique<spdlog::pattern_formatter>(pattern, spdlog::pattern_time_type::utc));
  }

  ~Impl() {
    for (const auto& held : limiter_.take_all()) say_suppressed(held);
    logger_->flush();
  }

  void write(LogLevel level, std::string_view message, std::span<const LogField> fields) {
    if (!enabled(level)) return;
    std::vector<LogLimiter::Suppressed> suppressed;
    bool pass = false;
    {
      const std::lock_guard lock(mutex_);
      pass = limiter_.admit(message, std::chrono::steady_clock::now(), suppressed);
    }
    for (const auto& held : suppressed) say_suppressed(held);
    if (pass) put(level, message, fields);
  }

  const std::atomic<LogLevel>& level() const { return level_; }
  void set_level(LogLevel level) { level_.store(level, std::memory_order_relaxed); }
  bool enabled(LogLevel at) const {
    const LogLevel least = level_.load(std::memory_order_relaxed);
    return at >= least && least != LogLevel::off;
  }

 private:
  void put(LogLevel level, std::string_view message, std::span<const LogField> fields) {
    const std::string text = json_ ? log_json_members(message, fields) : printable(message);
    logger_->log(spdlog_level(level), spdlog::string_view_t(text.data(), text.size()));
  }
  void say_suppressed(const LogLimiter::Suppressed& held) {
    const LogField fields[] = {
        {"event", "lines_suppressed"}, {"lines", held.lines}, {"like", held.kind}};
    put(LogLevel::warning,
        "suppressed " + counted(held.lines, "more line") + " like \"" + held.kind + "\"", fields);
  }

  std::atomic<LogLevel> level_;
  bool json_;
  std::shared_ptr<spdlog::details::thread_pool> pool_;
  std::shared_ptr<spdlog::async_logger> logger_;
  std::mutex mutex_;
  LogLimiter limiter_;
};

Log::Log(const LogOptions& options) : impl_(std::make_unique<Impl>(options)) {}
Log::~Log() = default;

void Log::set_level(LogLevel level) {
  impl_->set_level(level);
}
bool Log::enabled(LogLevel at) const {
  return impl_->enabled(at);
}

Logger Log::logger() const {
  Impl* impl = impl_.get();
  Logger logger;
  logger.level_now = &impl->level();
  logger.write_fields = [impl](LogLevel level, std::string_view message,
                               std::span<const LogField> fields) {
    impl->write(level, message, fields);
  };
  return logger;
}

}  // namespace postbag

#include <poll.h>

#include <algorithm>
#include <utility>

#include "cli/daemon_answers.h"
#include "cli/exit_codes.h"
#include "cli/send_way.h"
#include "cli/store_access.h"

namespace postbag {

namespace {
constexpr int pause_ms_min = 20;
constexpr int pause_ms_max = 1000;
}  // namespace

void SendThroughDaemon::pause(int ms) const {
  pollfd stop{signals_.stop_fd(), POLLIN, 0};
  poll(&stop, 1, ms);
}

// Until there is room for the ids of another group.
void SendThroughDaemon::wait_for_outcomes() {
  for (int ms = pause_ms_min; waiting_.size() >= waiting_ids_max && !signals_.stopped();
       ms = std::min(2 * ms, pause_ms_max)) {
    if (look_at_all()) return;
    // Nothing moves: bags without a timer may wait for hooks that come only after these.
    if (ms > pause_ms_min) flush();
    pause(ms);
  }
}

// Waits while the daemon is full.
ControlAnswer SendThroughDaemon::post(SendGroup& group) {
  ControlRequest request;
  request.method = "POST";
  request.path = "/v1/hooks";
  request.content_type = "application/x-ndjson";
  request.body = group.ndjson;
  for (;;) {
    ControlAnswer answer;
    try {
      answer = daemon_.send(request);
    } catch (const UnansweredError&) {
      group.unanswered = true;
      throw;
    }
    if (answer.status != 503 || parse_daemon_error(answer.body).code != "full") return answer;
    flush();  // what waits in bags without a timer would keep its room for ever
    pause(static_cast<int>(std::max(answer.retry_after_s, 1u)) * 1000);
    if (signals_.stopped()) return answer;
    look_at_all();
  }
}

std::optional<SendError> SendThroughDaemon::hand_over(SendGroup& group) {
  wait_for_outcomes();
  if (signals_.stopped()) return std::nullopt;
  const ControlAnswer answer = post(group);
  const DaemonError error = parse_daemon_error(answer.body);
  if (error.code == "full" && signals_.stopped()) return std::nullopt;
  if (error.index && *error.index < group.line_numbers.size()) {
    return SendError{group.line_numbers[*error.index], error.message};
  }
  if (answer.status == 413 && group.line_numbers.size() == 1) {
    return SendError{group.line_numbers.front(), error.message};
  }
  expect_success(answer);
  const AcceptedAnswer accepted = expect_parsed(parse_accepted(answer.body));
  group.accepted = true;
  counts_.accepted += accepted.accepted;
  counts_.duplicates += accepted.duplicates;
  for (std::size_t i = 0; i < accepted.ids.size(); ++i) {
    waiting_.emplace(accepted.ids[i], i < group.hooks.size() && !group.hooks[i].id.empty());
  }
  for (std::size_t i = 0; i < group.hooks.size() && targets_.size() <= targets_max; ++i) {
    targets_.emplace(group.hooks[i].target);
  }
  return std::nullopt;
}

// Asks for every hook without an outcome. True if at least one has got it.
bool SendThroughDaemon::look_at_all() {
  bool changed = false;
  for (auto it = waiting_.begin(); it != waiting_.end() && !signals_.stopped();) {
    ControlRequest request;
    request.path = "/v1/hooks/" + it->first;
    const ControlAnswer answer = daemon_.send(request);
    if (answer.status == 404 && it->second) {
      ++forgotten_;
      changed = true;
      it = waiting_.erase(it);
      continue;
    }
    bool delivered = answer.status == 404 && failures_are_kept_;
    bool failed = answer.status == 404 && !failures_are_kept_;
    if (answer.status != 404) {
      expect_success(answer);
      const auto status = parse_hook_status(answer.body).value_or(HookStatus{});
      delivered = status.state == "delivered";
      failed = status.state == "failed";
    }
    if (!delivered && !failed) {
      ++it;
      continue;
    }
    counts_.delivered += delivered ? 1 : 0;
    counts_.failed += failed ? 1 : 0;
    changed = true;
    it = waiting_.erase(it);
  }
  return changed;
}

void SendThroughDaemon::flush() {
  ControlRequest request;
  request.method = "POST";
  if (targets_.size() > targets_max) {
    request.path = "/v1/flush";
    expect_success(daemon_.send(request));
    return;
  }
  for (const std::string& target : targets_) {
    request.path = "/v1/flush?target=" + query_escape(target);
    expect_success(daemon_.send(request));
  }
}

void SendThroughDaemon::finish(const std::function<void()>& look) {
  flush();
  for (int ms = pause_ms_min; !waiting_.empty() && !signals_.stopped();) {
    ms = look_at_all() ? pause_ms_min : std::min(2 * ms, pause_ms_max);
    look();
    if (!waiting_.empty()) pause(ms);
  }
}

SendCounts SendThroughDaemon::counts() {
  SendCounts counts = counts_;
  counts.left = waiting_.size() + forgotten_;
  return counts;
}

std::string SendThroughDaemon::left_text() {
  std::string text = "with the daemon";
  if (forgotten_ > 0) {
    text += " (of " + std::to_string(forgotten_) +
            " the outcome is not remembered: delivered before the daemon's last start, deleted, or "
            "older than [intake] id_window)";
  }
  return text;
}

}  // namespace postbag

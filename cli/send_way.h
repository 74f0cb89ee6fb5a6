#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>

#include "cli/control_client.h"
#include "cli/send_input.h"
#include "cli/signals.h"
#include "postbag/engine.h"

namespace postbag {

struct SendCounts {
  std::uint64_t accepted = 0, duplicates = 0;
  std::uint64_t delivered = 0, failed = 0;
  std::uint64_t left = 0;  // no outcome yet
};

// Where the hooks of `send` go. One thread. A signal (`signals.stopped()`) ends every wait.
class SendWay {
 public:
  virtual ~SendWay() = default;
  // All hooks of the group (`group.accepted`), or none: then what is wrong, or a signal came. Waits
  // while there is no room. Throws CommandError where no line is to blame; where the group may have
  // been taken all the same, `group.unanswered` says so.
  virtual std::optional<SendError> hand_over(SendGroup& group) = 0;
  // Cuts what is left and waits until every hook has its outcome; calls `look` now and then. Throws
  // CommandError if they cannot get one.
  virtual void finish(const std::function<void()>& look) = 0;
  virtual SendCounts counts() = 0;
  // What has become of those without an outcome, for people.
  virtual std::string left_text() = 0;
};

// An engine of our own. A signal makes it drain: what is not attempted then is stored as
// failed(shutdown), or stays in the store where the durability says so.
class SendAlone : public SendWay {
 public:
  SendAlone(std::unique_ptr<Store> store, const Options& options, Logger logger,
            const SignalWatch& signals);
  std::optional<SendError> hand_over(SendGroup& group) override;
  void finish(const std::function<void()>& look) override;
  SendCounts counts() override;
  std::string left_text() override;

 private:
  const Duration drain_timeout_;
  const bool is_durable_;
  const SignalWatch& signals_;
  Engine engine_;
};

// A daemon has the store: it gets the hooks as any producer's (POST /v1/hooks) and is asked for the
// state of each until it has an outcome. So failures are kept as always, and a lost connection
// loses nothing. At the end, and where nothing moves while too many wait, the bags of the targets
// that were sent to are cut. A signal leaves what has no outcome with the daemon. An id of the
// producer's own that the daemon has forgotten ([intake] id_window) counts as left: it may still
// wait.
class SendThroughDaemon : public SendWay {
 public:
  // If `failures_are_kept`, a hook that the daemon no longer knows has been delivered, unless its
  // producer gave its id: then it counts as left. Otherwise that cannot be told, and it counts as
  // failed.
  SendThroughDaemon(ControlClient& daemon, bool failures_are_kept, const SignalWatch& signals)
      : daemon_(daemon), failures_are_kept_(failures_are_kept), signals_(signals) {}
  std::optional<SendError> hand_over(SendGroup& group) override;
  void finish(const std::function<void()>& look) override;
  SendCounts counts() override;
  std::string left_text() override;

  static constexpr std::size_t waiting_ids_max = 10'000;
  // Remembered for the flush; beyond, all are flushed.
  static constexpr std::size_t targets_max = 1000;

 private:
  void wait_for_outcomes();
  ControlAnswer post(SendGroup& group);
  bool look_at_all();
  void flush();
  void pause(int ms) const;

  ControlClient& daemon_;
  bool failures_are_kept_;
  const SignalWatch& signals_;
  SendCounts counts_;
  std::unordered_map<std::string, bool> waiting_;  // id; true: the producer's own
  std::uint64_t forgotten_ = 0;
  std::set<std::string> targets_;
};

}  // namespace postbag

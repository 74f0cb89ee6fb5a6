#pragma once

#include <cstddef>
#include <exception>
#include <memory>
#include <string>
#include <utility>

#include "postbag/engine.h"
#include "postbag/logger.h"

namespace postbag {

// Calls a function of the embedder on a thread of the engine, which has others to serve: what it
// throws is logged and goes no further. False: it threw.
template <class Function>
bool call_guarded(const Logger& logger, Function&& function) noexcept {
  const auto log = [&](const char* what) noexcept {
    try {
      logger.log(LogLevel::error, std::string("a callback threw: ") + what);
    } catch (const std::exception&) {
      return;  // there are more important things to have memory for
    }
  };
  try {
    function();
    return true;
  } catch (const std::exception& error) {
    log(error.what());
  } catch (...) {
    log("no std::exception");
  }
  return false;
}

// A listener of the embedder that throws takes no hook over.
class GuardedListener : public OutcomeListener {
 public:
  GuardedListener(std::shared_ptr<OutcomeListener> listener, const Logger& logger)
      : listener_(std::move(listener)), logger_(logger) {}
  bool hook_done(std::size_t index, const HookOutcome& outcome) override {
    bool is_taken = false;
    const bool is_told =
        call_guarded(logger_, [&] { is_taken = listener_->hook_done(index, outcome); });
    return is_told && is_taken;
  }
  void hook_settled(std::size_t index) override {
    call_guarded(logger_, [&] { listener_->hook_settled(index); });
  }
  void hook_forgotten(std::size_t index) override {
    call_guarded(logger_, [&] { listener_->hook_forgotten(index); });
  }
  bool is_gone() override {
    bool gone = false;
    call_guarded(logger_, [&] { gone = listener_->is_gone(); });
    return gone;
  }

 private:
  std::shared_ptr<OutcomeListener> listener_;
  Logger logger_;
};

}  // namespace postbag

#include "cli/intake/retry_call.h"

#include <stop_token>
#include <utility>

#include "cli/intake/answers.h"
#include "cli/intake/blocking_call.h"

namespace postbag {
namespace {

bool accepts_ndjson(const Request& request) {
  const auto accept = request.head.find("accept");
  return accept && accept->find("application/x-ndjson") != std::string_view::npos;
}

// Shared by a run and what makes its answer.
struct RetryRun {
  RetryRun(std::shared_ptr<int> under_way, bool streams)
      : runs(std::move(under_way)), stream(streams) {
    ++*runs;
  }
  void end() { *runs -= std::exchange(counted, 0); }

  const std::shared_ptr<int> runs;  // intake's thread only
  const bool stream;
  int counted = 1;
  RetryProgress progress;  // the worker's until its answer is there
  std::stop_source gone;
};

class RetryCall : public BlockingCall {
 public:
  RetryCall(std::shared_ptr<Exchange> exchange, std::shared_ptr<RetryRun> run,
            std::function<Answer()> job)
      : BlockingCall(std::move(exchange), std::move(job)), run_(std::move(run)) {}

 private:
  void finish(Exchange& exchange, Answer answer) override {
    run_->end();
    if (!run_->stream) return exchange.answer(std::move(answer));
    try {
      if (answer.status == 200) {
        answer.body.clear();
        append_progress_line(answer.body, run_->progress, true);
      } else {
        answer.body += '\n';
      }
    } catch (const std::exception&) {
      return exchange.give_up();
    }
    exchange.write_piece(answer.body);
    exchange.end_stream();
  }
  void dropped() override { run_->end(); }

  const std::shared_ptr<RetryRun> run_;
};

// One line of the stream, left out where there is no time or no memory for it.
void post_line(IntakeLoop& loop, const std::shared_ptr<Exchange>& exchange,
               const RetryProgress& progress) {
  try {
    loop.post([exchange, progress] {
      if (exchange->stream_busy()) return;
      std::string line;
      append_progress_line(line, progress, false);
      exchange->write_piece(line);
    });
  } catch (const std::exception&) {
    return;
  }
}

// A run that ended before its rows did is no success, however many it delivered.
Answer answer_to(const RetryProgress& progress, bool is_ending) {
  std::error_code cause = progress.error;
  if (!cause && progress.stopped && is_ending) cause = Errc::stopping;
  Answer answer;
  if (!cause) {
    append_progress(answer.body, progress);
    return answer;
  }
  ApiError error = to_api_error(cause);
  error.message += "; the run was cut short after " + std::to_string(progress.delivered) +
                   " delivered, " + std::to_string(progress.failed) + " failed again";
  return error_answer(error);
}

}  // namespace

void run_retry(const RetryRoute& route, const std::shared_ptr<Exchange>& exchange,
               RetryOptions options) {
  const auto run = std::make_shared<RetryRun>(route.runs, accepts_ndjson(exchange->request()));
  try {
    options.progress = [loop = route.loop, exchange, run,
                        stop = route.stop](const RetryProgress& progress) {
      if (run->stream) post_line(*loop, exchange, progress);
      return !stop->load();
    };
    options.leave = run->gone.get_token();
    auto job = [&backend = route.backend, run, stop = route.stop, asked = std::move(options)] {
      run->progress = backend.retry_failed(asked);
      return answer_to(run->progress, stop->load());
    };
    auto call = std::make_shared<RetryCall>(exchange, run, std::move(job));
    // Before the start: behind it nothing may fail, as this request is refused then, and the run
    // would answer a later one of the connection.
    exchange->on_peer_gone(
        [run] {
          run->gone.request_stop();
          run->end();  // it is as good as over, and must not keep another one out
        },
        [] {});  // who has finished sending waits for the answer
    if (!BlockingCall::start(route.pool, route.loop, std::move(call))) {
      run->end();
      return exchange->answer(error_answer(why_not_started(route.pool)));
    }
  } catch (...) {
    run->end();
    throw;
  }
  // Posted work runs after this function, so no line comes before the head.
  if (run->stream) exchange->begin_stream("application/x-ndjson");
}

}  // namespace postbag

// What comes in: submit() on the producer's thread, JSON validation, the intake's parsers, chunked
// bodies, and the head of a receiver's answer. Items are hooks (answers for the last).

#include <benchmark/benchmark.h>

#include <cstring>
#include <string>
#include <vector>

#include "bench/batch_check.h"
#include "bench/counting_receiver.h"
#include "cli/intake/chunked_body.h"
#include "cli/intake/hook_parser.h"
#include "cli/intake/request_head.h"
#include "engine/pure/hook_check.h"
#include "engine/shell/http/response_reader.h"
#include "postbag/engine.h"
#include "postbag/json.h"
#include "postbag/memory_store.h"

namespace postbag {
namespace {

constexpr std::size_t payload_bytes = 300;

std::string padded(std::string text) {
  text.reserve(text.size() + json_padding);
  return text;
}

// --- submit(): what it costs the producer's thread. The time is that thread's processor time; the
// shard and the receiver work on others meanwhile.

HookList hook_list(const std::string& target, std::size_t hooks) {
  PayloadMaker maker(payload_bytes);
  HookList list;
  for (std::size_t i = 0; i < hooks; ++i) list.add(target, maker.make(0, i));
  return list;
}

void fill_hook_list(benchmark::State& state) {
  const auto hooks = static_cast<std::size_t>(state.range(0));
  for (auto _ : state) benchmark::DoNotOptimize(hook_list("http://127.0.0.1:8421/t/0", hooks));
  state.SetItemsProcessed(state.iterations() * state.range(0));
}
BENCHMARK(fill_hook_list)->ArgName("hooks")->Arg(1)->Arg(1000);

Options engine_options() {
  Options options;
  options.defaults.batch.size = 100;
  options.defaults.delivery.in_flight = 16;
  options.defaults.network.allow_http = true;
  options.defaults.network.allow = {"127.0.0.1"};
  options.engine.threads = 1;
  return options;
}

void check_hooks(benchmark::State& state) {
  const PolicyTable policies(engine_options(), 1);
  const HookList list = hook_list("http://127.0.0.1:8421/t/0", 1000);
  std::string canonical;
  for (auto _ : state) {
    HookChecker checker(policies, 1 << 20);
    for (std::size_t i = 0; i < list.size(); ++i) {
      if (checker.check(list[i], list.is_checked(i), canonical)) {
        return state.SkipWithError("a hook was refused");
      }
    }
  }
  state.SetItemsProcessed(state.iterations() * static_cast<std::int64_t>(list.size()));
}
BENCHMARK(check_hooks);

// Validation, reservation and hand-over of a call of `hooks`; making the call is not timed.
void submit(benchmark::State& state) {
  const auto hooks = static_cast<std::size_t>(state.range(0));
  CountingReceiver receiver({});
  receiver.start();
  const std::string target = "http://127.0.0.1:" + std::to_string(receiver.port()) + "/t/0";
  Engine engine(engine_options(), make_memory_store());
  std::vector<HookList> calls;
  std::atomic<bool> refused{false};
  for (auto _ : state) {
    if (calls.empty()) {
      state.PauseTiming();
      if (!engine.wait_idle(std::chrono::seconds(30))) return state.SkipWithError("no progress");
      for (std::size_t ready = 0; ready < 20'000; ready += hooks) {
        calls.push_back(hook_list(target, hooks));
      }
      state.ResumeTiming();
    }
    engine.submit(std::move(calls.back()), SubmitOptions(), [&](const SubmitResult& result) {
      if (!result.ok()) refused = true;
    });
    calls.pop_back();
  }
  engine.drain(std::chrono::seconds(30));
  if (refused) state.SkipWithError("a call was refused");
  state.SetItemsProcessed(state.iterations() * state.range(0));
}
BENCHMARK(submit)->ArgName("hooks")->Arg(1)->Arg(1000);

// --- The intake's parsers, over a body as it came from the socket.

std::string json_hook(std::uint64_t number) {
  return R"({"target":"https://example.com/hooks/)" + std::to_string(number % 16) +
         R"(","event":"order.paid","data":)" +
         std::string(PayloadMaker(payload_bytes).make(0, number)) + "}";
}

std::string json_body(std::size_t hooks, const char* begin, const char* between, const char* end) {
  std::string body = begin;
  for (std::size_t i = 0; i < hooks; ++i) body += (i == 0 ? "" : between) + json_hook(i);
  return body + end;
}

using ParseFunction = ParsedCall (*)(const std::shared_ptr<RequestBody>&);

void parse_body(benchmark::State& state, const std::string& text, ParseFunction parse) {
  const auto budget = std::make_shared<ByteBudget>(1 << 30);
  const auto body = std::make_shared<RequestBody>(budget, text.size());
  std::memcpy(body->free_begin(), text.data(), text.size());
  if (!body->receive(text.size())) return state.SkipWithError("the budget is too small");
  std::size_t hooks = 0;
  for (auto _ : state) {
    const ParsedCall call = parse(body);
    if (call.error) return state.SkipWithError("the body was refused");
    hooks += call.hooks.size();
  }
  state.SetItemsProcessed(static_cast<std::int64_t>(hooks));
  state.SetBytesProcessed(state.iterations() * static_cast<std::int64_t>(text.size()));
}

void parse_object(benchmark::State& state) {
  parse_body(state, json_hook(1), parse_json_hooks);
}
BENCHMARK(parse_object);
void parse_array(benchmark::State& state) {
  parse_body(state, json_body(1000, "[", ",", "]"), parse_json_hooks);
}
BENCHMARK(parse_array);
void parse_ndjson(benchmark::State& state) {
  parse_body(state, json_body(1000, "", "\n", "\n"), parse_ndjson_hooks);
}
BENCHMARK(parse_ndjson);

void validate_json(benchmark::State& state) {
  const std::string text = padded(std::string(PayloadMaker(payload_bytes).make(0, 1)));
  for (auto _ : state) {
    if (check_json(text, true)) return state.SkipWithError("the payload is no JSON");
  }
  state.SetItemsProcessed(state.iterations());
  state.SetBytesProcessed(state.iterations() * static_cast<std::int64_t>(text.size()));
}
BENCHMARK(validate_json);

void request_head_check(benchmark::State& state) {
  const std::string head =
      "POST /v1/hooks HTTP/1.1\r\nHost: 127.0.0.1:8420\r\nUser-Agent: curl/7.88.1\r\n"
      "Accept: */*\r\nContent-Type: application/json\r\nContent-Length: 345\r\n\r\n";
  for (auto _ : state) {
    std::size_t scanned = 0;
    RequestHead parsed;
    if (find_head_end(head, scanned).bytes != head.size() || check_request_head(head, parsed)) {
      return state.SkipWithError("the head was refused");
    }
    benchmark::DoNotOptimize(parsed.content_length);
  }
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(request_head_check);

// A body of `hooks` NDJSON lines that comes in chunks of 16 KiB.
void chunked_body(benchmark::State& state) {
  const auto hooks = static_cast<std::size_t>(state.range(0));
  const std::string head =
      "POST /v1/hooks HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
  const std::string body = json_body(hooks, "", "\n", "\n");
  std::string wire;
  for (std::size_t at = 0; at < body.size(); at += 16 << 10) {
    const std::string piece = body.substr(at, 16 << 10);
    char length[24];
    std::snprintf(length, sizeof length, "%zx\r\n", piece.size());
    wire += length + piece + "\r\n";
  }
  wire += "0\r\n\r\n";
  for (auto _ : state) {
    ChunkedBody reader(head, 8 << 20);
    ChunkedBody::State read = ChunkedBody::State::need_more;
    std::string_view rest = wire;
    while (read == ChunkedBody::State::need_more && !rest.empty()) {
      std::size_t used = 0;
      read = reader.put(rest, used);
      if (used == 0) break;
      rest.remove_prefix(used);
    }
    if (reader.body().size() != body.size()) return state.SkipWithError("the body is not whole");
  }
  state.SetItemsProcessed(state.iterations() * state.range(0));
  state.SetBytesProcessed(state.iterations() * static_cast<std::int64_t>(wire.size()));
}
BENCHMARK(chunked_body)->ArgName("hooks")->Arg(1)->Arg(1000);

// --- The answer of a receiver: our own one's, and a usual server's.

void read_answer(benchmark::State& state, std::string_view answer) {
  ResponseReader reader;
  for (auto _ : state) {
    reader.reset();
    if (reader.feed(answer) != ResponseReader::Progress::done || !reader.reusable()) {
      return state.SkipWithError("the answer was not taken");
    }
  }
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK_CAPTURE(read_answer, short_, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
BENCHMARK_CAPTURE(read_answer, usual,
                  "HTTP/1.1 200 OK\r\nServer: nginx/1.22.1\r\n"
                  "Date: Sat, 01 Nov 2025 10:00:00 GMT\r\nContent-Type: application/json\r\n"
                  "Content-Length: 11\r\nConnection: keep-alive\r\nX-Request-Id: 7c1e\r\n\r\n"
                  "{\"ok\":true}");
BENCHMARK_CAPTURE(read_answer, chunked,
                  "HTTP/1.1 200 OK\r\nServer: nginx/1.22.1\r\n"
                  "Transfer-Encoding: chunked\r\n\r\nb\r\n{\"ok\":true}\r\n0\r\n\r\n");

}  // namespace
}  // namespace postbag

// bench_receiver: the counting receiver as a program. Prints its port, serves until SIGTERM or
// SIGINT, then prints its counters. SIGUSR1 prints them in between; SIGUSR2 turns --fail-percent
// off and on again.

#include <csignal>
#include <cstdio>
#include <fstream>
#include <memory>
#include <optional>

#include "bench/batch_check.h"
#include "bench/bench_support.h"
#include "bench/counting_receiver.h"
#include "bench/tls_identity.h"

namespace postbag {
namespace {

constexpr const char* usage =
    "bench_receiver [--port N] [--fail-percent N] [--check TARGETS --hooks-per-target N "
    "[--any-order]]\n"
    "               [--tls-ca FILE (serve TLS, write the certificate to trust to FILE)]\n";

int run(int argc, char** argv) {
  const Arguments arguments(
      argc, argv, {"port=", "fail-percent=", "check=", "hooks-per-target=", "any-order", "tls-ca="},
      usage);
  // Blocked before any thread starts, so that all of them come to sigwait() here.
  sigset_t signals;
  sigemptyset(&signals);
  for (const int signal : {SIGUSR1, SIGUSR2, SIGTERM, SIGINT}) sigaddset(&signals, signal);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);

  ReceiverCounters counters;
  const auto fail_per_mille = static_cast<std::uint32_t>(arguments.number("fail-percent", 0) * 10);
  counters.fail_per_mille = fail_per_mille;
  CountingReceiverOptions options;
  options.port = static_cast<std::uint16_t>(arguments.number("port", 0));
  options.counters = &counters;
  std::unique_ptr<TlsIdentity> tls;
  if (arguments.has("tls-ca")) {
    tls = std::make_unique<TlsIdentity>();
    options.tls = tls.get();
    std::ofstream(arguments.text("tls-ca")) << tls->pem();
  }
  std::optional<SequenceCheck> check;
  if (arguments.has("check")) {
    check.emplace(arguments.number("check", 1), arguments.number("hooks-per-target", 1'000'000),
                  !arguments.has("any-order"));
    options.handler = [&](const CountedRequest& request) {
      counters.wrong += check->check(request);
      return 200;
    };
  }
  CountingReceiver receiver(std::move(options));
  std::printf("%u\n", receiver.port());
  std::fflush(stdout);
  receiver.start();
  int signal = 0;
  while (sigwait(&signals, &signal) == 0 && signal != SIGTERM && signal != SIGINT) {
    if (signal == SIGUSR2) {
      counters.fail_per_mille = counters.fail_per_mille == 0 ? fail_per_mille : 0;
    }
    std::printf("%s\n", receiver.stats_json().c_str());
    std::fflush(stdout);
  }
  receiver.stop();
  std::printf("%s\n", receiver.stats_json().c_str());
  return 0;
}

}  // namespace
}  // namespace postbag

int main(int argc, char** argv) {
  return postbag::run_program("bench_receiver", postbag::run, argc, argv);
}

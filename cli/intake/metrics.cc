#include "cli/intake/metrics.h"

#include <string_view>

#include "cli/text/json_writer.h"

namespace postbag {
namespace {

class MetricsWriter {
 public:
  explicit MetricsWriter(std::string& out) : out_(out) {}

  template <typename Number>
  void counter(std::string_view name, std::string_view help, Number number) {
    describe(name, help, "counter");
    sample(name, "", number);
  }
  template <typename Number>
  void gauge(std::string_view name, std::string_view help, Number number) {
    describe(name, help, "gauge");
    sample(name, "", number);
  }
  void describe(std::string_view name, std::string_view help, std::string_view type) {
    out_.append("# HELP postbag_").append(name).append(" ").append(help).append("\n");
    out_.append("# TYPE postbag_").append(name).append(" ").append(type).append("\n");
  }
  // `labels` with its braces, or empty.
  template <typename Number>
  void sample(std::string_view name, std::string_view labels, Number number) {
    out_.append("postbag_").append(name).append(labels).append(" ");
    JsonWriter(out_).value(number);
    out_ += '\n';
  }

 private:
  std::string& out_;
};

}  // namespace

std::string prometheus_text(const EngineStatus& status, const IntakeCounts& intake) {
  std::string out;
  MetricsWriter metrics(out);
  metrics.counter("accepted_total", "Hooks accepted since the start.", status.accepted);
  metrics.counter("duplicates_total", "Hooks known by id, since the start.", status.duplicates);
  metrics.counter("refused_total", "Hooks refused since the start.", status.refused);
  metrics.counter("intake_dropped_total", "Requests dropped without an answer: no memory.",
                  intake.dropped);
  metrics.counter("intake_turned_away_total", "Connections answered full: all are in use.",
                  intake.turned_away);
  metrics.counter("delivered_total", "Hooks delivered since the start.", status.delivered);
  metrics.counter("given_up_total", "Hooks whose batch used up its attempts.", status.given_up);
  metrics.counter("retention_purged_total", "Failed hooks deleted by age or bytes.",
                  status.retention_purged);
  metrics.counter("discarded_total", "Hooks given up and not kept.", status.discarded);
  metrics.counter("ids_forgotten_total", "Ids of producers forgotten before id_window, for room.",
                  status.ids_forgotten);
  metrics.counter("attempts_total", "Requests to targets since the start.", status.attempts);
  metrics.counter("attempts_failed_total", "Of those, not delivered.", status.attempts_failed);
  metrics.counter("batches_total", "Batches cut since the start.", status.batches);
  metrics.gauge("pending_hooks", "Hooks accepted that have no outcome yet.", status.pending);
  metrics.gauge("failed_hooks", "Failed hooks in the store.", status.failed);
  metrics.gauge("targets", "Targets known.", status.targets);
  metrics.gauge("bags", "Open bags.", status.bags);
  metrics.gauge("in_flight_batches", "Batches on the wire.", status.in_flight);
  metrics.gauge("retrying_batches", "Batches that wait for a retry.", status.retrying);
  metrics.gauge("memory_bytes", "Bytes counted against max_memory.", status.memory_bytes);
  metrics.gauge("memory_limit_bytes", "max_memory.", status.memory_limit);
  metrics.gauge("store_bytes", "Bytes counted against max_bytes.", status.store_bytes);
  metrics.gauge("store_limit_bytes", "max_bytes of the store.", status.store_limit);
  metrics.gauge("connections", "Connections to targets.", status.connections);
  metrics.gauge("accepted_per_second", "Over about 10 s.", status.accepted_per_second);
  metrics.gauge("delivered_per_second", "Over about 10 s.", status.delivered_per_second);
  metrics.gauge("uptime_seconds", "Since the start.", status.uptime_seconds);
  metrics.gauge("draining", "1 while the engine drains.", status.draining ? 1 : 0);
  metrics.gauge("healthy", "0 after the store failed for good.", status.healthy ? 1 : 0);
  metrics.describe("info", "Version and durability.", "gauge");
  std::string labels = "{version=\"";
  labels.append(version()).append("\",durability=\"");
  labels.append(durability_name(status.durability)).append("\"}");
  metrics.sample("info", labels, 1);
  return out;
}

}  // namespace postbag

#include "cli/intake/metrics.h"

#include <string_view>
#include <variant>

#include "cli/status_table.h"
#include "cli/text/json_writer.h"

namespace postbag {
namespace {

class MetricsWriter {
 public:
  explicit MetricsWriter(std::string& out) : out_(out) {}

  void counter(std::string_view name, std::string_view help, std::uint64_t number) {
    describe(name, help, "counter");
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
  void sample(std::string_view name, std::string_view labels, bool flag) {
    sample(name, labels, flag ? 1 : 0);
  }
  void sample(std::string_view, std::string_view, Durability) {}  // a label of `info`

 private:
  std::string& out_;
};

}  // namespace

std::string prometheus_text(const EngineStatus& status, const IntakeCounts& intake) {
  std::string out;
  MetricsWriter metrics(out);
  for (const StatusMember& one : status_table()) {
    if (one.metric.empty()) continue;
    metrics.describe(one.metric, one.help,
                     one.type == StatusMember::Type::counter ? "counter" : "gauge");
    std::visit([&](auto member) { metrics.sample(one.metric, "", status.*member); }, one.member);
  }
  metrics.counter("intake_dropped_total",
                  "Requests dropped without an answer, for want of memory, since the start.",
                  intake.dropped);
  metrics.counter("intake_turned_away_total",
                  "Connections answered full and closed since the start, as all were in use.",
                  intake.turned_away);
  metrics.describe("intake_errors_total",
                   "Requests answered with an error since the start, by its code.", "counter");
  for (std::size_t i = 0; i < error_codes.size(); ++i) {
    const std::string label = "{code=\"" + std::string(error_codes[i]) + "\"}";
    metrics.sample("intake_errors_total", label, intake.errors[i]);
  }
  metrics.describe("info", "Always 1; version and durability are its labels.", "gauge");
  std::string labels = "{version=\"";
  labels.append(version()).append("\",durability=\"");
  labels.append(durability_name(status.durability)).append("\"}");
  metrics.sample("info", labels, 1);
  return out;
}

}  // namespace postbag

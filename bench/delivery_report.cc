#include "bench/delivery_report.h"

#include <algorithm>
#include <cstdio>

#include "bench/bench_support.h"
#include "bench/bench_table.h"

namespace postbag {
namespace {

template <typename Get>
std::vector<double> each_run(const std::vector<DeliveryMeasure>& runs, const Get& get) {
  std::vector<double> values;
  for (const DeliveryMeasure& run : runs) values.push_back(get(run));
  return values;
}

double rate(const DeliveryMeasure& run) {
  return run.hooks_per_s();
}
double engine_cost(const DeliveryMeasure& run) {
  return run.engine_cpu_s / static_cast<double>(run.hooks) * 1e6;
}
double feeder_cost(const DeliveryMeasure& run) {
  return run.feeder_cpu_s / static_cast<double>(run.hooks) * 1e6;
}
double receiver_cost(const DeliveryMeasure& run) {
  return run.receiver_cpu_s / static_cast<double>(run.hooks) * 1e6;
}
// Near 1 (a shard): the engine is what bounds the run.
double busy(const DeliveryMeasure& run) {
  return run.engine_cpu_s / run.seconds;
}
double peak_rss(const DeliveryMeasure& run) {
  return run.peak_rss_mb;
}

std::vector<double> ratios(const std::vector<DeliveryMeasure>& runs,
                           const std::vector<DeliveryMeasure>& others) {
  std::vector<double> values;
  for (std::size_t i = 0; i < std::min(runs.size(), others.size()); ++i) {
    if (rate(others[i]) > 0) values.push_back(rate(runs[i]) / rate(others[i]));
  }
  return values;
}

std::uint64_t total_wrong(const DeliveryRuns& runs) {
  std::uint64_t wrong = runs.checked_wrong;
  for (const DeliveryMeasure& run : runs.engine) wrong += run.wrong;
  return wrong;
}

void print_json(const DeliveryRuns& runs) {
  const DeliveryCase& what = runs.what;
  const std::vector<double> rates = each_run(runs.engine, rate);
  const std::vector<double> of_raw = ratios(runs.engine, runs.raw);
  const DeliveryMeasure& last = runs.engine.back();
  Report line(true);
  line.text("case", what.name)
      .text("result", runs.ok ? "ok" : "FAILED")
      .number("runs", static_cast<double>(rates.size()))
      .number("batch", what.batch)
      .number("targets", static_cast<double>(what.targets))
      .number("in_flight", what.in_flight)
      .number("tls", what.tls)
      .text("durability", durability_name(what.durability))
      .number("fail_per_mille", what.fail_per_mille)
      .number("hooks", static_cast<double>(what.hooks))
      .number("hooks_per_s", median_of(rates))
      .number("hooks_per_s_min", smallest_of(rates))
      .number("hooks_per_s_max", largest_of(rates));
  if (!runs.raw.empty()) {
    line.number("raw_hooks_per_s", median_of(each_run(runs.raw, rate)))
        .number("of_raw", median_of(of_raw), 3)
        .number("of_raw_min", smallest_of(of_raw), 3)
        .number("of_raw_max", largest_of(of_raw), 3)
        .number("raw_cpu_s_per_million", median_of(each_run(runs.raw, engine_cost)), 3);
  }
  line.number("engine_cpu_s_per_million", median_of(each_run(runs.engine, engine_cost)), 3)
      .number("feeder_cpu_s_per_million", median_of(each_run(runs.engine, feeder_cost)), 3)
      .number("receiver_cpu_s_per_million", median_of(each_run(runs.engine, receiver_cost)), 3)
      .number("engine_busy", median_of(each_run(runs.engine, busy)), 2)
      .number("peak_rss_mb", median_of(each_run(runs.engine, peak_rss)), 1)
      .number("requests", static_cast<double>(last.requests))
      .number("refused", static_cast<double>(last.refused))
      .number("connections", static_cast<double>(last.connections))
      .number("full_answers", static_cast<double>(last.full_answers))
      .number("checked", static_cast<double>(runs.checked))
      .number("wrong", static_cast<double>(total_wrong(runs)))
      .print();
}

// Cases that are one thing changed from another.
struct Comparison {
  const char* name;
  const char* other;
};
constexpr Comparison comparisons[] = {
    {"batch100_targets1000", "batch100_targets1"},
    {"batch100_targets100000", "batch100_targets1"},
    {"batch100_targets1_inflight1", "batch100_targets1"},
    {"batch100_targets1_tls", "batch100_targets1"},
    {"unbatched_targets64_tls", "unbatched_targets64"},
    {"unbatched_targets64_fsync", "unbatched_targets64"},
    {"batch100_targets64_fsync", "batch100_targets1"},
};

void print_comparisons(const std::vector<DeliveryRuns>& cases, bool json) {
  const auto find = [&](const char* name) {
    return std::find_if(cases.begin(), cases.end(),
                        [&](const DeliveryRuns& runs) { return runs.what.name == name; });
  };
  bool first = !json;
  for (const Comparison& each : comparisons) {
    const auto one = find(each.name), other = find(each.other);
    if (one == cases.end() || other == cases.end()) continue;
    const std::vector<double> values = ratios(one->engine, other->engine);
    if (first) std::printf("\n");
    first = false;
    if (json) {
      Report(true)
          .text("ratio", each.name)
          .text("to", each.other)
          .number("median", median_of(values), 3)
          .number("min", smallest_of(values), 3)
          .number("max", largest_of(values), 3)
          .print();
    } else {
      std::printf("%s / %s: %.2f [%.2f-%.2f]\n", each.name, each.other, median_of(values),
                  smallest_of(values), largest_of(values));
    }
  }
}

}  // namespace

void report_deliveries(const std::vector<DeliveryRuns>& cases, bool json) {
  BenchTable table({"case", "hooks/s", "min", "max", "raw", "of raw", "engine CPU s/M", "busy",
                    "feeder s/M", "receiver s/M", "RSS MB", "wrong", ""});
  for (const DeliveryRuns& runs : cases) {
    if (json) {
      print_json(runs);
      continue;
    }
    const std::vector<double> rates = each_run(runs.engine, rate);
    table.add({runs.what.name, short_count(median_of(rates)), short_count(smallest_of(rates)),
               short_count(largest_of(rates)), short_count(median_of(each_run(runs.raw, rate))),
               fixed(median_of(ratios(runs.engine, runs.raw)), 3),
               fixed(median_of(each_run(runs.engine, engine_cost)), 3),
               fixed(median_of(each_run(runs.engine, busy)), 2),
               fixed(median_of(each_run(runs.engine, feeder_cost)), 3),
               fixed(median_of(each_run(runs.engine, receiver_cost)), 3),
               fixed(median_of(each_run(runs.engine, peak_rss)), 1),
               std::to_string(total_wrong(runs)), runs.ok ? "" : "FAILED"});
  }
  if (!json) table.print();
  print_comparisons(cases, json);
}

std::string describe_run(const DeliveryRuns& runs) {
  const DeliveryMeasure& engine = runs.engine.back();
  const double raw_rate = runs.raw.empty() ? 0 : rate(runs.raw.back());
  return short_count(rate(engine)) + " hooks/s, " +
         (raw_rate > 0 ? fixed(rate(engine) / raw_rate, 2) + " of raw, " : "") +
         fixed(engine_cost(engine), 3) + " engine CPU s/M" + (engine.ok ? "" : ", FAILED");
}

}  // namespace postbag

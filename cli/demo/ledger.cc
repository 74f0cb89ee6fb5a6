#include "cli/demo/ledger.h"

#include "cli/table.h"
#include "postbag/json.h"

namespace postbag {

std::optional<std::vector<std::string_view>> split_json_array(std::string_view array) {
  if (check_json(array, false) || !array.starts_with('[') || !array.ends_with(']')) return {};
  std::vector<std::string_view> elements;
  const std::string_view inside = array.substr(1, array.size() - 2);
  if (inside.empty()) return elements;
  std::size_t start = 0, depth = 0;
  bool in_string = false;
  for (std::size_t i = 0; i < inside.size(); ++i) {
    const char c = inside[i];
    if (in_string) {
      if (c == '\\') ++i;
      in_string = c != '"';
      continue;
    }
    if (c == '"') in_string = true;
    if (c == '{' || c == '[') ++depth;
    if (c == '}' || c == ']') --depth;
    if (c == ',' && depth == 0) {
      elements.push_back(inside.substr(start, i - start));
      start = i + 1;
    }
  }
  elements.push_back(inside.substr(start));
  return elements;
}

std::size_t DemoLedger::add_target(std::string name, std::size_t size) {
  const std::lock_guard lock(mutex_);
  Target& target = targets_.emplace_back();
  target.row.name = std::move(name);
  target.size = size;
  return targets_.size() - 1;
}

void DemoLedger::submitted(std::size_t target, std::string_view payload) {
  const std::lock_guard lock(mutex_);
  ++targets_[target].row.submitted;
  ++targets_[target].open[std::string(payload)];
}

void DemoLedger::failed(std::size_t target, std::uint64_t hooks) {
  const std::lock_guard lock(mutex_);
  targets_[target].row.failed += hooks;
}

void DemoLedger::begin_retry_command() {
  const std::lock_guard lock(mutex_);
  retry_command_ = true;
}

DemoLedger::Arrival DemoLedger::arrived(std::size_t target, const std::string& batch_id,
                                        std::string_view body, bool success) {
  const std::lock_guard lock(mutex_);
  Target& at = targets_[target];
  const auto payloads = split_json_array(body).value_or(std::vector<std::string_view>{});
  const auto [known, first] = at.bodies.emplace(batch_id, body);
  Arrival arrival{payloads.size(), payloads.size() >= at.size, first};
  if (first) {
    ++at.row.batches;
    ++(arrival.full ? at.row.by_size : at.row.by_time);
  } else {
    ++at.row.repeats;
    at.row.retries_equal = at.row.retries_equal && known->second == body;
  }
  ++at.row.attempts;
  if (!success) return arrival;
  for (const std::string_view payload : payloads) {
    const auto open = at.open.find(std::string(payload));
    if (open == at.open.end() || open->second == 0) {
      ++at.row.wrong;
      continue;
    }
    --open->second;
    ++at.row.delivered;
    at.row.retried += retry_command_ ? 1 : 0;
  }
  return arrival;
}

std::vector<LedgerRow> DemoLedger::rows() const {
  const std::lock_guard lock(mutex_);
  std::vector<LedgerRow> rows;
  for (const Target& target : targets_) rows.push_back(target.row);
  return rows;
}

std::vector<std::string> check_ledger(const std::vector<LedgerRow>& rows) {
  std::vector<std::string> problems;
  for (const LedgerRow& row : rows) {
    const auto expect = [&](bool holds, const char* what) {
      if (!holds) problems.push_back(row.name + ": " + what);
    };
    expect(row.delivered == row.submitted, "delivered is not what was submitted");
    expect(row.by_size + row.by_time == row.batches, "the cuts do not add up to the batches");
    expect(row.batches + row.repeats == row.attempts, "batches and repeats are not the attempts");
    expect(row.retried == row.failed, "retried is not what had failed");
    expect(row.wrong == 0, "a payload came twice, or was never sent");
    expect(row.retries_equal, "an attempt had other bytes than the one before");
  }
  return problems;
}

std::string render_ledger(const std::vector<LedgerRow>& rows) {
  std::vector<std::vector<std::string>> table = {{"TARGET", "HOOKS", "BATCHES", "BY SIZE",
                                                  "BY TIME", "ATTEMPTS", "REPEATS", "FAILED",
                                                  "RETRIED", "DELIVERED", "BYTES EQUAL"}};
  LedgerRow sum;
  const auto add = [&](const LedgerRow& row, const std::string& name, bool equal) {
    table.push_back({name, std::to_string(row.submitted), std::to_string(row.batches),
                     std::to_string(row.by_size), std::to_string(row.by_time),
                     std::to_string(row.attempts), std::to_string(row.repeats),
                     std::to_string(row.failed), std::to_string(row.retried),
                     std::to_string(row.delivered), equal ? "yes" : "NO"});
  };
  bool all_equal = true;
  for (const LedgerRow& row : rows) {
    const bool equal = row.wrong == 0 && row.retries_equal && row.delivered == row.submitted;
    all_equal = all_equal && equal;
    add(row, row.name, equal);
    sum.submitted += row.submitted;
    sum.batches += row.batches;
    sum.by_size += row.by_size;
    sum.by_time += row.by_time;
    sum.attempts += row.attempts;
    sum.repeats += row.repeats;
    sum.failed += row.failed;
    sum.retried += row.retried;
    sum.delivered += row.delivered;
  }
  add(sum, "sum", all_equal);
  return render_table(table, {1, 2, 3, 4, 5, 6, 7, 8, 9});
}

}  // namespace postbag

#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace postbag {

// Rows for people: columns as wide as their widest cell, the first to the left, the others to the
// right.
class BenchTable {
 public:
  explicit BenchTable(std::vector<std::string> header) : rows_{std::move(header)} {}
  void add(std::vector<std::string> row) { rows_.push_back(std::move(row)); }
  void print() const;  // to standard output

 private:
  std::vector<std::vector<std::string>> rows_;
};

// "2.31M", "98.4k", "512".
std::string short_count(double value);
std::string fixed(double value, int decimals);

// Of the runs of one case. 0 where there is none.
double median_of(std::vector<double> values);
double smallest_of(const std::vector<double>& values);
double largest_of(const std::vector<double>& values);

// What is being done now, to standard error: a line that is written over on a terminal, a line of
// its own in a log.
void show_progress(std::string_view text);
void clear_progress();

}  // namespace postbag

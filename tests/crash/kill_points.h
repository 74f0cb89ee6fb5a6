#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace postbag::test {

// Points of a run of the daemon at which tests/crash/kill_shim.cc kills it: what, call, when.
// "torn": half of the write is done.
std::span<const char* const> kill_points();

// The command line of `program` that is killed when it comes to `point` for the `nth` time, from 1.
std::vector<std::string> with_kill_point(const std::string& shim, const std::string& point,
                                         std::uint64_t nth, std::vector<std::string> program);

}  // namespace postbag::test

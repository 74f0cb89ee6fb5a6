#pragma once

#include <cstddef>

namespace postbag {

// Makes room for so many descriptors in this process's table, as far as the limit of open files
// allows (65,536 at most); nothing happens if there is room or it cannot be had. The kernel would
// make the table larger when one is opened that does not fit, twice as large each time, and where a
// process has several threads the one that opens it waits for all processors meanwhile: some 10 ms
// each time, in which a shard that opens connections does nothing else.
void reserve_descriptors(std::size_t count) noexcept;

}  // namespace postbag

#pragma once

#include <cstdint>
#include <string_view>

namespace postbag {

// CRC-32C (Castagnoli, as in iSCSI and RFC 3720 B.4) of `data`, going on from `crc`; 0 starts. So
// crc32c(crc32c(0, a), b) is the CRC of a followed by b. Uses SSE4.2 where the processor has it.
// Thread-safe.
std::uint32_t crc32c(std::uint32_t crc, std::string_view data);

// The same without special instructions. Public to tests, which compare the two.
std::uint32_t crc32c_portable(std::uint32_t crc, std::string_view data);

// The checksum of a row: of its fields with their lengths, so that bytes cannot move from one field
// to the next.
class RowChecksum {
 public:
  RowChecksum& add(std::string_view field);
  RowChecksum& add(std::uint64_t number);
  std::uint32_t value() const { return crc_; }

 private:
  std::uint32_t crc_ = 0;
};

}  // namespace postbag

#include "store/crc32c.h"

#include <gtest/gtest.h>

#include <string>
#include <string_view>

namespace postbag {
namespace {

TEST(Crc32c, KnownVectors) {
  EXPECT_EQ(crc32c(0, ""), 0u);
  EXPECT_EQ(crc32c(0, "123456789"), 0xe3069283u);
  EXPECT_EQ(crc32c(0, std::string(32, '\0')), 0x8a9136aau);  // RFC 3720 B.4
  EXPECT_EQ(crc32c(0, std::string(32, '\xff')), 0x62a8ab43u);
  std::string ascending;
  for (char c = 0; c < 32; ++c) ascending.push_back(c);
  EXPECT_EQ(crc32c(0, ascending), 0x46dd794eu);
}

TEST(Crc32c, BothWaysAgreeAndPiecesAddUp) {
  std::string data;
  for (int i = 0; i < 300; ++i) data.push_back(static_cast<char>(i * 37 + i / 7));
  for (std::size_t length = 0; length <= data.size(); ++length) {
    const std::string_view part = std::string_view(data).substr(0, length);
    EXPECT_EQ(crc32c(0, part), crc32c_portable(0, part)) << length;
    EXPECT_EQ(crc32c(crc32c(0, part), std::string_view(data).substr(length)), crc32c(0, data));
  }
}

// The instruction takes 1,536 bytes in three lanes.
TEST(Crc32c, LanesGiveTheSame) {
  std::string data;
  for (int i = 0; i < 5'000; ++i) data.push_back(static_cast<char>(i * 61 ^ i / 13));
  for (const std::size_t from : {0, 1, 7}) {
    for (const std::size_t length : {1'528, 1'535, 1'536, 1'537, 1'550, 3'071, 3'072, 4'615}) {
      const std::string_view part = std::string_view(data).substr(from, length);
      EXPECT_EQ(crc32c(7, part), crc32c_portable(7, part)) << from << " " << length;
    }
  }
}

}  // namespace
}  // namespace postbag

// The file of [intake] token_file.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <string>
#include <vector>

#include "cli/exit_codes.h"
#include "cli/token_file.h"
#include "tests/support/temp_directory.h"

namespace postbag {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

class TokenFileTest : public ::testing::Test {
 protected:
  std::vector<std::string> read(const std::string& content) {
    std::ofstream(path_, std::ios::binary | std::ios::trunc) << content;
    return read_tokens(path_);
  }
  std::string refusal(const std::string& content) {
    try {
      read(content);
    } catch (const CommandError& error) {
      EXPECT_EQ(error.exit_code(), 78);
      return error.what();
    }
    return "taken";
  }

  test::TempDirectory folder_;
  const std::string path_ = folder_.file("tokens");
};

TEST_F(TokenFileTest, OneALineWithoutBlanksAroundIt) {
  EXPECT_THAT(read("alpha\r\n\n  beta \n+/gamma=="), ElementsAre("alpha", "beta", "+/gamma=="));
}

// Each would be kept as a token that no client can send, or that nobody meant to be one.
TEST_F(TokenFileTest, ALineThatIsNoTokenIsRefusedWithoutItsContent) {
  const std::string bads[] = {"# of the old system", "two words", "\xef\xbb\xbf with a mark",
                              "t\xc3\xb6ken", std::string("nul\0nul", 7)};
  for (const std::string& bad : bads) {
    EXPECT_THAT(refusal("first\n" + bad + "\n"),
                AllOf(HasSubstr(path_ + ": line 2 "), Not(HasSubstr(bad))));
  }
}

TEST_F(TokenFileTest, AFileThatIsNotThereIsAnErrorOfTheConfiguration) {
  EXPECT_THROW(read_tokens(folder_.file("none")), CommandError);
}

}  // namespace
}  // namespace postbag

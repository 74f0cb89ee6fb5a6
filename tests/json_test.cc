#include "engine/pure/json.h"

#include <gtest/gtest.h>

#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "engine/pure/json_accept.h"

namespace postbag {
namespace {

// Both ways in; the padded one with hostile bytes behind the text, which must not be taken for part
// of it.
bool is_json(const std::string& text) {
  std::vector<char> padded(text.size() + json_padding, '}');
  std::memcpy(padded.data(), text.data(), text.size());
  const auto copied = check_json(text, false);
  const auto in_place = check_json({padded.data(), text.size()}, true);
  EXPECT_EQ(copied, in_place) << text.substr(0, 80);
  EXPECT_FALSE(copied && copied->empty());
  EXPECT_EQ(copied, check_json_thoroughly(text, false)) << text.substr(0, 80);
  EXPECT_EQ(copied, check_json_thoroughly({padded.data(), text.size()}, true));
  EXPECT_FALSE(copied && accept_json({padded.data(), text.size()})) << text.substr(0, 80);
  return !copied;
}

std::string nested(std::size_t depth, const std::string& inside, bool objects = false) {
  std::string text;
  for (std::size_t i = 0; i < depth; ++i) text += objects ? "{\"a\":" : "[";
  text += inside;
  for (std::size_t i = 0; i < depth; ++i) text += objects ? "}" : "]";
  return text;
}

TEST(Json, AcceptsValidTexts) {
  const std::string table[] = {
      "{}",
      "[]",
      "0",
      "-0",
      "-0.0e-0",
      "1E+2",
      "true",
      "false",
      "null",
      "\"\"",
      "\"a\"",
      " \t\r\n{ } \n",
      "{\"a\":{\"b\":[1,2.5,-3e10,null,true,false,\"x\"]}}",
      "{\"a\":1,\"a\":2}",
      "{\"\":0}",
      R"("\"\\\/\b\f\n\r\t\u0041\u00e9\ud83d\ude00")",
      R"("\u0000")",
      "\"\x7f\"",
      "\"\xc3\xbc \xe2\x82\xac \xf0\x9f\x98\x80 \xef\xbf\xbf\"",
      "\"\xef\xbb\xbf\"",
      // Numbers that no 64-bit integer or double holds are JSON all the same.
      "18446744073709551615",
      "18446744073709551616",
      "-9223372036854775809",
      "[123456789012345678901234567890]",
      "{\"amount\": 1e400, \"next\": [\"\\ud83d\\ude00\", {}, []]}",
      "-1e-999",
      "[" + std::string(400, '9') + "." + std::string(400, '9') + "]",
  };
  for (const std::string& text : table) {
    EXPECT_TRUE(is_json(text)) << text << ": " << check_json(text, false).value_or("");
  }
}

TEST(Json, RefusesInvalidTexts) {
  using namespace std::string_literals;
  const std::string table[] = {
      "",
      " ",
      "\n",
      "\xef\xbb\xbf{}",
      "\xef\xbb\xbf",
      "\xff\xfe{\0}\0"s,
      "\0"s,
      "{}\0"s,
      "1\0"s,
      "{\"a\":\"\0\"}"s,
      "[1]x",
      "{}{}",
      "{} {}",
      "1 2",
      "[1],",
      "{},{}",
      "]",
      "}",
      "[",
      "{",
      "[1",
      "[1,",
      "[1,]",
      "[,1]",
      "[,]",
      "[1,,2]",
      "[1 2]",
      "[1}",
      "{]",
      "{\"a\"}",
      "{\"a\":}",
      "{\"a\":1,}",
      "{,\"a\":1}",
      "{a:1}",
      "{'a':1}",
      "{1:1}",
      "{\"a\" 1}",
      "{\"a\"::1}",
      "{\"a\":1 \"b\":2}",
      "\"",
      "\"abc",
      "\"\\\"",
      "\"\n\"",
      "\"\t\"",
      "\"\x1f\"",
      R"("\x41")",
      R"("\u12")",
      R"("\u12g4")",
      R"("\U0041")",
      R"("\ud800")",
      R"("\udc00")",
      R"("\ud800\ud800")",
      R"("\ud800x")",
      R"("\ude00\ud83d")",
      R"(["\ud800"])",
      R"(["\uD800"])",
      R"(["\uDfff"])",
      R"({"\uDBFF\u0041":0})",
      "\"\x80\"",
      "\"\xc0\x80\"",
      "\"\xc1\xbf\"",
      "\"\xc3\"",
      "\"\xe0\x80\x80\"",
      "\"\xed\xa0\x80\"",
      "\"\xf4\x90\x80\x80\"",
      "\"\xf5\x80\x80\x80\"",
      "\"\xf8\x88\x80\x80\x80\"",
      "\"\xff\"",
      "\xc3\xbc",
      "01",
      "-",
      "+1",
      ".5",
      "1.",
      "1.e2",
      "1e",
      "1e+",
      "0x10",
      "1_000",
      "-01",
      "--1",
      "NaN",
      "Infinity",
      "-Infinity",
      "True",
      "nul",
      "nulll",
      "truefalse",
      "undefined",
      "// c\n1",
      "[1] /* c */",
      "[\f1]",
      "[\xc2\xa0"
      "1]",
      // Behind a number that makes simdjson stop, too.
      "[1e400,]",
      "[1e400",
      "[123456789012345678901234567890,01]",
      "{\"a\":1e400 \"b\":1}",
      "{\"a\":1e400,}",
      "{\"a\":1e400,\"b\"}",
      "{\"a\":1e400,\"b\":}",
      "[1e400}",
      "[1e400]]",
      "[1e400,\"\\ud800\"]",
      "[1e400,\"\\ud800\\u0041\"]",
      "[1e400,\"\\x\"]",
      "[1e400,\"\\",
      "[1e400,\"\\u00",
      "[1e400,\"\xff\"]",
      "[1e400,\"\n\"]",
      "[1e400,tru]",
      "[1e400,-]",
      "[1e400,1.]",
      "1e400 1",
  };
  for (const std::string& text : table) EXPECT_FALSE(is_json(text)) << text;
}

TEST(Json, CountsSixtyFourLevels) {
  for (const bool objects : {false, true}) {
    for (const char* inside : {"1", "\"[[[\"", "1e400", "123456789012345678901234567890"}) {
      EXPECT_TRUE(is_json(nested(63, inside, objects)));
      EXPECT_TRUE(is_json(nested(64, inside, objects))) << inside;
      EXPECT_FALSE(is_json(nested(65, inside, objects))) << inside;
    }
    for (const char* empty : {"[]", "{}", "[ ]", "{\n}"}) {
      EXPECT_TRUE(is_json(nested(62, empty, objects)));
      EXPECT_TRUE(is_json(nested(63, empty, objects))) << empty;
      EXPECT_FALSE(is_json(nested(64, empty, objects))) << empty;
    }
  }
  EXPECT_FALSE(is_json(nested(100'000, "1")));
  EXPECT_FALSE(is_json(std::string(100'000, '[')));
  EXPECT_FALSE(is_json(nested(64, "1") + "]"));
  EXPECT_FALSE(is_json(nested(64, "1,")));
  // Wide is not deep.
  std::string wide = "[";
  for (int i = 0; i < 1'000; ++i) wide += "[{}],";
  EXPECT_TRUE(is_json(wide + "[]]"));
}

TEST(Json, TakesTextsOfManySizesInAnyOrder) {
  for (const std::size_t size : {10UL, 300'000UL, 1UL, 20'000UL, 2'000'000UL, 100UL}) {
    const std::string text = "\"" + std::string(size, 'a') + "\"";
    EXPECT_TRUE(is_json(text)) << size;
    EXPECT_FALSE(is_json(text + "x")) << size;
    EXPECT_FALSE(is_json(text.substr(0, text.size() - 1))) << size;
  }
}

TEST(Json, ReadsNothingBehindThePadding) {
  // An exact allocation, so that the address sanitizer sees one byte too many.
  const std::string text = "{\"a\":[1,2,3],\"b\":\"c\"}";
  const auto exact = std::make_unique<char[]>(text.size() + json_padding);
  std::memcpy(exact.get(), text.data(), text.size());
  EXPECT_FALSE(check_json({exact.get(), text.size()}, true));
  const auto bare = std::make_unique<char[]>(text.size());
  std::memcpy(bare.get(), text.data(), text.size());
  EXPECT_FALSE(check_json({bare.get(), text.size()}, false));
}

// A prefix "[1e400," sends a text to the second reader, so both readers can be held against each
// other.
TEST(Json, BothReadersAgree) {
  std::mt19937_64 random(11);
  const std::vector<std::string> pieces = {"{",
                                           "}",
                                           "[",
                                           "]",
                                           ",",
                                           ":",
                                           "\"a\"",
                                           "\"\\u00e9\"",
                                           "1",
                                           "-2.5",
                                           "null",
                                           "tru",
                                           "true",
                                           "\"\\q\"",
                                           " ",
                                           "01",
                                           "\"\xc3\xbc\"",
                                           "\"\xc3\"",
                                           "[]",
                                           "{}",
                                           "1e5",
                                           "\"\\ud83d\\ude00\"",
                                           "\"\\ud83d\"",
                                           "{\"k\":",
                                           "[1,2],",
                                           ",3]"};
  int valid = 0;
  for (int i = 0; i < 100'000; ++i) {
    std::string text;
    for (std::size_t n = 1 + random() % 7; n > 0; --n) text += pieces[random() % pieces.size()];
    const bool fast = !check_json_thoroughly("[1," + text + "]", false);
    const bool slow = !check_json_thoroughly("[1e400," + text + "]", false);
    ASSERT_EQ(fast, slow) << text;
    ASSERT_EQ(fast, !check_json("[1," + text + "]", false)) << text;
    valid += fast ? 1 : 0;
  }
  EXPECT_GT(valid, 5'000);
}

// Exact allocations, so that the address sanitizer sees one byte too many.
bool accepts(const std::string& text) {
  const auto exact = std::make_unique<char[]>(text.size());
  std::memcpy(exact.get(), text.data(), text.size());
  return accept_json({exact.get(), text.size()});
}

TEST(JsonAccept, TakesWhatHooksAreLike) {
  for (const char* text : {
           "{}",
           "[]",
           " { } ",
           "[1,-2.5e+3,0,true,false,null]",
           "{\"a\":{\"b\":[]},\"c\":\"d\"}",
           "{ \"a\" : 1 ,\r\n\t\"b\" : [ 1 , 2 ] }\n",
           "{\"escapes\":\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u00e9\\uABCD\"}",
           "{\"title\":\"\xc3\x89l\xc3\xa8ve \xe2\x82\xac \xf0\x9f\x98\x80\"}",
           "{\"amount\": 1e400}",
       }) {
    EXPECT_TRUE(accepts(text)) << text;
  }
}

// Every length, so that a quote, a backslash, a control character and a broken character are met at
// every place of a vector and behind the last one.
TEST(JsonAccept, SeesTheEndOfAStringWhereverItIs) {
  for (std::size_t size = 0; size <= 100; ++size) {
    const std::string plain(size, 'a');
    EXPECT_TRUE(accepts("[\"" + plain + "\"]")) << size;
    EXPECT_TRUE(accepts("{\"" + plain + "\":\"" + plain + "\"}")) << size;
    EXPECT_FALSE(accepts("[\"" + plain + "]")) << size;
    EXPECT_FALSE(accepts("[\"" + plain + "\\\"]")) << size;
    for (std::size_t at = 0; at < size; ++at) {
      for (const char wrong : {'"', '\\', '\n', '\0', '\x1f', '\x80', '\xff'}) {
        std::string text = plain;
        text[at] = wrong;
        ASSERT_FALSE(accepts("[\"" + text + "\"]")) << size << " " << at;
      }
      for (const char right : {' ', '!', '#', ']', '}', '[', '^', '~', '\x7f'}) {
        std::string text = plain;
        text[at] = right;
        ASSERT_TRUE(accepts("[\"" + text + "\"]")) << size << " " << at;
      }
    }
  }
}

// It may only say yes where the thorough check does; and it must say yes often, or it were no use.
TEST(JsonAccept, NeverTakesWhatTheThoroughCheckRefuses) {
  std::mt19937_64 random(12);
  const std::vector<std::string> seeds = {
      "{\"id\":\"evt_1NG8Du2eZvKYlo2C\",\"created\":1686089970,\"live\":false,\"data\":{\"amount\":"
      "-19.99,"
      "\"list\":[1,[2,{}],\"x\",null,true],\"note\":\"\\u00e9 \\\"quoted\\\"\"}}",
      "[\"\xc3\xa9\",\"\xe0\xa0\x80\",\"\xed\x9f\xbf\",\"\xf0\x90\x80\x80\",\"\xf4\x8f\xbf\xbf\"]",
      "[0,-0,1e5,1E-5,0.5,10,[[[[]]]],{\"\":{\"\":[]}}]",
  };
  const std::string bytes = "{}[],:\"\\ \n01.-+eEtfnu/\xc3\xa9\xed\xa0\xf4\x90\xe0\x80\x1f";
  int accepted = 0, refused = 0;
  for (int i = 0; i < 300'000; ++i) {
    std::string text = seeds[random() % seeds.size()];
    for (std::size_t n = 1 + random() % 3; n > 0; --n) {
      const std::size_t at = random() % text.size();
      const char byte = bytes[random() % bytes.size()];
      switch (random() % 3) {
        case 0:
          text[at] = byte;
          break;
        case 1:
          text.insert(at, 1, byte);
          break;
        default:
          text.erase(at, 1);
      }
    }
    const bool fast = accepts(text);
    const bool valid = !check_json_thoroughly(text, false);
    ASSERT_TRUE(valid || !fast) << text;
    ++(fast ? accepted : refused);
    // What it does not take has a surrogate, or is no object or array any more.
    if (valid && !fast && text.find("\\ud") == text.npos && text.find("\\uD") == text.npos) {
      const char first = text[text.find_first_not_of(" \n")];
      ASSERT_TRUE(first != '{' && first != '[') << text;
    }
  }
  EXPECT_GT(accepted, 20'000);
  EXPECT_GT(refused, 50'000);
}

TEST(Json, EveryThreadMayAsk) {
  std::vector<std::thread> threads;
  std::vector<int> good(4);
  for (std::size_t t = 0; t < good.size(); ++t) {
    threads.emplace_back([&good, t] {
      for (int i = 0; i < 200; ++i)
        good[t] += check_json("{\"n\":" + std::to_string(i) + "}", false) ? 0 : 1;
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(good, std::vector<int>(4, 200));
}

}  // namespace
}  // namespace postbag

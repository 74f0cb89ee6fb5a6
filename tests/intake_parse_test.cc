// The parts of intake that read bytes without a socket: request heads, hooks, queries, times, JSON
// text.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "cli/intake/chunked_body.h"
#include "cli/intake/hook_parser.h"
#include "cli/intake/http_text.h"
#include "cli/intake/json_scan.h"
#include "cli/intake/query.h"
#include "cli/intake/request_head.h"
#include "cli/intake/tokens.h"
#include "cli/text/json_writer.h"
#include "cli/text/rfc3339.h"
#include "cli/text/utf8.h"
#include "postbag/json.h"

namespace postbag {
namespace {

using testing::ElementsAre;

std::shared_ptr<RequestBody> make_body(std::string_view text) {
  auto budget = std::make_shared<ByteBudget>(1 << 30);
  auto body = std::make_shared<RequestBody>(budget, text.size());
  std::memcpy(body->free_begin(), text.data(), text.size());
  EXPECT_TRUE(body->receive(text.size()));
  return body;
}

// Request heads

int head_status(std::string_view raw) {
  RequestHead head;
  const auto error = check_request_head(raw, head);
  return error ? error->status : 0;
}

TEST(RequestHead, ReadsWhatIsPlain) {
  RequestHead head;
  const std::string raw =
      "POST /v1/hooks?wait=delivered HTTP/1.1\r\nHost: a:8420\r\nContent-Length:  12 \r\n"
      "content-TYPE: application/json\r\nEXPECT: 100-Continue\r\nX-Empty:\r\n\r\n";
  EXPECT_FALSE(check_request_head(raw, head));
  EXPECT_EQ(head.method, "POST");
  EXPECT_EQ(head.target, "/v1/hooks?wait=delivered");
  EXPECT_EQ(head.minor_version, 1);
  EXPECT_EQ(head.content_length, 12u);
  EXPECT_TRUE(head.keep_alive);
  EXPECT_TRUE(head.expect_continue);
  EXPECT_FALSE(head.chunked);
  EXPECT_EQ(head.find("Content-Type"), "application/json");
  EXPECT_EQ(head.find("x-empty"), "");
  EXPECT_FALSE(head.find("absent"));
}

TEST(RequestHead, LeavesNothingOfTheHeadBefore) {
  RequestHead head;
  EXPECT_FALSE(check_request_head(
      "POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n",
      head));
  EXPECT_TRUE(head.chunked);
  EXPECT_FALSE(head.keep_alive);
  EXPECT_FALSE(check_request_head("GET /b HTTP/1.1\r\nHost: a\r\n\r\n", head));
  EXPECT_FALSE(head.chunked);
  EXPECT_TRUE(head.keep_alive);
  EXPECT_EQ(head.fields.size(), 1u);
}

TEST(RequestHead, KnowsWhenAConnectionIsKept) {
  const std::vector<std::pair<std::string, bool>> cases = {
      {"HTTP/1.1\r\nHost: a\r\n\r\n", true},
      {"HTTP/1.1\r\nHost: a\r\nConnection: foo, Close\r\n\r\n", false},
      {"HTTP/1.0\r\n\r\n", false},
      {"HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", true},
      {"HTTP/1.0\r\nConnection: keep-alive, close\r\n\r\n", false},
  };
  for (const auto& [rest, kept] : cases) {
    RequestHead head;
    EXPECT_FALSE(check_request_head("GET / " + rest, head)) << rest;
    EXPECT_EQ(head.keep_alive, kept) << rest;
  }
}

struct HeadCase {
  const char* what;
  std::string raw;
  int status;
};

// Field lines behind a good request line and Host.
std::string with_fields(const std::string& fields) {
  return "POST /v1/hooks HTTP/1.1\r\nHost: a\r\n" + fields + "\r\n";
}

std::vector<HeadCase> bad_heads() {
  return {
      {"TE not chunked", with_fields("Transfer-Encoding: xchunked\r\n"), 400},
      {"TE list", with_fields("Transfer-Encoding: chunked, identity\r\n"), 400},
      {"TE list before", with_fields("Transfer-Encoding: gzip, chunked\r\n"), 400},
      {"TE twice", with_fields("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"),
       400},
      {"TE empty", with_fields("Transfer-Encoding:\r\n"), 400},
      {"TE quoted", with_fields("Transfer-Encoding: \"chunked\"\r\n"), 400},
      {"TE vertical tab", with_fields("Transfer-Encoding: \vchunked\r\n"), 400},
      {"TE and CL", with_fields("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n"), 400},
      {"CL and TE", with_fields("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"), 400},
      {"TE with HTTP/1.0", "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 400},
      {"CL twice, equal", with_fields("Content-Length: 5\r\nContent-Length: 5\r\n"), 400},
      {"CL twice, not equal", with_fields("Content-Length: 5\r\nContent-Length: 6\r\n"), 400},
      {"CL list", with_fields("Content-Length: 5, 5\r\n"), 400},
      {"CL plus", with_fields("Content-Length: +5\r\n"), 400},
      {"CL minus", with_fields("Content-Length: -5\r\n"), 400},
      {"CL hex", with_fields("Content-Length: 0x5\r\n"), 400},
      {"CL empty", with_fields("Content-Length:\r\n"), 400},
      {"CL blank inside", with_fields("Content-Length: 1 2\r\n"), 400},
      {"CL overflow", with_fields("Content-Length: 18446744073709551621\r\n"), 400},
      {"no Host", "GET / HTTP/1.1\r\n\r\n", 400},
      {"two Hosts", "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400},
      {"two Hosts, 1.0", "GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n", 400},
      {"Host list", "GET / HTTP/1.1\r\nHost: a, b\r\n\r\n", 400},
      {"Host user", "GET / HTTP/1.1\r\nHost: a@b\r\n\r\n", 400},
      {"Host path", "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400},
      {"obs-fold", with_fields("X: a\r\n b\r\n"), 400},
      {"obs-fold tab", with_fields("X: a\r\n\tb\r\n"), 400},
      {"obs-fold first", "GET / HTTP/1.1\r\n Host: a\r\n\r\n", 400},
      {"blank before colon", with_fields("Content-Length : 5\r\n"), 400},
      {"tab before colon", with_fields("Content-Length\t: 5\r\n"), 400},
      {"no colon", with_fields("Content-Length\r\n"), 400},
      {"empty name", with_fields(": 5\r\n"), 400},
      {"control in name", with_fields("Content\x01Length: 5\r\n"), 400},
      {"high byte in name", with_fields("Content\xc2\xa0Length: 5\r\n"), 400},
      {"bare LF", "GET / HTTP/1.1\nHost: a\r\n\r\n", 400},
      {"bare LF in fields", with_fields("X: a\nContent-Length: 5\r\n"), 400},
      {"bare CR in value", with_fields("X: a\rContent-Length: 5\r\n"), 400},
      {"CR CR LF", with_fields("X: a\r\r\n"), 400},
      {"NUL in value", with_fields(std::string("X: a") + '\0' + "\r\n"), 400},
      {"escape in value", with_fields("X: \x1b[0m\r\n"), 400},
      {"DEL in value", with_fields("X: \x7f\r\n"), 400},
      {"absolute form", "GET http://a/ HTTP/1.1\r\nHost: a\r\n\r\n", 400},
      {"asterisk form", "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", 400},
      {"authority form", "CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n", 400},
      {"two blanks", "GET  / HTTP/1.1\r\nHost: a\r\n\r\n", 400},
      {"blank in target", "GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", 400},
      {"tab for blank", "GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n", 400},
      {"fragment", "GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n", 400},
      {"high byte in target", "GET /\xc3\xa9 HTTP/1.1\r\nHost: a\r\n\r\n", 400},
      {"no version", "GET /\r\nHost: a\r\n\r\n", 400},
      {"lower-case version", "GET / http/1.1\r\nHost: a\r\n\r\n", 400},
      {"blank behind version", "GET / HTTP/1.1 \r\nHost: a\r\n\r\n", 400},
      {"bad method", "G(T / HTTP/1.1\r\nHost: a\r\n\r\n", 400},
      {"HTTP/2.0", "GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505},
      {"HTTP/1.2", "GET / HTTP/1.2\r\nHost: a\r\n\r\n", 505},
      {"Expect", with_fields("Expect: 200-ok\r\n"), 417},
  };
}

TEST(RequestHead, RefusesWhatTwoParsersMayReadDifferently) {
  for (const HeadCase& bad : bad_heads()) EXPECT_EQ(head_status(bad.raw), bad.status) << bad.what;
}

TEST(RequestHead, Limits) {
  const auto fields = [](std::size_t count) {
    std::string text;
    for (std::size_t i = 0; i < count; ++i) text += "X: a\r\n";
    return text;
  };
  EXPECT_EQ(head_status(with_fields(fields(head_fields_max - 1))), 0);
  EXPECT_EQ(head_status(with_fields(fields(head_fields_max))), 431);
  EXPECT_EQ(head_status(with_fields("X: " + std::string(head_bytes_max, 'a') + "\r\n")), 431);
}

TEST(RequestHead, EndIsFoundWhereverTheBytesAreSplit) {
  const std::string head = with_fields("X: a\r\n");
  const std::string text = head + "body";
  for (std::size_t step = 1; step <= text.size(); ++step) {
    std::size_t scanned = 0;
    std::size_t arrived = 0;
    HeadEnd end;
    while (end.state == HeadEnd::State::incomplete && arrived < text.size()) {
      arrived = std::min(arrived + step, text.size());
      end = find_head_end(std::string_view(text).substr(0, arrived), scanned);
    }
    ASSERT_EQ(end.state, HeadEnd::State::complete) << step;
    EXPECT_EQ(end.bytes, head.size()) << step;
  }
}

TEST(RequestHead, EndRefusesBareLineFeedAndForeignProtocols) {
  for (const std::string_view text : {"GET / HTTP/1.1\n\n", "\n", "\x16\x03\x01", " GET", "\r\n"}) {
    std::size_t scanned = 0;
    EXPECT_EQ(find_head_end(text, scanned).state, HeadEnd::State::bad) << text;
  }
}

// Chunked bodies

struct ChunkedResult {
  ChunkedBody::State state;
  std::string body;
  std::size_t used;
};

ChunkedResult read_chunked(std::string_view wire, std::size_t step, std::uint64_t body_max = 1000) {
  const std::string head = with_fields("Transfer-Encoding: chunked\r\n");
  ChunkedBody chunked(head, body_max);
  ChunkedResult result{ChunkedBody::State::need_more, {}, 0};
  std::size_t arrived = 0;
  while (result.state == ChunkedBody::State::need_more && arrived < wire.size()) {
    arrived = std::min(arrived + step, wire.size());
    std::size_t used = 0;
    result.state = chunked.put(wire.substr(result.used, arrived - result.used), used);
    result.used += used;
  }
  result.body = chunked.body();
  return result;
}

TEST(ChunkedBody, IsReadWhereverItIsSplit) {
  const std::string wire = "5\r\nhello\r\n1\r\n \r\nA\r\n0123456789\r\n0\r\nX-Trailer: a\r\n\r\n";
  for (std::size_t step = 1; step <= wire.size(); ++step) {
    const ChunkedResult result = read_chunked(wire + "GET /next", step);
    EXPECT_EQ(result.state, ChunkedBody::State::done) << step;
    EXPECT_EQ(result.body, "hello 0123456789") << step;
    EXPECT_EQ(result.used, wire.size()) << step;
  }
}

TEST(ChunkedBody, RefusesWhatIsNotClear) {
  using State = ChunkedBody::State;
  const std::vector<std::pair<std::string, State>> cases = {
      {"x\r\n", State::bad},
      {"-1\r\n", State::bad},
      {"0x5\r\nhello\r\n0\r\n\r\n", State::bad},
      {"5;ext=1\r\nhello\r\n0\r\n\r\n", State::bad},
      {"5;\nxx\r\nhello\r\n0\r\n\r\n", State::bad},
      {"5 \nhello\r\n0\r\n\r\n", State::bad},
      {"5\r\nhelloXX0\r\n\r\n", State::bad},
      {"5\nhello\n0\n\n\r\n", State::bad},
      {"11111111111111111\r\n", State::bad},
      {"3e9\r\n", State::too_large},
      {"3e8\r\n" + std::string(1000, 'a') + "\r\n1\r\na\r\n0\r\n\r\n", State::too_large},
  };
  for (const auto& [wire, state] : cases) {
    EXPECT_EQ(read_chunked(wire, wire.size()).state, state) << wire.substr(0, 40);
  }
}

TEST(ChunkedBody, SaysThatExtensionsAreNotTaken) {
  const std::string head = with_fields("Transfer-Encoding: chunked\r\n");
  std::size_t used = 0;
  ChunkedBody extended(head, 1000);
  EXPECT_EQ(extended.put("5;a=b\r\nhello\r\n0\r\n\r\n", used), ChunkedBody::State::bad);
  EXPECT_EQ(extended.problem(), "chunk extensions are not taken");
  ChunkedBody broken(head, 1000);
  EXPECT_EQ(broken.put("x\r\n", used), ChunkedBody::State::bad);
  EXPECT_EQ(broken.problem(), "the chunked body is malformed");
}

// Scanning JSON

TEST(JsonScan, FindsTheEndOfAValue) {
  const std::vector<std::pair<std::string, std::size_t>> cases = {
      {"{}", 2},
      {"[],", 2},
      {R"({"a":"}"} x)", 9},
      {R"(["\"]"],)", 7},
      {R"("a\\",)", 5},
      {R"("a\"b" )", 6},
      {"12.5e3}", 6},
      {"true,", 4},
      {"null", 4},
      {"{\"k\":[" + std::string(200, ' ') + "]}", 208},
      {"\"" + std::string(100, '\\') + "\"", 102},
      {"[\"" + std::string(62, '\\') + "\"]", 66},
  };
  for (const auto& [text, bytes] : cases) {
    const auto body = make_body(text);
    const char* begin = body->view().data();
    EXPECT_EQ(skip_json_value(begin, begin + text.size()), begin + bytes) << text;
    EXPECT_EQ(skip_json_value_plain(begin, begin + text.size()), begin + bytes) << text;
  }
}

TEST(JsonScan, SaysWhenAValueDoesNotEnd) {
  for (const std::string text : {"", "{", "[[]", "\"abc", "\"abc\\\"", "{\"a\":\"}", ",", "}"}) {
    const auto body = make_body(text);
    const char* begin = body->view().data();
    EXPECT_EQ(skip_json_value(begin, begin + text.size()), nullptr) << text;
    EXPECT_EQ(skip_json_value_plain(begin, begin + text.size()), nullptr) << text;
  }
}

// What a slice must be good for: where it is valid JSON, it ends where the value ends. For text of
// any kind both ways of scanning may differ only where the slice is not valid JSON.
TEST(JsonScan, BothWaysAgreeOnRandomText) {
  std::mt19937 random(20260101);
  const std::string_view alphabet = "{}[]\"\\,:a1 \x80\n";
  std::size_t valid = 0;
  for (int round = 0; round < 100'000; ++round) {
    std::string text(1, "{[\""[random() % 3]);
    const std::size_t length = random() % 40 + (round % 50 == 0 ? 150 : 0);
    while (text.size() < length) text += alphabet[random() % alphabet.size()];
    const auto body = make_body(text);
    const char* begin = body->view().data();
    const char* end = begin + text.size();
    const char* fast = skip_json_value(begin, end);
    const char* plain = skip_json_value_plain(begin, end);
    const auto is_json = [&](const char* stop) {
      if (stop == nullptr) return false;
      return !check_json({begin, static_cast<std::size_t>(stop - begin)}, true);
    };
    EXPECT_EQ(is_json(fast), is_json(plain)) << text;
    if (is_json(plain)) {
      ++valid;
      EXPECT_EQ(fast, plain) << text;
    }
    const StringScan scan = scan_json_string(begin + 1, end);
    const StringScan scan_plain = scan_json_string_plain(begin + 1, end);
    EXPECT_EQ(scan.stop, scan_plain.stop) << text;
    if (scan.stop != nullptr) {
      EXPECT_EQ(scan.ascii, scan_plain.ascii) << text;
    }
  }
  EXPECT_GT(valid, 100u);
}

// Hooks

TEST(HookParser, TakesPayloadsByteForByte) {
  const std::string text =
      R"( { "data" : {"b" : 1.50e+2, "a":"\u00e9" , "z":[ ]} , "target":"https://a/",)"
      R"("event":"e\u0041\n\ud83d\ude00","group":"gr\u00fcn","id":"x_1-",)"
      R"("headers":{"X-A":"1","X-B":"\"q\""}} )";
  const auto body = make_body(text);
  ParsedCall call = parse_json_hooks(body);
  ASSERT_FALSE(call.error) << call.error->message;
  ASSERT_EQ(call.hooks.size(), 1u);
  const HookView& hook = call.hooks[0];
  EXPECT_EQ(hook.body, R"({"b" : 1.50e+2, "a":"\u00e9" , "z":[ ]})");
  EXPECT_TRUE(call.hooks.is_checked(0));
  // A view into the request itself, not a copy.
  EXPECT_GE(hook.body.data(), body->view().data());
  EXPECT_LT(hook.body.data(), body->view().data() + text.size());
  EXPECT_EQ(hook.target, "https://a/");
  EXPECT_EQ(hook.event, "eA\n\xf0\x9f\x98\x80");
  EXPECT_EQ(hook.group, "gr\xc3\xbcn");
  EXPECT_EQ(hook.id, "x_1-");
  ASSERT_EQ(hook.headers.size(), 2u);
  EXPECT_EQ(hook.headers[0].name, "X-A");
  EXPECT_EQ(hook.headers[1].value, "\"q\"");
  EXPECT_THAT(call.ids, ElementsAre("x_1-"));
}

TEST(HookParser, PayloadsOfEveryKind) {
  for (const std::string data :
       {"1", "-0.5e-3", "\"text, with } and ]\"", "null", "true", "[]", "{}", "[[[1],2],{}]",
        "123456789012345678901234567890", R"("\\")", R"({"a":"\\\""})"}) {
    const std::string text = R"({"data":)" + data + R"(,"target":"t"})";
    ParsedCall call = parse_json_hooks(make_body(text));
    ASSERT_FALSE(call.error) << data << call.error->message;
    EXPECT_EQ(call.hooks[0].body, data);
  }
}

TEST(HookParser, HooksLiveAsLongAsTheList) {
  HookList hooks;
  {
    ParsedCall call = parse_json_hooks(make_body(R"({"target":"\u0061bc","data":[1]})"));
    hooks = std::move(call.hooks);
  }
  EXPECT_EQ(hooks[0].target, "abc");
  EXPECT_EQ(hooks[0].body, "[1]");
}

std::string nested(std::size_t depth) {
  return std::string(depth, '[') + "1" + std::string(depth, ']');
}

struct BodyCase {
  std::string body;
  int status;
  std::string code;
  std::optional<std::size_t> index;
};

void expect_refused(const BodyCase& bad, const ParsedCall& call) {
  ASSERT_TRUE(call.error) << bad.body;
  EXPECT_EQ(call.error->status, bad.status) << bad.body;
  EXPECT_EQ(call.error->code, bad.code) << bad.body;
  EXPECT_EQ(call.error->index, bad.index) << bad.body;
}

TEST(HookParser, RefusesBadJsonDocuments) {
  const std::string good = R"({"target":"t","data":1})";
  const std::vector<BodyCase> cases = {
      {"", 422, "empty", {}},
      {" \n", 422, "empty", {}},
      {"[]", 422, "empty", {}},
      {" [ ] ", 422, "empty", {}},
      {"1", 400, "bad_json", 0},
      {"\"a\"", 400, "bad_json", 0},
      {"{", 400, "bad_json", 0},
      {"{}", 422, "bad_hook", 0},
      {good + good, 400, "bad_json", 1},
      {good + "]", 400, "bad_json", 1},
      {"[" + good, 400, "bad_json", 1},
      {"[" + good + ",]", 400, "bad_json", 1},
      {"[" + good + " " + good + "]", 400, "bad_json", 1},
      {"[" + good + ",1]", 400, "bad_json", 1},
      {"[[" + good + "]]", 400, "bad_json", 0},
      {"[" + good + "]x", 400, "bad_json", 1},
      {"\xef\xbb\xbf" + good, 400, "bad_json", 0},
      {R"({"target":"t"})", 422, "bad_hook", 0},
      {R"({"data":1})", 422, "bad_hook", 0},
      {R"({"target":1,"data":1})", 422, "bad_hook", 0},
      {R"({"target":null,"data":1})", 422, "bad_hook", 0},
      {R"({"target":"t","data":1,"event":{}})", 422, "bad_hook", 0},
      {R"({"target":"t","data":1,"id":""})", 422, "bad_hook", 0},
      {R"({"target":"t","data":1,"id":7})", 422, "bad_hook", 0},
      {R"({"target":"t","data":1,"headers":[]})", 422, "bad_hook", 0},
      {R"({"target":"t","data":1,"headers":{"A":1}})", 422, "bad_hook", 0},
      {R"({"target":"t","data":1,"headers":{"A"}})", 400, "bad_json", 0},
      {R"({"target":"t","data":1,"headers":{"A":"1",}})", 400, "bad_json", 0},
      {R"({"target":"t","data":1,"Target":"u"})", 400, "bad_json", 0},
      {R"({"target":"t","data":1,"extra":1})", 400, "bad_json", 0},
      {R"({"target":"t","target":"t","data":1})", 400, "bad_json", 0},
      {R"({"target":"t","data":1,"d\u0061ta":1})", 400, "bad_json", 0},
      {R"({"target":"t","data":1,})", 400, "bad_json", 0},
      {R"({"target":"t" "data":1})", 400, "bad_json", 0},
      {R"({"target" "t","data":1})", 400, "bad_json", 0},
      {R"({target:"t","data":1})", 400, "bad_json", 0},
      {R"({"target":"t","data":})", 400, "bad_json", 0},
      {R"({"target":"t","data":tru})", 400, "bad_json", 0},
      {R"({"target":"t","data":01})", 400, "bad_json", 0},
      {R"({"target":"t","data":{"a":1])", 400, "bad_json", 0},
      {R"({"target":"t","data":{"a":1]})", 400, "bad_json", 0},
      {R"({"target":"t","data":{"a"}})", 400, "bad_json", 0},
      {R"({"target":"t","data":"\ud800"})", 400, "bad_json", 0},
      {"{\"target\":\"t\",\"data\":\"\xff\"}", 400, "bad_json", 0},
      {"{\"target\":\"t\",\"data\":\"a\nb\"}", 400, "bad_json", 0},
      {"{\"target\":\"\xff\",\"data\":1}", 400, "bad_json", 0},
      {"{\"target\":\"a\tb\",\"data\":1}", 400, "bad_json", 0},
      {R"({"target":"\x","data":1})", 400, "bad_json", 0},
      {R"({"target":"\u12g4","data":1})", 400, "bad_json", 0},
      {R"({"target":"\ud800","data":1})", 400, "bad_json", 0},
      {R"({"target":"\ud800\u0041","data":1})", 400, "bad_json", 0},
      {R"({"target":"\udc00","data":1})", 400, "bad_json", 0},
      {R"({"target":"t\)", 400, "bad_json", 0},
      {R"({"target":"t","data":)" + nested(65) + "}", 400, "bad_json", 0},
      {"[" + good + "," + good + R"(,{"target":"t"}])", 422, "bad_hook", 2},
  };
  for (const BodyCase& bad : cases) expect_refused(bad, parse_json_hooks(make_body(bad.body)));
}

TEST(HookParser, TheWrapperDoesNotCountForTheDepth) {
  const std::string text = R"([{"target":"t","data":)" + nested(64) + "}]";
  EXPECT_FALSE(parse_json_hooks(make_body(text)).error);
}

TEST(HookParser, EveryCutOfAGoodBodyIsRefused) {
  const std::string text =
      R"([{"target":"https://a/","data":{"a":["x\"y",1]},"headers":{"A":"\u00e9"}})"
      R"(,{"data":12,"target":"t"}])";
  ASSERT_FALSE(parse_json_hooks(make_body(text)).error);
  for (std::size_t bytes = 0; bytes < text.size(); ++bytes) {
    EXPECT_TRUE(parse_json_hooks(make_body(text.substr(0, bytes))).error) << bytes;
  }
}

TEST(HookParser, ErrorsNameNoContent) {
  ParsedCall call = parse_json_hooks(make_body(R"({"s3cret":1})"));
  ASSERT_TRUE(call.error);
  EXPECT_EQ(call.error->message.find("s3cret"), std::string::npos);
}

TEST(HookParser, ArrayKeepsOrderAndIds) {
  ParsedCall call = parse_json_hooks(make_body(
      R"([{"target":"t","data":1},{"target":"t","data":2,"id":"b"},{"target":"t","data":3}])"));
  ASSERT_FALSE(call.error);
  ASSERT_EQ(call.hooks.size(), 3u);
  EXPECT_EQ(call.hooks[2].body, "3");
  EXPECT_THAT(call.ids, ElementsAre("", "b", ""));
}

TEST(HookParser, NdjsonLines) {
  ParsedCall call = parse_ndjson_hooks(
      make_body("\n{\"target\":\"t\",\"data\":1}\r\n\r\n  \n {\"target\":\"t\",\"data\":2} "
                "\n{\"target\":\"t\",\"data\":3}"));
  ASSERT_FALSE(call.error) << call.error->message;
  ASSERT_EQ(call.hooks.size(), 3u);
  EXPECT_EQ(call.hooks[0].body, "1");
  EXPECT_EQ(call.hooks[2].body, "3");
  EXPECT_TRUE(call.ids.empty());
}

TEST(HookParser, RefusesBadNdjson) {
  const std::string good = "{\"target\":\"t\",\"data\":1}\n";
  const std::vector<BodyCase> cases = {
      {"", 422, "empty", {}},
      {"\n\r\n \n", 422, "empty", {}},
      {good + "[" + good + "]", 400, "bad_json", 1},
      {good + "\n" + "x\n", 400, "bad_json", 1},
      {"{\"target\":\"t\",\n\"data\":1}\n", 400, "bad_json", 0},
      {"{\"target\":\"t\",\"data\":1}{\"target\":\"t\",\"data\":1}\n", 400, "bad_json", 1},
      {good + good + "{\"target\":\"t\",\"data\":{}", 400, "bad_json", 2},
      // An open string or bracket must not swallow the next line.
      {"{\"target\":\"t\",\"data\":[\n1]}\n", 400, "bad_json", 0},
      {"{\"target\":\"t\",\"data\":\"\n\"}\n", 400, "bad_json", 0},
  };
  for (const BodyCase& bad : cases) expect_refused(bad, parse_ndjson_hooks(make_body(bad.body)));
  const ParsedCall call = parse_ndjson_hooks(make_body(good + "\nx"));
  EXPECT_EQ(call.error_line, 3u) << call.error->message;
}

TEST(HookParser, RawPayload) {
  RawHookFields fields{"https://a/", "push", "g", "id-1", "text/plain"};
  ParsedCall call = parse_raw_hook(make_body("{\"a\": 1}\n"), fields);
  ASSERT_FALSE(call.error);
  EXPECT_EQ(call.hooks[0].body, "{\"a\": 1}\n");
  EXPECT_EQ(call.hooks[0].content_type, "text/plain");
  EXPECT_EQ(call.hooks[0].event, "push");
  EXPECT_THAT(call.ids, ElementsAre("id-1"));

  expect_refused({"not json", 422, "not_json", 0}, parse_raw_hook(make_body("not json"), fields));
  expect_refused({nested(65), 422, "not_json", 0}, parse_raw_hook(make_body(nested(65)), fields));
  expect_refused({"", 422, "empty", {}}, parse_raw_hook(make_body(""), fields));
  fields.target = {};
  expect_refused({"1", 422, "bad_hook", 0}, parse_raw_hook(make_body("1"), fields));
}

TEST(RequestBody, BudgetIsGivenBack) {
  auto budget = std::make_shared<ByteBudget>(10);
  {
    RequestBody body(budget, 20);
    EXPECT_TRUE(body.receive(6));
    EXPECT_EQ(budget->used_bytes(), 6u);
    EXPECT_FALSE(body.receive(5));
    EXPECT_TRUE(body.receive(4));
  }
  EXPECT_EQ(budget->used_bytes(), 0u);
}

// Queries

TEST(Query, DecodesAndRefuses) {
  Query query;
  EXPECT_FALSE(Query::parse("target=https%3A%2F%2Fa%2F*&group=my+group&id=a&id=b&event=", query));
  EXPECT_EQ(query.take("target"), "https://a/*");
  EXPECT_EQ(query.take("group"), "my group");
  EXPECT_EQ(query.take("event"), "");
  EXPECT_TRUE(query.check_all_taken());
  EXPECT_THAT(query.take_ids(), ElementsAre("a", "b"));
  EXPECT_FALSE(query.check_all_taken());
  for (const std::string bad : {"a=%4", "a=%zz", "a=1&a=2", "target=", "target"}) {
    Query other;
    EXPECT_TRUE(Query::parse(bad, other)) << bad;
  }
}

TEST(Query, KeysAreBounded) {
  std::string text;
  for (int i = 0; i < 33; ++i) text += "k" + std::to_string(i) + "=v&";
  Query query;
  EXPECT_TRUE(Query::parse(text, query));
}

TEST(Query, Filter) {
  Query query;
  ASSERT_FALSE(
      Query::parse("status=503&reason=status_503&since=1h&until=2026-01-02T00:00:00Z", query));
  FailedFilter filter;
  ASSERT_FALSE(take_filter(query, 10'000'000, filter));
  EXPECT_EQ(filter.status, 503);
  EXPECT_EQ(filter.reason, "status_503");
  EXPECT_EQ(filter.since, 10'000'000 - 3'600'000);
  EXPECT_EQ(format_rfc3339(*filter.until), "2026-01-02T00:00:00.000Z");
  Query by_target;
  ASSERT_FALSE(Query::parse("target=HTTPS://Example.com", by_target));
  ASSERT_FALSE(take_filter(by_target, 0, filter));
  EXPECT_EQ(filter.target, "https://example.com/");
  for (const std::string bad :
       {"status=x", "status=-1", "status=1000", "since=yesterday", "reason=nope"}) {
    Query other;
    ASSERT_FALSE(Query::parse(bad, other));
    EXPECT_TRUE(take_filter(other, 0, filter)) << bad;
  }
}

TEST(Tokens, OnlyWholeTokensOfTheFile) {
  const TokenSet tokens({"alpha ", "", "  beta\r"});
  EXPECT_TRUE(tokens.allows("Bearer alpha"));
  EXPECT_TRUE(tokens.allows("bearer  beta"));
  for (const std::string bad : {"", "Bearer", "Bearer ", "alpha", "Basic alpha", "Bearer alph",
                                "Bearer alphaa", "Bearer alpha beta"}) {
    EXPECT_FALSE(tokens.allows(bad)) << bad;
  }
  EXPECT_TRUE(TokenSet({"", "  "}).empty());
}

// Text

TEST(Rfc3339, Formats) {
  EXPECT_EQ(format_rfc3339(0), "1970-01-01T00:00:00.000Z");
  EXPECT_EQ(format_rfc3339(1'767'323'045'678), "2026-01-02T03:04:05.678Z");
  EXPECT_EQ(format_rfc3339(-1), "1969-12-31T23:59:59.999Z");
  EXPECT_EQ(format_rfc3339(INT64_MAX), "9999-12-31T23:59:59.999Z");
  EXPECT_EQ(date_line(784'111'777'000), "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n");
}

TEST(Rfc3339, Parses) {
  constexpr WallMs time = 1'767'323'045'000;
  EXPECT_EQ(parse_rfc3339("2026-01-02T03:04:05Z"), time);
  EXPECT_EQ(parse_rfc3339("2026-01-02t03:04:05.6789z"), time + 678);
  EXPECT_EQ(parse_rfc3339("2026-01-02T05:34:05+02:30"), time);
  EXPECT_EQ(parse_rfc3339("2026-01-02T05:34:05 02:30"), time);
  EXPECT_EQ(parse_rfc3339("2026-01-01T22:04:05-05:00"), time);
  EXPECT_EQ(parse_rfc3339("2016-12-31T23:59:60Z"), parse_rfc3339("2016-12-31T23:59:59Z"));
  EXPECT_TRUE(parse_rfc3339("2024-02-29T00:00:00Z"));
  for (const std::string bad :
       {"", "2026-01-02", "2026-01-02T03:04:05", "2026-13-02T03:04:05Z", "2026-02-29T03:04:05Z",
        "2026-01-02T24:00:00Z", "2026-01-02T03:60:00Z", "2026-01-02T03:04:05.Z",
        "2026-01-02T03:04:05Zx", "2026-01-02T03:04:05+0200", "26-01-02T03:04:05Z"}) {
    EXPECT_FALSE(parse_rfc3339(bad)) << bad;
  }
}

TEST(Rfc3339, WhenTakesAges) {
  EXPECT_EQ(parse_when("90", 100'000), 10'000);
  EXPECT_EQ(parse_when("1m", 100'000), 40'000);
  EXPECT_EQ(parse_when("1970-01-01T00:00:01Z", 100'000), 1000);
  EXPECT_FALSE(parse_when("-1m", 100'000));
  EXPECT_FALSE(parse_when("soon", 100'000));
}

TEST(JsonText, StringsAreAlwaysValidUtf8) {
  const auto quoted = [](std::string_view text) {
    std::string out;
    append_json_string(out, text);
    return out;
  };
  EXPECT_EQ(quoted("a\"\\\n\r\t\x01\x7f"), "\"a\\\"\\\\\\n\\r\\t\\u0001\\u007f\"");
  EXPECT_EQ(quoted("\xc3\xa9\xf0\x9f\x98\x80"), "\"\xc3\xa9\xf0\x9f\x98\x80\"");
  EXPECT_EQ(quoted("a\xff\xc3z"), "\"a\xef\xbf\xbd\xef\xbf\xbdz\"");
  EXPECT_EQ(quoted("\xed\xa0\x80"), "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\"");
}

TEST(JsonText, Utf8) {
  for (const std::string_view good :
       {"", "abc", "\xc2\x80", "\xef\xbf\xbf", "\xf4\x8f\xbf\xbf", "12345678\xc3\xa9"}) {
    EXPECT_TRUE(is_valid_utf8(good));
  }
  for (const std::string_view bad :
       {"\x80", "\xc0\x80", "\xe0\x80\x80", "\xed\xa0\x80", "\xf0\x80\x80\x80", "\xf4\x90\x80\x80",
        "\xc3", "\xe2\x82", "12345678\xff"}) {
    EXPECT_FALSE(is_valid_utf8(bad));
  }
}

TEST(JsonText, Base64) {
  EXPECT_EQ(to_base64(""), "");
  EXPECT_EQ(to_base64("f"), "Zg==");
  EXPECT_EQ(to_base64("fo"), "Zm8=");
  EXPECT_EQ(to_base64("foobar"), "Zm9vYmFy");
  EXPECT_EQ(to_base64("\xff\xfe\xfd"), "//79");
}

TEST(JsonText, Writer) {
  std::string out;
  JsonWriter json(out);
  json.begin_object();
  json.member("text", "a");
  json.member("number", std::uint64_t{18446744073709551615u});
  json.member("flag", true);
  json.member("rate", 12.5);
  json.member("whole", 12.0);
  json.time_member("never", 0);
  json.time_member("at", 1);
  json.key("list");
  json.begin_array();
  json.value(-1);
  json.begin_object();
  json.end_object();
  json.null();
  json.end_array();
  json.end_object();
  EXPECT_EQ(out, R"({"text":"a","number":18446744073709551615,"flag":true,"rate":12.5,"whole":12,)"
                 R"("never":null,"at":"1970-01-01T00:00:00.001Z","list":[-1,{},null]})");
}

}  // namespace
}  // namespace postbag

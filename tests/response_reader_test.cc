#include "engine/shell/http/response_reader.h"

#include <gtest/gtest.h>

#include <boost/asio/buffer.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>
#include <string>
#include <vector>

namespace postbag {
namespace {

using Progress = ResponseReader::Progress;

// One answer read in pieces of `piece` bytes; stops at the first done or failed.
Progress read_in_pieces(ResponseReader& reader, std::string_view bytes, std::size_t piece) {
  Progress progress = Progress::need_more;
  for (std::size_t at = 0; at < bytes.size() && progress == Progress::need_more; at += piece) {
    progress = reader.feed(bytes.substr(at, piece));
  }
  return progress;
}

struct Expectation {
  std::string bytes;
  int status;
  bool reusable;
};

std::vector<Expectation> good_answers() {
  return {
      {"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 200, true},
      {"HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok", 200, true},
      {"HTTP/1.1 202 Accepted\r\nServer: x\r\ncontent-length: 3\r\n\r\nabc", 202, true},
      {"HTTP/1.1 204 No Content\r\n\r\n", 204, true},
      {"HTTP/1.1 304 Not Modified\r\n\r\n", 304, true},
      {"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n", 204, true},
      {"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nConnection: close\r\n\r\nx", 200, false},
      {"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nConnection: foo, Close\r\n\r\nx", 200, false},
      {"HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\nx", 200, false},
      {"HTTP/1.0 200 OK\r\nContent-Length: 1\r\nConnection: Keep-Alive\r\n\r\nx", 200, true},
      {"HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nok", 200, true},
      {"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok", 200, true},
      {"HTTP/1.1 503 Busy\r\nContent-Length: 4\r\n\r\nbusy", 503, true},
      {"HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n", 302, true},
      {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", 200, true},
      {"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n0\r\n\r\n", 200, true},
      {"HTTP/1.1 500 X\r\nTransfer-Encoding: chunked\r\n\r\nA;x=\"y\"\r\n0123456789\r\n0\r\nT: "
       "v\r\n\r\n",
       500, true},
      {"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 200, true},
      {"HTTP/1.1 103 Early\r\nLink: a\r\n\r\nHTTP/1.1 102 P\r\n\r\nHTTP/1.1 201 "
       "C\r\nContent-Length: 0\r\n\r\n",
       201, true},
      {"HTTP/1.1 200 OK\r\nX-Bytes: \xe4\xf6\t!\r\nContent-Length: 0\r\n\r\n", 200, true},
  };
}

TEST(ResponseReader, ReadsGoodAnswersInPiecesOfEverySize) {
  for (const Expectation& expected : good_answers()) {
    for (std::size_t piece = 1; piece <= expected.bytes.size(); ++piece) {
      ResponseReader reader;
      ASSERT_EQ(read_in_pieces(reader, expected.bytes, piece), Progress::done)
          << expected.bytes << piece;
      EXPECT_EQ(reader.status(), expected.status) << expected.bytes;
      EXPECT_EQ(reader.reusable(), expected.reusable) << expected.bytes << piece;
    }
  }
}

// A parser that others use and trust sees the same in what both accept.
// The body may come all the same, when the connection has its next request.
TEST(ResponseReader, ABodyAnnouncedWhereNoneMayBeEndsTheConnection) {
  for (const std::string head : {"HTTP/1.1 304 Not Modified\r\nContent-Length: 10\r\n\r\n",
                                 "HTTP/1.1 204 No Content\r\nContent-Length: 4\r\n\r\n",
                                 "HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n"}) {
    ResponseReader reader;
    EXPECT_EQ(reader.feed(head), Progress::done) << head;
    EXPECT_FALSE(reader.reusable()) << head;
  }
}

TEST(ResponseReader, AgreesWithBeast) {
  namespace http = boost::beast::http;
  for (const Expectation& expected : good_answers()) {
    std::string bytes = expected.bytes;
    if (bytes.starts_with("HTTP/1.1 200\r"))
      continue;  // RFC 9112 4 wants the space that some servers leave out
    while (bytes.starts_with("HTTP/1.1 1")) bytes.erase(0, bytes.find("\r\n\r\n") + 4);
    http::response_parser<http::string_body> parser;
    parser.eager(true);
    boost::beast::error_code error;
    std::size_t used = 0;
    while (!error && used < bytes.size() && !parser.is_done()) {
      used += parser.put(boost::asio::buffer(bytes.data() + used, bytes.size() - used), error);
    }
    ASSERT_FALSE(error) << bytes << error.message();
    EXPECT_TRUE(parser.is_done()) << bytes;
    EXPECT_EQ(used, bytes.size()) << bytes;
    EXPECT_EQ(parser.get().result_int(), static_cast<unsigned>(expected.status)) << bytes;
    EXPECT_EQ(parser.keep_alive(), expected.reusable) << bytes;
    ResponseReader reader;
    reader.feed(expected.bytes);
    if (!reader.success()) {
      EXPECT_EQ(reader.excerpt(), parser.get().body()) << bytes;
    }
  }
}

TEST(ResponseReader, RefusesBadAnswers) {
  const std::string ok = "HTTP/1.1 200 OK\r\n";
  const std::vector<std::pair<std::string, Reason>> cases = {
      {"HTTP/2.0 200 OK\r\n\r\n", Reason::bad_response},
      {"HTTP/0.9 200 OK\r\n\r\n", Reason::bad_response},
      {"SSH-2.0-OpenSSH_9.2\r\n", Reason::bad_response},
      {"<html>", Reason::bad_response},
      {"\r\nHTTP/1.1 200 OK\r\n\r\n", Reason::bad_response},
      {"HTTP/1.1 099 Low\r\n\r\n", Reason::bad_response},
      {"HTTP/1.1 600 High\r\n\r\n", Reason::bad_response},
      {"HTTP/1.1 000 Zero\r\n\r\n", Reason::bad_response},
      {"HTTP/1.1 20 Short\r\n\r\n", Reason::bad_response},
      {"HTTP/1.1 2000 Long\r\n\r\n", Reason::bad_response},
      {"HTTP/1.1  200 Two spaces\r\n\r\n", Reason::bad_response},
      {"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\n\r\n", Reason::bad_protocol},
      {ok + "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", Reason::bad_framing},
      {ok + "Content-Length: 1\r\nContent-Length: 2\r\n\r\n", Reason::bad_framing},
      {ok + "Content-Length: 1, 2\r\n\r\n", Reason::bad_framing},
      {ok + "Content-Length: -1\r\n\r\n", Reason::bad_framing},
      {ok + "Content-Length: +1\r\n\r\n", Reason::bad_framing},
      {ok + "Content-Length: 0x1\r\n\r\n", Reason::bad_framing},
      {ok + "Content-Length:\r\n\r\n", Reason::bad_framing},
      {ok + "Content-Length: 99999999999999999999999\r\n\r\n", Reason::bad_framing},
      {"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", Reason::bad_framing},
      {ok + "A: b\r\n folded\r\n\r\n", Reason::bad_framing},
      {ok + " Leading: fold\r\n\r\n", Reason::bad_framing},
      {ok + "Name : v\r\n\r\n", Reason::bad_framing},
      {ok + "no colon\r\n\r\n", Reason::bad_framing},
      {ok + ": empty name\r\n\r\n", Reason::bad_framing},
      {ok + std::string("A: b\0c\r\n\r\n", 10), Reason::bad_framing},
      {ok + "A: \x01\r\n\r\n", Reason::bad_framing},
      {ok + "A: b\rc\r\n\r\n", Reason::bad_framing},
      {ok + "A: b\nContent-Length: 0\r\n\r\n", Reason::bad_framing},
      {"HTTP/1.1 200 OK\nContent-Length: 0\n\n", Reason::bad_framing},
      {"HTTP/1.1 200 O\x7fK\r\n\r\n", Reason::bad_framing},
  };
  for (const auto& [bytes, reason] : cases) {
    for (const std::size_t piece : {bytes.size(), std::size_t{1}, std::size_t{7}}) {
      ResponseReader reader;
      EXPECT_EQ(read_in_pieces(reader, bytes, piece), Progress::failed) << bytes;
      EXPECT_EQ(reader.error(), reason) << bytes;
      EXPECT_EQ(reader.status(), 0) << bytes;
      EXPECT_FALSE(reader.reusable());
      EXPECT_EQ(reader.feed("HTTP/1.1 200 OK\r\n\r\n"), Progress::failed) << "a failure is final";
    }
  }
}

TEST(ResponseReader, LimitsTheHead) {
  const std::string ok = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n";
  std::string fields = ok;
  for (int i = 1; i < response_fields_max; ++i) fields += "A: b\r\n";
  ResponseReader at_limit;
  EXPECT_EQ(at_limit.feed(fields + "\r\n"), Progress::done);
  ResponseReader over;
  EXPECT_EQ(over.feed(fields + "A: b\r\n\r\n"), Progress::failed);
  EXPECT_EQ(over.error(), Reason::header_limit);

  const std::size_t room = response_head_bytes_max - ok.size() - 4 - 3;
  ResponseReader large;
  EXPECT_EQ(large.feed(ok + "A: " + std::string(room, 'x') + "\r\n\r\n"), Progress::done);
  for (const std::size_t piece : {std::size_t{1}, std::size_t{4096}, std::size_t{1} << 20}) {
    ResponseReader too_large;
    const std::string bytes = ok + "A: " + std::string(room + 1, 'x') + "\r\n\r\n";
    EXPECT_EQ(read_in_pieces(too_large, bytes, piece), Progress::failed);
    EXPECT_EQ(too_large.error(), Reason::header_limit);
  }
  ResponseReader endless;
  const std::string line(1000, 'x');
  EXPECT_EQ(endless.feed(ok + "A: "), Progress::need_more);
  Progress progress = Progress::need_more;
  for (int i = 0; i < 20 && progress == Progress::need_more; ++i) progress = endless.feed(line);
  EXPECT_EQ(progress, Progress::failed);
  EXPECT_EQ(endless.error(), Reason::header_limit);
}

TEST(ResponseReader, LimitsInterimAnswers) {
  const std::string interim = "HTTP/1.1 100 Continue\r\n\r\n";
  std::string eight;
  for (int i = 0; i < response_informational_max; ++i) eight += interim;
  ResponseReader enough;
  EXPECT_EQ(enough.feed(eight + "HTTP/1.1 204 N\r\n\r\n"), Progress::done);
  ResponseReader too_many;
  EXPECT_EQ(too_many.feed(eight + interim), Progress::failed);
  EXPECT_EQ(too_many.error(), Reason::too_many_1xx);
  std::string large;
  for (int i = 0; i < 5; ++i)
    large += "HTTP/1.1 103 E\r\nA: " + std::string(15'000, 'x') + "\r\n\r\n";
  ResponseReader too_large;
  EXPECT_EQ(too_large.feed(large), Progress::failed);
  EXPECT_EQ(too_large.error(), Reason::too_many_1xx);
}

TEST(ResponseReader, ExtraBytesMakeTheConnectionUnusable) {
  for (const std::string answer :
       {"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokX", "HTTP/1.1 204 N\r\n\r\nbody",
        "HTTP/1.1 304 N\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nX"}) {
    ResponseReader reader;
    EXPECT_EQ(reader.feed(answer), Progress::done) << answer;
    EXPECT_GE(reader.status(), 200);
    EXPECT_FALSE(reader.reusable()) << answer;
  }
}

TEST(ResponseReader, ABadBodyKeepsTheOutcome) {
  const std::string head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
  for (const std::string body : {"zz\r\n", "3\r\nabcX", "3\nabc", "fffffffffffffffff\r\n", "\r\n",
                                 "1;\x01\r\n", "0\r\n bad\r\n", "0\r\n\rX"}) {
    for (const std::size_t piece : {std::size_t{1}, std::size_t{1000}}) {
      ResponseReader reader;
      EXPECT_EQ(read_in_pieces(reader, head + body, piece), Progress::done) << body;
      EXPECT_EQ(reader.status(), 200);
      EXPECT_FALSE(reader.reusable()) << body;
    }
  }
}

TEST(ResponseReader, FloodsEndAtTheBodyLimit) {
  const std::string head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
  const std::string extension = "1;" + std::string(response_body_bytes_max, 'x');
  std::string trailers = "0\r\n";
  while (trailers.size() <= response_body_bytes_max) trailers += "A: b\r\n";
  for (const std::string& body : {extension, trailers}) {
    ResponseReader reader;
    EXPECT_EQ(read_in_pieces(reader, head + body, 100), Progress::done);
    EXPECT_FALSE(reader.reusable());
  }
}

TEST(ResponseReader, ALargeBodyIsNotWaitedFor) {
  ResponseReader success;
  EXPECT_EQ(success.feed("HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n"), Progress::done);
  EXPECT_FALSE(success.reusable());
  ResponseReader until_close;
  EXPECT_EQ(until_close.feed("HTTP/1.1 200 OK\r\n\r\n"), Progress::done);
  EXPECT_FALSE(until_close.reusable());
  ResponseReader failure;
  EXPECT_EQ(failure.feed("HTTP/1.1 500 X\r\nContent-Length: 1000000\r\n\r\n"), Progress::need_more);
  EXPECT_EQ(failure.feed(std::string(1023, 'a')), Progress::need_more);
  EXPECT_EQ(failure.feed("bc"), Progress::done);
  EXPECT_EQ(failure.excerpt(), std::string(1023, 'a') + "b");
}

TEST(ResponseReader, KeepsHeadersAndExcerptOfFailuresAlone) {
  ResponseReader failure;
  failure.feed("HTTP/1.1 500 X\r\nRetry-After: 1\r\nContent-Length: 3\r\n\r\nwhy");
  EXPECT_EQ(failure.headers(), "Retry-After: 1\r\nContent-Length: 3\r\n");
  EXPECT_EQ(failure.excerpt(), "why");
  ResponseReader chunked;
  chunked.feed(
      "HTTP/1.1 500 X\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nwh\r\n1\r\ny\r\n0\r\n\r\n");
  EXPECT_EQ(chunked.excerpt(), "why");
  ResponseReader success;
  success.feed("HTTP/1.1 200 X\r\nRetry-After: 1\r\nContent-Length: 3\r\n\r\nwhy");
  EXPECT_EQ(success.headers() + success.excerpt(), "");
  ResponseReader long_headers;
  long_headers.feed("HTTP/1.1 500 X\r\nA: 1\r\nB: " + std::string(2000, 'x') +
                    "\r\nContent-Length: 0\r\n\r\n");
  EXPECT_EQ(long_headers.headers(), "A: 1\r\n") << "whole lines of at most 1 KiB";
}

TEST(ResponseReader, TheEndOfTheStream) {
  ResponseReader nothing;
  EXPECT_EQ(nothing.finish(), Progress::failed);
  EXPECT_EQ(nothing.error(), Reason::closed_no_response);
  ResponseReader part;
  part.feed("HTTP/1.1 200 OK\r\nContent-");
  EXPECT_EQ(part.finish(), Progress::failed);
  EXPECT_EQ(part.error(), Reason::truncated_header);
  ResponseReader interim;
  interim.feed("HTTP/1.1 100 Continue\r\n\r\n");
  EXPECT_EQ(interim.finish(), Progress::failed);
  EXPECT_EQ(interim.error(), Reason::closed_no_response);
  ResponseReader body;
  EXPECT_EQ(body.feed("HTTP/1.1 500 X\r\nContent-Length: 10\r\n\r\nabc"), Progress::need_more);
  EXPECT_EQ(body.finish(), Progress::done);
  EXPECT_EQ(body.excerpt(), "abc");
  EXPECT_FALSE(body.reusable());
}

// What it knows again, and what only begins like it or comes in pieces.
TEST(ResponseReader, AnAnswerAfterAnotherMeansWhatItMeansAlone) {
  std::vector<std::string> all;
  for (const Expectation& answer : good_answers()) {
    all.push_back(answer.bytes);
    all.push_back(answer.bytes + "x");
  }
  all.push_back("HTTP/1.1 200 OK\r\nContent-Length: 0 \r\n\r\n");
  all.push_back("HTTP/1.1 200 OK\nContent-Length: 0\r\n\r\n");
  all.push_back("HTTP/1.1 200 OK\r\nX-Pad: " + std::string(response_known_bytes_max, 'x') +
                "\r\nContent-Length: 0\r\n\r\n");
  for (const std::string& before : all) {
    for (const std::string& bytes : all) {
      for (const std::size_t piece : {bytes.size(), std::size_t{7}}) {
        ResponseReader reader;
        reader.feed(before);
        reader.reset();
        ResponseReader fresh;
        const Progress progress = read_in_pieces(reader, bytes, piece);
        ASSERT_EQ(progress, read_in_pieces(fresh, bytes, piece)) << before << bytes;
        EXPECT_EQ(reader.status(), fresh.status()) << before << bytes;
        EXPECT_EQ(reader.success(), fresh.success()) << before << bytes;
        EXPECT_EQ(reader.reusable(), fresh.reusable()) << before << bytes;
        EXPECT_EQ(reader.error(), fresh.error()) << before << bytes;
        EXPECT_EQ(reader.head_complete(), fresh.head_complete()) << before << bytes;
        EXPECT_EQ(reader.has_bytes(), fresh.has_bytes()) << before << bytes;
        EXPECT_EQ(reader.headers(), fresh.headers()) << before << bytes;
        EXPECT_EQ(reader.excerpt(), fresh.excerpt()) << before << bytes;
        if (progress != Progress::done) continue;
        EXPECT_EQ(reader.feed("y"), fresh.feed("y")) << before << bytes;
        EXPECT_EQ(reader.reusable(), fresh.reusable()) << before << bytes;
        EXPECT_EQ(reader.finish(), fresh.finish()) << before << bytes;
      }
    }
  }
}

TEST(ResponseReader, CanBeUsedAgain) {
  ResponseReader reader;
  reader.feed("HTTP/1.1 500 X\r\nContent-Length: 3\r\n\r\nwhy");
  reader.reset();
  EXPECT_FALSE(reader.has_bytes());
  EXPECT_EQ(reader.feed("HTTP/1.1 100 C\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
            Progress::done);
  EXPECT_EQ(reader.status(), 200);
  EXPECT_EQ(reader.excerpt(), "");
  EXPECT_TRUE(reader.reusable());
}

}  // namespace
}  // namespace postbag

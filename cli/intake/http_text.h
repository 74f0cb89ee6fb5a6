#pragma once

#include <string>
#include <string_view>

#include "cli/intake/exchange.h"
#include "postbag/time.h"

namespace postbag {

// What a head has of the connection.
struct AnswerHead {
  std::string_view date_line;
  bool close = false;
  bool says_keep_alive = false;  // HTTP/1.0, where it is not the rule
};
// The head of `answer` with the empty line behind it; the body follows.
void append_answer_head(std::string& out, const Answer& answer, const AnswerHead& head);
// The same of an answer whose length is not known; not chunked: it ends with the connection.
void append_stream_head(std::string& out, std::string_view content_type, bool chunked,
                        const AnswerHead& head);

// One chunk of the chunked coding; `data` is not empty.
void append_chunk(std::string& out, std::string_view data);

// "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n"
std::string date_line(WallMs wall_ms);

}  // namespace postbag

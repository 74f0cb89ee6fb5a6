#include "cli/intake/chunked_body.h"

#include <boost/asio/buffer.hpp>
#include <boost/beast/http/error.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>

#include "cli/intake/request_head.h"

namespace postbag {

namespace asio = boost::asio;
namespace http = boost::beast::http;

struct ChunkedBody::Parser {
  http::request_parser<http::string_body> request;
  bool extension = false;
  std::function<void(std::uint64_t, boost::beast::string_view, boost::beast::error_code&)> on_chunk;
};

ChunkedBody::ChunkedBody(std::string_view raw_head, std::uint64_t body_max)
    : parser_(std::make_unique<Parser>()) {
  auto& request = parser_->request;
  request.header_limit(static_cast<std::uint32_t>(head_bytes_max));
  request.body_limit(body_max);
  parser_->on_chunk = [parser = parser_.get()](std::uint64_t, boost::beast::string_view extensions,
                                               boost::beast::error_code& error) {
    if (extensions.empty()) return;
    parser->extension = true;
    error = http::error::bad_chunk_extension;
  };
  request.on_chunk_header(parser_->on_chunk);
  boost::beast::error_code error;
  request.put(asio::buffer(raw_head.data(), raw_head.size()), error);
  request.eager(true);
}

ChunkedBody::~ChunkedBody() = default;

ChunkedBody::State ChunkedBody::put(std::string_view arrived, std::size_t& used) {
  used = 0;
  auto& request = parser_->request;
  // Two parsers that do not agree on the head: the request is not to be trusted.
  if (!request.is_header_done() || !request.chunked()) return State::bad;
  while (used < arrived.size() && !request.is_done()) {
    boost::beast::error_code error;
    const std::size_t bytes =
        request.put(asio::buffer(arrived.data() + used, arrived.size() - used), error);
    used += bytes;
    if (error == http::error::need_more) return State::need_more;
    if (error == http::error::body_limit) return State::too_large;
    if (error) return State::bad;
    if (bytes == 0) break;
  }
  return request.is_done() ? State::done : State::need_more;
}

std::string_view ChunkedBody::problem() const {
  return parser_->extension ? "chunk extensions are not taken" : "the chunked body is malformed";
}

std::string_view ChunkedBody::body() const {
  return parser_->request.get().body();
}

}  // namespace postbag

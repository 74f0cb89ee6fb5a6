#pragma once

#include <boost/asio/basic_socket_acceptor.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>

namespace postbag {

using IntakeExecutor = boost::asio::io_context::executor_type;
using TcpAcceptor = boost::asio::basic_socket_acceptor<boost::asio::ip::tcp, IntakeExecutor>;
using UnixAcceptor =
    boost::asio::basic_socket_acceptor<boost::asio::local::stream_protocol, IntakeExecutor>;

// Bound and listening. Both throw std::system_error with a message that says what was to be bound
// and why it could not. `listen`: "127.0.0.1:8420", "[::1]:0"; std::invalid_argument if it is
// neither.
TcpAcceptor listen_on_tcp(boost::asio::io_context& context, const std::string& listen);
// The file has mode 0600 from its first moment. One left behind by a dead process is removed; one
// that answers is not.
UnixAcceptor listen_on_unix(boost::asio::io_context& context, const std::string& path);
// Device and inode of what stands there; nothing where nothing does.
using FileIdentity = std::optional<std::pair<std::uint64_t, std::uint64_t>>;
FileIdentity identity_of(const std::string& path);

}  // namespace postbag

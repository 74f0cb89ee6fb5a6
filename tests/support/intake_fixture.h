#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>

#include "cli/intake/server.h"
#include "tests/support/fake_intake_backend.h"
#include "tests/support/intake_client.h"

namespace postbag::test {

// The intake server over real sockets, in front of an engine that does as the test says.
class IntakeTest : public testing::Test {
 protected:
  void SetUp() override {
    options_.listen = "127.0.0.1:0";
    options_.durability = Durability::fsync;
  }
  void TearDown() override {
    backend_.release_all();
    if (server_) server_->stop();
  }

  IntakeServer& start() {
    server_ = std::make_unique<IntakeServer>(backend_, options_);
    server_->start();
    return *server_;
  }
  IntakeClient connect() { return IntakeClient(server_->port()); }
  // One request on a connection of its own.
  Response ask(const std::string& request) {
    IntakeClient client = connect();
    client.send(request);
    return client.read_response();
  }

  FakeIntakeBackend backend_;
  IntakeServerOptions options_;
  std::unique_ptr<IntakeServer> server_;
};

inline std::string post(const std::string& path, const std::string& body,
                        const std::string& type = "application/json",
                        const std::string& fields = "") {
  return "POST " + path + " HTTP/1.1\r\nHost: a\r\nContent-Type: " + type +
         "\r\nContent-Length: " + std::to_string(body.size()) + "\r\n" + fields + "\r\n" + body;
}
inline std::string get(const std::string& path, const std::string& fields = "") {
  return "GET " + path + " HTTP/1.1\r\nHost: a\r\n" + fields + "\r\n";
}
inline std::string request(const std::string& method, const std::string& path) {
  return method + " " + path + " HTTP/1.1\r\nHost: a\r\n\r\n";
}

inline constexpr const char* one_hook = R"({"target":"https://a/","data":{"n":1}})";

}  // namespace postbag::test

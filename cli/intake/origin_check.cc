#include "cli/intake/origin_check.h"

#include <arpa/inet.h>

#include <string>

#include "engine/pure/ascii.h"

namespace postbag {

bool is_of_foreign_page(const RequestHead& head) {
  bool foreign = false;
  for (const HeaderField& field : head.fields) {
    if (equal_ignoring_case(field.name, "origin")) foreign = true;
    if (equal_ignoring_case(field.name, "sec-fetch-site")) {
      foreign = foreign || (field.value != "none" && field.value != "same-origin");
    }
  }
  return foreign;
}

bool is_of_public_name(const RequestHead& head) {
  std::string_view host = head.find("host").value_or("");
  if (host.starts_with('[')) return false;  // only an IPv6 address begins so
  host = host.substr(0, host.find(':'));
  const std::size_t label = host.find_last_of('.', host.size() < 2 ? 0 : host.size() - 2);
  if (label == std::string_view::npos || host[label] != '.') return false;
  if (equal_ignoring_case(host.substr(label), ".localhost")) return false;
  in_addr address{};
  return inet_pton(AF_INET, std::string(host).c_str(), &address) != 1;
}

}  // namespace postbag

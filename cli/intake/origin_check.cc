#include "cli/intake/origin_check.h"

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

}  // namespace postbag

#include "cli/exit_codes.h"

#include "postbag/error.h"

namespace postbag {

namespace {

int exit_code_of_errc(Errc errc) {
  switch (errc) {
    case Errc::ok:
      return exit_ok;
    case Errc::full:
      return exit_system;
    case Errc::stopping:
      return exit_unavailable;
    case Errc::disk_low:
    case Errc::store_failed:
    case Errc::store_io:
      return exit_io;
    case Errc::store_busy:
      return exit_store_busy;
    case Errc::store_corrupt:
      return exit_bad_data;
    case Errc::store_newer:
      return exit_config;
    case Errc::store_cannot_create:
      return exit_cannot_create;
    case Errc::store_permission:
      return exit_permission;
    case Errc::not_found:
      return exit_no_input;
    default:
      return exit_bad_data;  // everything below Errc::full: a bad hook
  }
}

}  // namespace

int exit_code_of(std::error_code error) {
  if (error.category() == postbag_category()) {
    return exit_code_of_errc(static_cast<Errc>(error.value()));
  }
  if (error == std::errc::not_supported) return exit_config;  // a store of an older schema
  if (error == std::errc::no_such_file_or_directory) return exit_no_input;
  if (error == std::errc::permission_denied || error == std::errc::operation_not_permitted) {
    return exit_permission;
  }
  if (error == std::errc::file_exists || error == std::errc::read_only_file_system) {
    return exit_cannot_create;
  }
  if (error == std::errc::io_error || error == std::errc::no_space_on_device) return exit_io;
  return exit_system;
}

}  // namespace postbag

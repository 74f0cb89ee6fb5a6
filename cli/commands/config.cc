#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>

#include "cli/commands/commands.h"
#include "cli/document.h"
#include "cli/exit_codes.h"
#include "cli/store_access.h"
#include "cli/text/json_writer.h"
#include "postbag/config.h"

namespace postbag {

namespace {

// O_EXCL: a file that is there is never touched, not even by two calls at once.
void write_new_file(const std::string& path, std::string_view text) {
  const int fd = open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  if (fd < 0) {
    const int error = errno;
    if (error == EEXIST) {
      throw CommandError(exit_cannot_create, path + " is there already; it is not overwritten");
    }
    throw CommandError(error == EACCES ? exit_permission : exit_cannot_create,
                       "cannot create " + path + ": " + std::generic_category().message(error));
  }
  while (!text.empty()) {
    const ssize_t written = write(fd, text.data(), text.size());
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) break;
    text.remove_prefix(static_cast<std::size_t>(written));
  }
  if (close(fd) != 0 || !text.empty()) {
    unlink(path.c_str());
    throw CommandError(exit_io, "cannot write " + path);
  }
}

}  // namespace

int run_config_init(const ConfigInitArguments& arguments, Console& console) {
  const std::string path = arguments.config.value_or("postbag.toml");
  write_new_file(path, default_config_text());
  if (arguments.json) {
    print_document(console, [&](JsonWriter& json) { json.member("file", path); });
  } else {
    console.say("wrote " + path);
  }
  return exit_ok;
}

int run_config_check(const ConfigCheckArguments& arguments, Console& console) {
  const auto file = config_file_of(arguments);
  std::string wrong;
  LoadedOptions loaded;
  try {
    loaded = load_command_options(arguments);
    if (const auto message = validate_options(loaded.options)) wrong = *message;
  } catch (const ConfigFileError&) {
    throw;
  } catch (const ConfigError& error) {
    wrong = error.what();
  }
  if (arguments.json) {
    print_document(console, [&](JsonWriter& json) {
      json.key("file");
      if (file) {
        json.value(*file);
      } else {
        json.null();
      }
      json.member("ok", wrong.empty());
      json.key("notes");
      json.begin_array();
      for (const std::string& note : loaded.notes) json.value(note);
      json.end_array();
      json.key("warnings");
      json.begin_array();
      for (const std::string& warning : loaded.warnings) json.value(warning);
      json.end_array();
      json.key("error");
      if (wrong.empty()) {
        json.null();
      } else {
        json.value(wrong);
      }
    });
  }
  if (!wrong.empty()) throw CommandError(exit_config, wrong);
  for (const std::string& warning : loaded.warnings) console.say("warning: " + warning);
  for (const std::string& note : loaded.notes) console.say("note: " + note);
  console.say(file ? *file + " is good" : "no file: the built-in defaults hold");
  return exit_ok;
}

int run_config_show(const ConfigShowArguments& arguments, Console& console) {
  const LoadedOptions loaded = load_command_options(arguments);
  const std::string text = effective_config_text(loaded.options);
  if (!arguments.json) {
    console.print(text);
    return exit_ok;
  }
  print_document(console, [&](JsonWriter& json) { json.member("toml", text); });
  return exit_ok;
}

}  // namespace postbag

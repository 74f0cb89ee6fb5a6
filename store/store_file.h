#pragma once

#include <string>
#include <system_error>

namespace postbag {

// Names of store files. None of these opens the file: closing a descriptor of a store that this
// process has open would drop SQLite's locks.

// Makes an empty file, mode 0600. An existing one is std::errc::file_exists.
std::error_code create_store_file(const std::string& path);

// Gives a file its name for good, in the same folder, and puts the name on disk. An existing file
// of that name stays as it is and is std::errc::file_exists. After an error the file has its old
// name.
std::error_code name_store_file(const std::string& from, const std::string& to);

// Puts the names in the folder of `path` on disk, as far as its file system knows of that.
std::error_code sync_folder_of(const std::string& path);

}  // namespace postbag

#include "store/gathering_vfs.h"

#include <sqlite3.h>

#include <cstring>
#include <new>
#include <utility>

namespace postbag {
namespace {

// SQLite's own VFS takes no more in one call.
constexpr int gathered_bytes_max = 0x1ffff;
constexpr int frame_head_bytes = 24;
constexpr sqlite3_int64 log_head_bytes = 32;

// SQLite allocates it.
struct GatheringFile {
  sqlite3_file base;
  sqlite3_file* real;  // owned, with the bytes behind
  char* bytes;         // nullptr: nothing is gathered
  int size;            // of what is gathered
  sqlite3_int64 at;    // its place
  bool is_log;
  bool gathers;          // database: during a checkpoint
  bool ends_commit;      // log: the next write makes the transaction whole
  sqlite3_int64 end;     // log: of the last frame
  int error;             // of pages that left where nobody asks; told by the next call
  CopiedFrames* frames;  // may be null
};

GatheringFile& own(sqlite3_file* file) {
  return *reinterpret_cast<GatheringFile*>(file);
}
sqlite3_file* real(sqlite3_file* file) {
  return own(file).real;
}

sqlite3_vfs* next_vfs();

// What cannot be written is forgotten: SQLite rolls the transaction back, or makes the checkpoint
// again.
int pass_on(GatheringFile& file) {
  const int error = std::exchange(file.error, SQLITE_OK);
  const int size = std::exchange(file.size, 0);
  if (error != SQLITE_OK || size == 0) return error;
  const int code = file.real->pMethods->xWrite(file.real, file.bytes, size, file.at);
  // Which of the pages are there nobody knows.
  if (code != SQLITE_OK && !file.is_log && file.frames != nullptr) file.frames->forget();
  return code;
}

int write_through(GatheringFile& file, const void* bytes, int size, sqlite3_int64 at) {
  const int code = pass_on(file);
  return code == SQLITE_OK ? file.real->pMethods->xWrite(file.real, bytes, size, at) : code;
}

int gather(GatheringFile& file, const void* bytes, int size, sqlite3_int64 at) {
  if (file.error != SQLITE_OK || at != file.at + file.size ||
      file.size + size > gathered_bytes_max) {
    const int code = pass_on(file);
    if (code != SQLITE_OK) return code;
    file.at = at;
  }
  std::memcpy(file.bytes + file.size, bytes, static_cast<std::size_t>(size));
  file.size += size;
  return SQLITE_OK;
}

// A frame is written as its head and its page. Only what goes to the end of the log is gathered:
// SQLite goes back to change a page that it had to write early, and the checksums in the heads
// behind it, and the last of these writes is what makes that transaction whole.
int write_log(GatheringFile& file, const void* bytes, int size, sqlite3_int64 at) {
  const bool ends_commit = std::exchange(file.ends_commit, false);
  if (size == frame_head_bytes && at == file.end) {
    static constexpr char none[4] = {};
    file.ends_commit = std::memcmp(static_cast<const char*>(bytes) + 4, none, 4) != 0;
    return gather(file, bytes, size, at);
  }
  const bool is_page = size > frame_head_bytes && at > log_head_bytes;
  const bool is_appended = is_page && at == file.end + frame_head_bytes;
  if (is_page || at == 0) file.end = at + size;
  if (!is_appended) return write_through(file, bytes, size, at);
  const int code = gather(file, bytes, size, at);
  return code == SQLITE_OK && ends_commit ? pass_on(file) : code;
}

int write_file(sqlite3_file* base, const void* bytes, int size, sqlite3_int64 at) {
  GatheringFile& file = own(base);
  if (file.is_log) {
    if (file.frames != nullptr) file.frames->overwritten(static_cast<std::uint64_t>(at));
    return write_log(file, bytes, size, at);
  }
  if (file.frames != nullptr) {
    switch (file.frames->judge_write(static_cast<std::uint64_t>(at),
                                     static_cast<std::uint64_t>(size))) {
      case CopiedFrames::Write::make:
        break;
      case CopiedFrames::Write::leave_out:
        return SQLITE_OK;
      case CopiedFrames::Write::refuse:
        return SQLITE_INTERNAL;
    }
  }
  return file.gathers ? gather(file, bytes, size, at) : write_through(file, bytes, size, at);
}

int close_file(sqlite3_file* base) {
  GatheringFile& file = own(base);
  const int passed = pass_on(file);
  const int closed = file.real->pMethods->xClose(file.real);
  sqlite3_free(file.real);
  return passed == SQLITE_OK ? closed : passed;
}

int read_file(sqlite3_file* file, void* bytes, int size, sqlite3_int64 at) {
  CopiedFrames* const frames = own(file).is_log ? own(file).frames : nullptr;
  if (frames != nullptr &&
      frames->leaves_out_read(static_cast<std::uint64_t>(at), static_cast<std::uint64_t>(size))) {
    return SQLITE_OK;
  }
  const int code = pass_on(own(file));
  return code == SQLITE_OK ? real(file)->pMethods->xRead(real(file), bytes, size, at) : code;
}

// SQLite cuts the database when all of the log is copied, and takes "busy" for the answer that it
// is not: then it leaves the log and says nothing.
int truncate_file(sqlite3_file* file, sqlite3_int64 size) {
  const int code = pass_on(own(file));
  if (code != SQLITE_OK) return code;
  if (CopiedFrames* const frames = own(file).frames; frames != nullptr) {
    if (!own(file).is_log && frames->holds_end()) return SQLITE_BUSY;
    if (own(file).is_log) frames->overwritten(static_cast<std::uint64_t>(size));
  }
  return real(file)->pMethods->xTruncate(real(file), size);
}

int sync_file(sqlite3_file* file, int flags) {
  // Another thread may be writing frames of the next commit.
  const int code = own(file).is_log ? SQLITE_OK : pass_on(own(file));
  return code == SQLITE_OK ? real(file)->pMethods->xSync(real(file), flags) : code;
}

int file_size(sqlite3_file* file, sqlite3_int64* size) {
  const int code = pass_on(own(file));
  return code == SQLITE_OK ? real(file)->pMethods->xFileSize(real(file), size) : code;
}

int lock_file(sqlite3_file* file, int level) {
  return real(file)->pMethods->xLock(real(file), level);
}
int unlock_file(sqlite3_file* file, int level) {
  return real(file)->pMethods->xUnlock(real(file), level);
}
int check_reserved_lock(sqlite3_file* file, int* answer) {
  return real(file)->pMethods->xCheckReservedLock(real(file), answer);
}

int file_control(sqlite3_file* base, int what, void* argument) {
  GatheringFile& file = own(base);
  if (what == SQLITE_FCNTL_CKPT_START) file.gathers = file.bytes != nullptr;
  if (file.frames != nullptr &&
      (what == SQLITE_FCNTL_CKPT_START || what == SQLITE_FCNTL_CKPT_DONE)) {
    file.frames->set_copying(what == SQLITE_FCNTL_CKPT_START);
  }
  if (what == SQLITE_FCNTL_CKPT_DONE) {
    file.gathers = false;
    file.error = pass_on(file);
  }
  return file.real->pMethods->xFileControl(file.real, what, argument);
}

int sector_size(sqlite3_file* file) {
  return real(file)->pMethods->xSectorSize(real(file));
}
int device_characteristics(sqlite3_file* file) {
  return real(file)->pMethods->xDeviceCharacteristics(real(file));
}

// Version 1: without shared memory and mappings, which would go around us.
constexpr sqlite3_io_methods file_methods = {1,
                                             close_file,
                                             read_file,
                                             write_file,
                                             truncate_file,
                                             sync_file,
                                             file_size,
                                             lock_file,
                                             unlock_file,
                                             check_reserved_lock,
                                             file_control,
                                             sector_size,
                                             device_characteristics,
                                             nullptr,
                                             nullptr,
                                             nullptr,
                                             nullptr,
                                             nullptr,
                                             nullptr};

int open_file(sqlite3_vfs*, const char* name, sqlite3_file* base, int flags, int* out_flags) {
  GatheringFile& file = own(base);
  file = {};
  sqlite3_vfs* next = next_vfs();
  const bool gathers = (flags & (SQLITE_OPEN_MAIN_DB | SQLITE_OPEN_WAL)) != 0;
  const int real_bytes = (next->szOsFile + 15) / 16 * 16;
  const int bytes = real_bytes + (gathers ? gathered_bytes_max : 0);
  file.real = static_cast<sqlite3_file*>(sqlite3_malloc(bytes));
  if (file.real == nullptr) return SQLITE_NOMEM;
  std::memset(file.real, 0, static_cast<std::size_t>(real_bytes));
  const int code = next->xOpen(next, name, file.real, flags, out_flags);
  if (code != SQLITE_OK) {
    if (file.real->pMethods != nullptr) file.real->pMethods->xClose(file.real);
    sqlite3_free(file.real);
    return code;
  }
  if (gathers) file.bytes = reinterpret_cast<char*>(file.real) + real_bytes;
  file.is_log = (flags & SQLITE_OPEN_WAL) != 0;
  file.base.pMethods = &file_methods;
  return SQLITE_OK;
}

int delete_file(sqlite3_vfs*, const char* name, int syncs_folder) {
  return next_vfs()->xDelete(next_vfs(), name, syncs_folder);
}
int access_file(sqlite3_vfs*, const char* name, int flags, int* answer) {
  return next_vfs()->xAccess(next_vfs(), name, flags, answer);
}
int full_pathname(sqlite3_vfs*, const char* name, int size, char* out) {
  return next_vfs()->xFullPathname(next_vfs(), name, size, out);
}
int randomness(sqlite3_vfs*, int size, char* out) {
  return next_vfs()->xRandomness(next_vfs(), size, out);
}
int pause(sqlite3_vfs*, int us) {
  return next_vfs()->xSleep(next_vfs(), us);
}
int current_time(sqlite3_vfs*, double* out) {
  return next_vfs()->xCurrentTime(next_vfs(), out);
}
int get_last_error(sqlite3_vfs*, int size, char* out) {
  return next_vfs()->xGetLastError(next_vfs(), size, out);
}

sqlite3_vfs vfs = {.iVersion = 1,
                   .szOsFile = static_cast<int>(sizeof(GatheringFile)),
                   .mxPathname = 512,
                   .pNext = nullptr,
                   .zName = "postbag-gathering",
                   .pAppData = nullptr,
                   .xOpen = open_file,
                   .xDelete = delete_file,
                   .xAccess = access_file,
                   .xFullPathname = full_pathname,
                   .xDlOpen = nullptr,
                   .xDlError = nullptr,
                   .xDlSym = nullptr,
                   .xDlClose = nullptr,
                   .xRandomness = randomness,
                   .xSleep = pause,
                   .xCurrentTime = current_time,
                   .xGetLastError = get_last_error,
                   .xCurrentTimeInt64 = nullptr,
                   .xSetSystemCall = nullptr,
                   .xGetSystemCall = nullptr,
                   .xNextSystemCall = nullptr};

// Where somebody takes the default away, SQLite may make ours the next.
sqlite3_vfs* next_vfs() {
  sqlite3_vfs* found = sqlite3_vfs_find(nullptr);
  return found == &vfs ? found->pNext : found;
}

}  // namespace

const char* gathering_vfs() {
  if (sqlite3_vfs_register(&vfs, 0) != SQLITE_OK) throw std::bad_alloc();
  return vfs.zName;
}

bool set_copied_frames(sqlite3_file* database, sqlite3_file* log, CopiedFrames& frames) {
  for (const sqlite3_file* file : {database, log}) {
    if (file == nullptr || file->pMethods != &file_methods) return false;
  }
  own(database).frames = own(log).frames = &frames;
  return true;
}

}  // namespace postbag

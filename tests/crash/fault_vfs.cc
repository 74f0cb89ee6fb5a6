#include "tests/crash/fault_vfs.h"

#include <sqlite3.h>

#include <cerrno>
#include <new>
#include <stdexcept>
#include <utility>

namespace postbag::test {
namespace {

sqlite3_vfs* system_vfs = nullptr;
sqlite3_vfs fault_vfs{};
sqlite3_io_methods fault_methods{};
DiskLog* disk_log = nullptr;
DiskFault fault;
std::uint64_t calls_seen = 0, failures_seen = 0;
int last_errno = 0;
std::function<bool(const std::string& path)> sync_call;

// SQLite allocates it, with room for the system's file behind.
struct FaultFile {
  sqlite3_file base;
  const char* name;  // nullptr: a temporary file
  sqlite3_file* real;
};

FaultFile& own(sqlite3_file* file) {
  return *reinterpret_cast<FaultFile*>(file);
}
sqlite3_file* real(sqlite3_file* file) {
  return own(file).real;
}

bool fails(DiskCall call) {
  if ((fault.calls & static_cast<unsigned>(call)) == 0) return false;
  ++calls_seen;
  if (calls_seen != fault.nth && !(fault.for_ever && calls_seen > fault.nth)) return false;
  ++failures_seen;
  last_errno = fault.error;
  return true;
}

// As the unix VFS says it.
int code_of(int otherwise) {
  return fault.error == ENOSPC ? SQLITE_FULL : otherwise;
}

bool is_recorded(sqlite3_file* file) {
  return disk_log != nullptr && own(file).name != nullptr;
}

int close_file(sqlite3_file* file) {
  return real(file)->pMethods->xClose(real(file));
}

int read_file(sqlite3_file* file, void* bytes, int size, sqlite3_int64 offset) {
  if (fails(DiskCall::read)) return SQLITE_IOERR_READ;
  return real(file)->pMethods->xRead(real(file), bytes, size, offset);
}

int write_file(sqlite3_file* file, const void* bytes, int size, sqlite3_int64 offset) {
  const bool failing = fails(DiskCall::write);
  const int done = failing ? (fault.in_part ? size / 2 : 0) : size;
  if (done > 0) {
    const int code = real(file)->pMethods->xWrite(real(file), bytes, done, offset);
    if (code != SQLITE_OK) return code;
    if (is_recorded(file)) {
      disk_log->wrote(own(file).name, static_cast<std::uint64_t>(offset),
                      {static_cast<const char*>(bytes), static_cast<std::size_t>(done)});
    }
  }
  return failing ? code_of(SQLITE_IOERR_WRITE) : SQLITE_OK;
}

int truncate_file(sqlite3_file* file, sqlite3_int64 size) {
  if (fails(DiskCall::truncate)) return SQLITE_IOERR_TRUNCATE;
  const int code = real(file)->pMethods->xTruncate(real(file), size);
  if (code == SQLITE_OK && is_recorded(file)) {
    disk_log->truncated(own(file).name, static_cast<std::uint64_t>(size));
  }
  return code;
}

int sync_file(sqlite3_file* file, int) {
  if (fails(DiskCall::sync)) return SQLITE_IOERR_FSYNC;
  const std::size_t began = is_recorded(file) ? disk_log->now() : 0;
  if (sync_call && own(file).name != nullptr && sync_call(own(file).name)) {
    return SQLITE_IOERR_FSYNC;
  }
  if (is_recorded(file)) disk_log->synced(own(file).name, began);
  return SQLITE_OK;
}

int file_size(sqlite3_file* file, sqlite3_int64* size) {
  if (fails(DiskCall::size)) return SQLITE_IOERR_FSTAT;
  return real(file)->pMethods->xFileSize(real(file), size);
}

// As in store/gathering_vfs.cc, and not shared: what proves the store is not made of it.
int lock_file(sqlite3_file* file, int level) {
  return real(file)->pMethods->xLock(real(file), level);
}
int unlock_file(sqlite3_file* file, int level) {
  return real(file)->pMethods->xUnlock(real(file), level);
}
int check_reserved_lock(sqlite3_file* file, int* answer) {
  return real(file)->pMethods->xCheckReservedLock(real(file), answer);
}

int file_control(sqlite3_file* file, int what, void* argument) {
  if (what == SQLITE_FCNTL_LAST_ERRNO && last_errno != 0) {
    *static_cast<int*>(argument) = last_errno;
    return SQLITE_OK;
  }
  // These would write behind our back: to allocate ahead, or by a mapping.
  if (what == SQLITE_FCNTL_CHUNK_SIZE || what == SQLITE_FCNTL_MMAP_SIZE ||
      what == SQLITE_FCNTL_SIZE_HINT) {
    return SQLITE_NOTFOUND;
  }
  return real(file)->pMethods->xFileControl(real(file), what, argument);
}

int sector_size(sqlite3_file* file) {
  return real(file)->pMethods->xSectorSize(real(file));
}
int device_characteristics(sqlite3_file* file) {
  return real(file)->pMethods->xDeviceCharacteristics(real(file));
}

int open_file(sqlite3_vfs*, const char* name, sqlite3_file* file, int flags, int* out_flags) {
  FaultFile& opened = own(file);
  opened.base.pMethods = nullptr;
  opened.name = name;
  opened.real = reinterpret_cast<sqlite3_file*>(&opened + 1);
  if (fails(DiskCall::open)) return SQLITE_CANTOPEN;
  int existed = 1;
  if (name != nullptr) system_vfs->xAccess(system_vfs, name, SQLITE_ACCESS_EXISTS, &existed);
  const int code = system_vfs->xOpen(system_vfs, name, opened.real, flags, out_flags);
  if (code != SQLITE_OK) return code;
  opened.base.pMethods = &fault_methods;
  if (is_recorded(file)) disk_log->opened(name, existed == 0);
  return SQLITE_OK;
}

int delete_file(sqlite3_vfs*, const char* name, int sync_folder) {
  if (fails(DiskCall::remove)) return SQLITE_IOERR_DELETE;
  const int code = system_vfs->xDelete(system_vfs, name, 0);
  if (code == SQLITE_OK && disk_log != nullptr) disk_log->removed(name, sync_folder != 0);
  return code;
}

int access_file(sqlite3_vfs*, const char* name, int flags, int* answer) {
  return system_vfs->xAccess(system_vfs, name, flags, answer);
}
int full_pathname(sqlite3_vfs*, const char* name, int size, char* out) {
  return system_vfs->xFullPathname(system_vfs, name, size, out);
}
int randomness(sqlite3_vfs*, int size, char* out) {
  return system_vfs->xRandomness(system_vfs, size, out);
}
int pause(sqlite3_vfs*, int) {
  return 0;
}
int current_time(sqlite3_vfs*, double* out) {
  return system_vfs->xCurrentTime(system_vfs, out);
}
int get_last_error(sqlite3_vfs*, int, char*) {
  return last_errno;
}

}  // namespace

void FaultVfs::install() {
  if (system_vfs != nullptr) return;
  system_vfs = sqlite3_vfs_find("unix");
  if (system_vfs == nullptr) throw std::runtime_error("SQLite has no VFS named unix");
  // Version 1: no shared memory, so that only an exclusive connection can use a log, as the
  // store's does.
  fault_methods.iVersion = 1;
  fault_methods.xClose = close_file;
  fault_methods.xRead = read_file;
  fault_methods.xWrite = write_file;
  fault_methods.xTruncate = truncate_file;
  fault_methods.xSync = sync_file;
  fault_methods.xFileSize = file_size;
  fault_methods.xLock = lock_file;
  fault_methods.xUnlock = unlock_file;
  fault_methods.xCheckReservedLock = check_reserved_lock;
  fault_methods.xFileControl = file_control;
  fault_methods.xSectorSize = sector_size;
  fault_methods.xDeviceCharacteristics = device_characteristics;
  fault_vfs.iVersion = 1;
  fault_vfs.szOsFile = static_cast<int>(sizeof(FaultFile)) + system_vfs->szOsFile;
  fault_vfs.mxPathname = system_vfs->mxPathname;
  fault_vfs.zName = "postbag-fault";
  fault_vfs.xOpen = open_file;
  fault_vfs.xDelete = delete_file;
  fault_vfs.xAccess = access_file;
  fault_vfs.xFullPathname = full_pathname;
  fault_vfs.xRandomness = randomness;
  fault_vfs.xSleep = pause;
  fault_vfs.xCurrentTime = current_time;
  fault_vfs.xGetLastError = get_last_error;
  if (sqlite3_vfs_register(&fault_vfs, 1) != SQLITE_OK) {
    throw std::runtime_error("the VFS cannot be registered");
  }
}

void FaultVfs::arm(const DiskFault& wanted) {
  fault = wanted;
  calls_seen = failures_seen = 0;
  last_errno = 0;
}

void FaultVfs::disarm() {
  fault = {};
  last_errno = 0;
}

std::uint64_t FaultVfs::failures() {
  return failures_seen;
}

void FaultVfs::on_sync(std::function<bool(const std::string& path)> call) {
  sync_call = std::move(call);
}

void FaultVfs::record(DiskLog* log) {
  disk_log = log;
}

}  // namespace postbag::test

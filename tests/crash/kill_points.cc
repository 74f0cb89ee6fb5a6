#include "tests/crash/kill_points.h"

namespace postbag::test {

std::span<const char* const> kill_points() {
  static constexpr const char* points[] = {
      // A commit: frames of the log, their sync, then the witness.
      "wal.write.before",
      "wal.write.torn",
      "wal.write.after",
      "wal.sync.before",
      "wal.sync.after",
      "witness.write.before",
      "witness.write.torn",
      "witness.write.after",
      "witness.sync.before",
      "witness.sync.after",
      // A checkpoint; and the opening of a new store.
      "db.write.before",
      "db.write.torn",
      "db.write.after",
      "db.sync.before",
      "db.sync.after",
      // The name of a new log; the end of one at an orderly end.
      "folder.sync.before",
      "folder.sync.after",
      "wal.unlink.before",
      "wal.unlink.after",
      // An attempt.
      "target.connect.before",
      "target.connect.after",
      "target.send.before",
      "target.send.after",
      "target.recv.before",
      "target.recv.after",
      "target.close.before",
      // A call to intake.
      "intake.accept.after",
      "intake.recv.before",
      "intake.recv.after",
      "intake.send.before",
      "intake.send.after",
      "intake.close.before",
  };
  return points;
}

std::vector<std::string> with_kill_point(const std::string& shim, const std::string& point,
                                         std::uint64_t nth, std::vector<std::string> program) {
  program.insert(program.begin(),
                 {"/usr/bin/env", "LD_PRELOAD=" + shim, "POSTBAG_KILL_POINT=" + point,
                  "POSTBAG_KILL_NTH=" + std::to_string(nth)});
  return program;
}

}  // namespace postbag::test

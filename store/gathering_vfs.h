#pragma once

#include "store/copied_frames.h"

struct sqlite3_file;

namespace postbag {

// The name of an SQLite VFS that writes in fewer, larger pieces, which is registered by the call;
// any thread. Throws bad_alloc. It stands before the one that is the default when a file is opened,
// and passes everything on at once but for two kinds of writes that SQLite makes page by page:
//
// - Frames that are appended to a write-ahead log. The write that makes a transaction whole passes
//   them all on before it returns, and with its error, so a commit that ended well is as much in
//   the file as without; one that did not find room is rolled back as without.
// - Pages that a checkpoint copies into the database. They have left before the file is cut to its
//   length or synced, with which every checkpoint ends, and these tell of an error.
//
// A file is used by one thread, but for the xSync of a log, which syncs what has been passed on.
// Without shared memory: for one connection with exclusive locking. That there is no other is
// needed for more than the locks: an error in a checkpoint's pages is told by the next call, which
// belongs to the same checkpoint only where no other reader of the log can end it early.
const char* gathering_vfs();

// From now on checkpoints of that database and its log copy what `frames` says, which must live
// until both are closed. False: they are not of this VFS.
bool set_copied_frames(sqlite3_file* database, sqlite3_file* log, CopiedFrames& frames);

}  // namespace postbag

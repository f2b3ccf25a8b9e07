// The incarnation: the random id under which this cluster, and no other, writes and deletes objects.
#pragma once

#include "core/object_key.h"

namespace ivfremote {

// Reads it from ivfremote/pgsql_tmp_incarnation in the data directory, or makes a new one if there is none, or if the
// file was made for another system identifier, timeline, host, path or inode (so in a copy of the cluster, whose base
// backup leaves out the file by its name, or a restored or promoted one). Not in recovery.
Uuid GetIncarnation();

// The same without making one: false if there is none, and in recovery.
bool FindIncarnation(Uuid* incarnation);

// Mints another one in place of `old`, under which another cluster writes too; unless that has been done meanwhile.
// Returns the one to use.
Uuid ReplaceIncarnation(const Uuid& old);

// The files beside it: names that base backups skip.
inline constexpr char kLocalDirectory[] = "ivfremote";
// Makes that directory if there is none.
void MakeLocalDirectory();
// Opens a file in it to be locked, made if there is none.
int OpenLockFile(const char* path);
// Writes a small file durably, whole or not at all. `temporary` is in the same directory.
void WriteLocalFile(const char* path, const char* temporary, const char* text);
// A small file's text in the current context, or null if there is none.
char* ReadLocalFile(const char* path);

}  // namespace ivfremote

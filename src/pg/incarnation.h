// The incarnation: the random id under which this cluster, and no other, writes and deletes objects.
#pragma once

#include "core/object_key.h"

namespace ivfremote {

// Reads it from ivfremote/pgsql_tmp_incarnation in the data directory, or makes a new one if there is none, or if the
// file was made for another system identifier, timeline, host, path or inode (so in a copy of the cluster, whose base
// backup leaves out the file by its name, or a restored or promoted one). Not in recovery.
Uuid GetIncarnation();

}  // namespace ivfremote

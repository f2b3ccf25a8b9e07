// A segment on its way to a server: the waits, what progress views, warnings and errors say of them, and credentials that
// change meanwhile.
#pragma once

#include "core/segment_writer.h"
#include "pg/page.h"
#include "pg/wall.h"

namespace ivfremote {

// Before work of hours: errors if the server does not answer (after ivfremote.write_timeout), has no such bucket, or does
// not know the keys. Whether they may write is not known before they do.
void CheckServerAnswers(Relation index, const char* server);

struct ServerUpload;

// Opens the server's store with the rights of the index's owner; CheckServerAnswers has been called. Claims the incarnation (fencing.h)
// and names the segment, of which `name` has the index. Held by the current memory context, whose end aborts what is
// unfinished. `expected_bytes` is a guess.
ServerUpload* StartUpload(Relation index, const char* server, uint64_t part_bytes, uint64_t expected_bytes,
                          SegmentName* name);

// Takes what `writer` has written, and waits until the store has room for more.
void UploadOutput(ServerUpload* upload, SegmentWriter* writer);

// Waits until all is stored for good: `bytes` in all.
void FinishUpload(ServerUpload* upload, uint64_t bytes);

}  // namespace ivfremote

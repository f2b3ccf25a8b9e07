// A segment on its way to a server: the waits, what progress views, warnings and errors say of them, and credentials that
// change meanwhile.
#pragma once

#include "core/segment_writer.h"
#include "pg/page.h"
#include "pg/wall.h"

namespace ivfremote {

// What VACUUM wants of a store. It neither waits for one that fails (ivfremote.write_timeout) nor fails with it.
struct StoreLimit {
  Clock::duration time_left;  // to wait for it
  // It has failed, or time is up: what the warning says.
  bool failed;
  int sqlstate;
  char why[1024];
};

void RecordFailure(StoreLimit* limit, int sqlstate, const char* why);
// So many bytes are about to be read or written, which takes longer than none; null: no limit.
void AllowTimeFor(StoreLimit* limit, uint64_t bytes);

// In the following `limit` is null for builds and maintenance by hand: their store may fail for ivfremote.write_timeout,
// then that is an error. With a limit a failure is recorded there, and false returned.

// Before work of hours: whether the server answers, has such a bucket, and knows the keys. Whether they may write is not
// known before they do.
bool CheckServerAnswers(Relation index, const char* server, StoreLimit* limit);

struct ServerUpload;

// Opens the server's store with the rights of the index's owner; CheckServerAnswers has been called, or FindServer. Claims the
// incarnation (fencing.h) and names the segment, of which `name` has the index; null if the limit ends that. Held by the current memory
// context, whose end aborts what is unfinished. `expected_bytes` is a guess.
ServerUpload* StartUpload(Relation index, const char* server, uint64_t part_bytes, uint64_t expected_bytes,
                          StoreLimit* limit, SegmentName* name);

// Takes what `writer` has written, and waits until the store has room for more.
bool UploadOutput(ServerUpload* upload, SegmentWriter* writer);

// Waits until all is stored for good: `bytes` in all.
bool FinishUpload(ServerUpload* upload, uint64_t bytes);

}  // namespace ivfremote

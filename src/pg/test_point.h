// Named points of the protocol's steps (docs/architecture.md "Concurrency") where builds for tests (TEST_FAULTS=1) can be
// made to fail, to crash or to wait; nothing in others. ivfremote.test_point = 'name=action', action one of
//   error   ends the statement
//   crash   ends the backend as kill -9 does
//   pause   waits for advisory lock 1, which a test holds in another session
// Placed where no page lock is held, or directly after a record.
#pragma once

namespace ivfremote {

#ifdef IVFREMOTE_TEST_FAULTS
void TestPoint(const char* name);
#else
inline void TestPoint(const char*) {}
#endif

}  // namespace ivfremote

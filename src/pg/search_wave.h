// The wave of one search: sent, looked at between pieces of local work, and finished; errors of the store as users see them.
#pragma once

#include "core/types.h"

namespace ivfremote {

struct IndexSearch;

// Of the wave under way.
struct Wave {
  Clock::time_point deadline;
  Clock::time_point next_look;
  Clock::duration look_time;  // spent in LookAtWave
  bool reread;                // the user mapping has been read again
  bool failed;                // a request has, before anybody waited for it
};

// A wave that is yet to start. It has a deadline once it is waited for.
Wave NewWave();

// Sends what has not been read yet, with the rights of the index's owner.
void StartWave(IndexSearch* search);

// From here on the store's errors are the scan's. What has failed so far is sent again.
void WaitForWave(IndexSearch* search);

// Called while rows of earlier waves are given: scores what has arrived, now and then. Rows that the wave may not be needed for
// must not fail with it: an error of the store waits for WaitForWave.
void LookAhead(IndexSearch* search);

// Called between pieces of local work: scores what has arrived, now and then, and waits for nothing.
void LookAtWave(IndexSearch* search);

// Scores what arrives until all has.
void FinishWave(IndexSearch* search);

}  // namespace ivfremote

// Parallel workers of a build's assigning phase; docs/architecture.md has the protocol.
#pragma once

#include "pg/build_assign.h"

namespace ivfremote {

// Launches as many workers as suit the build, and hands them what they need. Null if there are none: then the backend
// isn't in parallel mode. Else it is, until EndBuildWorkers or the end of the (sub)transaction.
BuildWorkers* StartBuildWorkers(Build* build);

// Takes part itself, if it should, and waits for the workers. Then the build's calibration and row counts and the assigner
// returned are of all rows, and `sorts` are to be performed and read before EndBuildWorkers. A worker's error is raised here.
Held<Assigner>* AssignWithWorkers(BuildWorkers* workers, RowSorts* sorts);

void EndBuildWorkers(BuildWorkers* workers);

}  // namespace ivfremote

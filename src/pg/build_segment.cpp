// The calibrating phase of a build, and what comes before and after it.
#include "pg/build.h"
#include "pg/build_assign.h"

namespace ivfremote {
namespace {

// The longest the core works before we look for interrupts.
constexpr std::chrono::milliseconds kStep{100};

// The queries are a sample of the rows; under cosine their directions, which is all that matters of them.
void KeepSample(Build* build) {
  build->sample = Hold<SampleRows>(build->context, [build] {
    const Calibration& calibration = **build->calibration;
    return new SampleRows{build->dimensions, calibration.tids(), calibration.queries()};
  });
}

}  // namespace

void Calibrate(Build* build) {
  StartBuildPhase(BuildPhase::kCalibrating);
  // Tuples are the sample rows that are queries here.
  ReportProgress(PROGRESS_CREATEIDX_TUPLES_TOTAL, static_cast<int64>((*build->calibration)->query_count()));
  for (bool done = false; !done;) {
    CallCore([&] { return (*build->calibration)->Step(Clock::now() + kStep, &done); });
    ReportProgress(PROGRESS_CREATEIDX_TUPLES_DONE, static_cast<int64>((*build->calibration)->queries_done()));
    CHECK_FOR_INTERRUPTS();
  }
  build->curve =
      Hold<RecallCurve>(build->context, [&] { return new RecallCurve((*build->calibration)->TakeCurve()); });
  Drop(build->calibration);
}

bool BuildSegment(Build* build) {
  StartBuildPhase(BuildPhase::kAssigning);
  ReportProgress(PROGRESS_CREATEIDX_TUPLES_TOTAL, static_cast<int64>(build->estimated_rows));
  AssignedRows rows = AssignRows(build);
  KeepSample(build);
  Calibrate(build);
  const bool written = WriteSegment(build, rows);
  EndAssignedRows(&rows);
  return written;
}

}  // namespace ivfremote

// What a flush keeps of its rows as floats, as the new segment's sample.
#pragma once

#include "core/sample_matcher.h"
#include "pg/build.h"

namespace ivfremote {

// Of a generation of codes: its sample, to which all live rows are to be offered; then the part of it that is alive.
Held<SampleMatcher>* ReadSample(Build* build, const MetaPage& meta, const PendingGeneration& generation);
void TakeSample(Build* build, Held<SampleMatcher>* matcher);

// Of a generation of rows as they are.
void DrawSampleOfRows(Build* build, const MetaPage& meta, const PendingGeneration& generation);

}  // namespace ivfremote

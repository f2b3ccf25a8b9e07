#include "pg/flush_sample.h"

#include "pg/pending.h"
#include "pg/pending_reader.h"

extern "C" {
#include "common/pg_prng.h"
}

namespace ivfremote {

Held<SampleMatcher>* ReadSample(Build* build, const MetaPage& meta, const PendingGeneration& generation) {
  Held<SampleMatcher>* matcher = Hold<SampleMatcher>(build->context, [&] {
    return new SampleMatcher(build->metric, build->format, build->rotation_seed, build->routing->object);
  });
  PendingReader* reader = StartSampleReader(build->index, meta, generation);
  PendingRow row;
  while (NextPendingRow(reader, &row)) {
    const std::byte* values = PendingRowCode(reader);
    CallCore([&] {
      (*matcher)->Add({row.tid_block, row.tid_offset}, values);
      return Status::Ok();
    });
  }
  EndPendingReader(reader);
  return matcher;
}

void TakeSample(Build* build, Held<SampleMatcher>* matcher) {
  build->sample = Hold<SampleRows>(build->context, [&] {
    return new SampleRows((*matcher)->Take(CalibrationQueries(build->indexed_rows, build->dimensions)));
  });
  Drop(matcher);
}

void DrawSampleOfRows(Build* build, const MetaPage& meta, const PendingGeneration& generation) {
  double rows = static_cast<double>(CountPendingRows(build->index, generation));
  for (uint32_t i = 0; i < meta.segment_count; ++i) rows += static_cast<double>(meta.segments[i].rows);
  const double share = SampledShare(rows, meta.dimensions);
  build->sample = Hold<SampleRows>(build->context, [] { return new SampleRows(); });
  SampleRows* sample = build->sample->object;
  sample->dimensions = meta.dimensions;
  PendingReader* reader = StartPendingReader(build->index, meta, generation);
  PendingRow row;
  while (NextPendingRow(reader, &row)) {
    if (pg_prng_double(&pg_global_prng_state) >= share) continue;
    const float* values = PendingRowFloats(reader);
    CallCore([&] {
      sample->tids.push_back({row.tid_block, row.tid_offset});
      sample->rows.insert(sample->rows.end(), values, values + meta.dimensions);
      return Status::Ok();
    });
  }
  EndPendingReader(reader);
}

}  // namespace ivfremote

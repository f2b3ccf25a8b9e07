// The training phase of a build: hands the sample to the trainer, pass by pass.
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>

#include "core/blas.h"
#include "core/even_part.h"
#include "pg/build.h"
#include "pg/pending.h"
#include "pg/probes.h"

extern "C" {
#include "catalog/pg_operator_d.h"
}

namespace ivfremote {
namespace {

constexpr int64_t kMinTrainingBytes = int64_t{16} << 20;
constexpr int64_t kMegabyte = int64_t{1} << 20;

// The maintenance_work_mem with which TrainingBytes is at least `bytes`, in MB.
int64_t MaintenanceMegabytesFor(int64_t bytes) { return (4 * bytes + kMegabyte - 1) / kMegabyte; }

// Beside its centroid a list has entries of the segment's directory and sums: 40 bytes, copied once or twice.
constexpr int64_t kMinListBytes = 128;

// No more lists than their centroids, as floats, fit in memory.
void LimitLists(Build* build) {
  const int64_t row_bytes = std::max(int64_t{build->dimensions} * static_cast<int64_t>(sizeof(float)), kMinListBytes);
  const auto rows = static_cast<int64_t>(std::clamp(std::ceil(build->estimated_rows), 1.0, double{kMaxLists}));
  const int64_t wanted = std::min<int64_t>(build->lists, rows);
  const int64_t affordable = TrainingBytes() / row_bytes;
  if (wanted <= affordable) return;
  build->lists = static_cast<uint32_t>(affordable);
  ereport(NOTICE, (errmsg("index \"%s\" gets %lld lists rather than %lld", RelationGetRelationName(build->index),
                          static_cast<long long>(affordable), static_cast<long long>(wanted)),
                   errhint("Set maintenance_work_mem to at least %lldMB.",
                           static_cast<long long>(MaintenanceMegabytesFor(wanted * row_bytes)))));
}

void CheckBlas() {
  BlasSpeed speed;
  CallCore([&] {
    speed = MeasureBlas();
    return Status::Ok();
  });
  if (speed.gigaflops >= kSlowBlasGigaflops) return;
  ereport(NOTICE, (errmsg("matrix products run at %.1f GFLOP/s with \"%s\", which makes builds slow", speed.gigaflops,
                          speed.file),
                   errhint("Install OpenBLAS, and let no other BLAS take its place.")));
}

// ---------------------------------------------------------------------------------------------------------------------
// The sample by groups: (group int4, row bytea) sorted by the first. Rows are centred.

constexpr int kMemberColumns = 2;

struct Members {
  TupleDesc descriptor;
  Tuplesortstate* sort;
  TupleTableSlot* in;
  TupleTableSlot* out;
  bytea* row;  // being put into the sort
  size_t row_bytes;
};

Members* StartMembers(const Build* build) {
  auto* members = static_cast<Members*>(palloc0(sizeof(Members)));
  members->descriptor = CreateTemplateTupleDesc(kMemberColumns);
  TupleDescInitEntry(members->descriptor, 1, "group", INT4OID, -1, 0);
  TupleDescInitEntry(members->descriptor, 2, "row", BYTEAOID, -1, 0);
  // Without a short header, so that the floats are aligned.
  TupleDescAttr(members->descriptor, 1)->attstorage = TYPSTORAGE_PLAIN;
  AttrNumber columns[] = {1};
  Oid operators[] = {Int4LessOperator};
  Oid collations[] = {InvalidOid};
  bool nulls_first[] = {false};
  members->sort = tuplesort_begin_heap(members->descriptor, 1, columns, operators, collations, nulls_first,
                                       SampleKilobytes(), nullptr, TUPLESORT_NONE);
  members->in = MakeSingleTupleTableSlot(members->descriptor, &TTSOpsVirtual);
  members->out = MakeSingleTupleTableSlot(members->descriptor, &TTSOpsMinimalTuple);
  members->row_bytes = build->dimensions * sizeof(float);
  members->row = static_cast<bytea*>(palloc(VARHDRSZ + members->row_bytes));
  SET_VARSIZE(members->row, VARHDRSZ + members->row_bytes);
  return members;
}

void PutMember(Members* members, uint32_t group, const float* row) {
  std::memcpy(VARDATA(members->row), row, members->row_bytes);
  ExecClearTuple(members->in);
  members->in->tts_values[0] = Int32GetDatum(static_cast<int32>(group));
  members->in->tts_values[1] = PointerGetDatum(members->row);
  std::fill_n(members->in->tts_isnull, kMemberColumns, false);
  ExecStoreVirtualTuple(members->in);
  tuplesort_puttupleslot(members->sort, members->in);
}

bool NextMember(Members* members, uint32_t* group, const float** row) {
  if (!tuplesort_gettupleslot(members->sort, true, false, members->out, nullptr)) return false;
  bool isnull;
  *group = static_cast<uint32_t>(DatumGetInt32(slot_getattr(members->out, 1, &isnull)));
  *row = reinterpret_cast<const float*>(VARDATA(DatumGetPointer(slot_getattr(members->out, 2, &isnull))));
  return true;
}

void DropMembers(Members* members) {
  ExecDropSingleTupleTableSlot(members->in);
  ExecDropSingleTupleTableSlot(members->out);
  tuplesort_end(members->sort);
  pfree(members->row);
  pfree(members);
}

// ---------------------------------------------------------------------------------------------------------------------
// The sample rows that recall is measured with.

struct Queries {
  std::vector<float> rows;
  std::vector<Tid> tids;
};

// Evenly from all of the sample, which is in table order.
Held<Queries>* DrawQueries(const Build* build, SampleStore* sample) {
  const uint64_t rows = (*sample->summary)->rows;
  const size_t d = build->dimensions;
  const uint64_t count = std::min<uint64_t>(CalibrationQueries(build->estimated_rows, build->dimensions), rows);
  Held<Queries>* queries = Hold<Queries>(build->context, [&] {
    auto made = std::make_unique<Queries>();
    made->rows.reserve(count * d);
    made->tids.reserve(count);
    return made.release();
  });
  Tid tid;
  const float* row;
  for (uint64_t number = 0; number < rows && NextSampleRow(sample, &tid, &row); ++number) {
    CHECK_FOR_INTERRUPTS();
    if (!IsOneOf(count, number, rows)) continue;
    CallCore([&] {
      (*queries)->rows.insert((*queries)->rows.end(), row, row + d);
      (*queries)->tids.push_back(tid);
      return Status::Ok();
    });
  }
  return queries;
}

// ---------------------------------------------------------------------------------------------------------------------

struct Training {
  Held<Trainer>* trainer;
  SampleStore* sample;  // null when no pass needs it any more
  Members* members;     // from kSharing to kLists, if there are groups
};

void DropSample(Training* training) {
  if (training->sample != nullptr) DropSample(training->sample);
  training->sample = nullptr;
}

void StepTraining(Training* training) {
  Trainer* trainer = training->trainer->object;
  CHECK_FOR_INTERRUPTS();
  CallCore([&] { return trainer->Step(); });
  if (trainer->pass() == Trainer::Pass::kSharing)
    for (size_t i = 0; i < trainer->groups().size(); ++i) {
      CHECK_FOR_INTERRUPTS();
      PutMember(training->members, trainer->groups()[i], trainer->row(i));
    }
}

// Hands over the rows of one pass, in the order it wants.
void TrainPass(Training* training) {
  Trainer* trainer = training->trainer->object;
  const bool by_groups = trainer->pass() == Trainer::Pass::kLists && trainer->grouped();
  if (!by_groups) tuplestore_rescan(training->sample->rows);
  for (;;) {
    CHECK_FOR_INTERRUPTS();
    Tid tid;
    uint32_t group = 0;
    const float* row;
    if (!(by_groups ? NextMember(training->members, &group, &row) : NextSampleRow(training->sample, &tid, &row))) break;
    CallCore([&] {
      if (by_groups) trainer->AddMember(group, row);
      else trainer->Add(row);
      return Status::Ok();
    });
    if (trainer->full()) StepTraining(training);
    ReportProgress(PROGRESS_CREATEIDX_TUPLES_DONE, static_cast<int64>(trainer->rows_done()));
  }
  StepTraining(training);
}

// Gives back what no later pass needs, memory and disk, and makes what the next one does.
void EndPass(Build* build, Training* training) {
  Trainer* trainer = training->trainer->object;
  const bool by_groups = trainer->pass() == Trainer::Pass::kSharing;
  CallCore([&] {
    trainer->EndPass();
    return Status::Ok();
  });
  if (trainer->pass() == Trainer::Pass::kSharing) {
    training->members = StartMembers(build);
  } else if (by_groups) {
    if (!trainer->refines()) DropSample(training);
    tuplesort_performsort(training->members->sort);
  } else if (training->members != nullptr) {
    DropMembers(training->members);
    training->members = nullptr;
  }
}

void ReportFewRows(const Trainer* trainer) {
  if (trainer->enough_memory_bytes() == 0) return;
  const int64_t megabytes = MaintenanceMegabytesFor(static_cast<int64_t>(trainer->enough_memory_bytes()));
  ereport(NOTICE,
          (errmsg("k-means uses %llu sample rows, as few as %.1f per list",
                  static_cast<unsigned long long>(trainer->rows_used()), trainer->fewest_rows_per_list()),
           errhint("Set maintenance_work_mem to at least %lldMB.",
                   static_cast<long long>(megabytes))));
}

}  // namespace

int64_t TrainingBytes() { return std::max(MaintenanceBytes() / 4, kMinTrainingBytes); }

int TrainingThreads() {
  const long online = sysconf(_SC_NPROCESSORS_ONLN);
  return static_cast<int>(std::clamp<long>(max_parallel_maintenance_workers + 1, 1, std::max(online, 1L)));
}

void TrainLists(Build* build) {
  LimitLists(build);
  Training training{nullptr, DrawSample(build), nullptr};
  StartBuildPhase(BuildPhase::kTraining);
  CheckBlas();
  Held<Queries>* queries = DrawQueries(build, training.sample);
  TrainingOptions options;
  options.metric = build->metric;
  options.dimensions = build->dimensions;
  options.lists = build->lists;
  options.threads = TrainingThreads();
  options.memory_bytes = static_cast<size_t>(TrainingBytes());
  options.interrupted = StatementCancelled;
  training.trainer =
      Hold<Trainer>(build->context, [&] { return new Trainer(options, **training.sample->summary); });
  Trainer* trainer = training.trainer->object;
  // Tuples are sample rows here, as often as they are looked at.
  ReportProgress(PROGRESS_CREATEIDX_TUPLES_TOTAL, static_cast<int64>(trainer->rows_total()));
  while (trainer->pass() != Trainer::Pass::kDone) {
    TrainPass(&training);
    EndPass(build, &training);
  }
  ReportFewRows(trainer);
  DropSample(&training);
  build->routing = Hold<Routing>(build->context, [&] { return new Routing(trainer->TakeRouting()); });
  Drop(training.trainer);
  StartCoding(build);
  StartCalibration(build, &(*queries)->rows, &(*queries)->tids);
  Drop(queries);
}

}  // namespace ivfremote

// What splitting lists makes of an index that was trained on other rows than it has now: trained on half of the classes (labels
// 0 to 4 of Fashion-MNIST; of other data the half-space of its widest coordinate), or on a tenth of the rows, and grown by the rest. Rows
// come to their nearest lists and are coded there; then lists are split as compaction does, from decoded rows. Without Postgres.
//
// For each: lists; the rows that have to be scored for recall@10 0.95 of queries that are not among the rows, and the blocks they are
// in (rows of a list whose codes refer to other centroids are in blocks of their own); the recall
// that the curve for 0.95 reaches, and the rows it costs. Neighbours count if their list is probed: what bounds lose is left out.
#include <cblas.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <numeric>
#include <set>

#include "core/assignment.h"
#include "core/calibration.h"
#include "core/coding.h"
#include "core/distance.h"
#include "core/even_part.h"
#include "core/list_splitter.h"
#include "lib/dataset.h"
#include "lib/figures.h"
#include "unit/training_run.h"

using namespace ivfremote;
using namespace ivfremote::bench;

namespace {

constexpr size_t kNeighbours = 10;
constexpr double kRecall = 0.95;
constexpr uint64_t kSeed = 20261121;
constexpr int kThreads = 2;

void Check(const Status& status, const char* what) {
  if (status.ok()) return;
  std::fprintf(stderr, "%s: %s\n", what, status.message().c_str());
  std::exit(1);
}

Tid TidOf(size_t row) { return {static_cast<uint32_t>(row), 1}; }

// Everything that is known of the data, in routing space.
struct Data {
  Metric metric;
  size_t d;
  CodeFormat format;
  std::vector<float> rows;
  std::vector<float> queries;
  std::vector<std::vector<uint32_t>> nearest;  // of each query, the true ones

  size_t count() const { return rows.size() / d; }
  size_t query_count() const { return queries.size() / d; }
};

void FindNearest(Data* data) {
  const size_t n = data->count();
  const size_t d = data->d;
  std::vector<double> norms(n);
  for (size_t i = 0; i < n; ++i) norms[i] = SquaredNorm(&data->rows[i * d], d);
  std::vector<float> products(n);
  for (size_t q = 0; q < data->query_count(); ++q) {
    cblas_sgemv(CblasRowMajor, CblasNoTrans, static_cast<int>(n), static_cast<int>(d), 1, data->rows.data(),
                static_cast<int>(d), &data->queries[q * d], 1, 0, products.data(), 1);
    std::vector<uint32_t> order(n);
    std::iota(order.begin(), order.end(), 0u);
    const auto score = [&](uint32_t i) { return norms[i] - 2.0 * products[i]; };
    std::partial_sort(order.begin(), order.begin() + kNeighbours, order.end(),
                      [&](uint32_t a, uint32_t b) { return score(a) < score(b); });
    order.resize(kNeighbours);
    data->nearest.push_back(std::move(order));
  }
}

// An index: which list each row is in, and the centroid its code refers to.
struct Index {
  Routing routing;
  std::vector<uint32_t> list_of;
  std::vector<float> centroids;       // that codes refer to
  std::vector<uint32_t> centroid_of;  // which of them
  std::vector<uint32_t> coded_in;     // the list it was of
  std::vector<std::byte> codes;
  std::vector<uint64_t> list_rows;

  size_t rows() const { return list_of.size(); }
  void Count() {
    list_rows.assign(routing.list_count(), 0);
    for (const uint32_t list : list_of) ++list_rows[list];
  }
};

Routing TrainOn(const Data& data, const std::vector<uint32_t>& rows, uint32_t lists) {
  const size_t wanted = std::min(rows.size(), std::max<size_t>(size_t{64} * lists, 10000));
  std::vector<float> sample;
  for (size_t i = 0; i < rows.size(); ++i)
    if (IsOneOf(wanted, i, rows.size()))
      sample.insert(sample.end(), &data.rows[rows[i] * data.d], &data.rows[rows[i] * data.d] + data.d);
  TrainingOptions options;
  options.metric = data.metric;
  options.dimensions = static_cast<uint32_t>(data.d);
  options.lists = lists;
  options.threads = kThreads;
  options.memory_bytes = size_t{1} << 30;
  Routing routing;
  Check(Train(options, std::move(sample), &routing), "training");
  return routing;
}

// Rows `from` on come as inserts do.
void Insert(const Data& data, const std::vector<uint32_t>& rows, size_t from, size_t to, Index* index) {
  Assigner assigner(&index->routing);
  RowCoder coder(data.metric, data.format, kSeed, index->routing.mean.data());
  const size_t d = data.d;
  const size_t row_bytes = data.format.RowBytes();
  index->list_of.resize(to);
  index->codes.resize(to * row_bytes);
  std::vector<float> batch;
  for (size_t first = from; first < to; first += assigner.batch_rows()) {
    const size_t n = std::min(assigner.batch_rows(), to - first);
    batch.clear();
    for (size_t i = 0; i < n; ++i)
      batch.insert(batch.end(), &data.rows[rows[first + i] * d], &data.rows[rows[first + i] * d] + d);
    assigner.Assign(batch.data(), n, &index->list_of[first]);
    for (size_t i = first; i < first + n; ++i)
      coder.Encode(&data.rows[rows[i] * d], &index->routing.centroids[index->list_of[i] * d], &index->codes[i * row_bytes]);
  }
  const auto first_centroid = static_cast<uint32_t>(index->centroids.size() / d);
  index->centroids.insert(index->centroids.end(), index->routing.centroids.begin(), index->routing.centroids.end());
  for (size_t i = from; i < to; ++i) {
    index->centroid_of.push_back(first_centroid + index->list_of[i]);
    index->coded_in.push_back(index->list_of[i]);
  }
  if (from == 0) index->routing.radii = assigner.Radii();
  index->Count();
}

// Calls use(first, rows less the mean, n, excess) for all rows in batches: decoded, or (`exact`) as they are.
void ForBatches(const Data& data, const std::vector<uint32_t>& rows, const Index& index, bool exact,
                const std::function<void(size_t, const float*, size_t, const float*)>& use) {
  RowDecoder decoder(data.metric, data.format, kSeed, index.routing.mean.data());
  const size_t d = data.d;
  constexpr size_t kBatch = 64;
  std::vector<float> batch(kBatch * d);
  std::vector<float> excess(kBatch);
  for (size_t first = 0; first < index.rows(); first += kBatch) {
    const size_t n = std::min(kBatch, index.rows() - first);
    for (size_t i = 0; i < n; ++i) {
      const float* row = &data.rows[rows[first + i] * d];
      if (exact)
        for (size_t j = 0; j < d; ++j) batch[i * d + j] = row[j] - index.routing.mean[j];
      else
        decoder.Decode(&index.codes[(first + i) * data.format.RowBytes()],
                       &index.centroids[index.centroid_of[first + i] * d], &batch[i * d], &excess[i]);
    }
    use(first, batch.data(), n, exact ? nullptr : excess.data());
  }
}

struct Outcome {
  double rows_needed;
  double blocks_needed;
  double recall;  // with the curve
  double rows;
};

// What the curve gives, and what would have been enough.
Outcome Evaluate(const Data& data, const std::vector<uint32_t>& rows, const Index& index, const RecallCurve& curve) {
  std::vector<uint32_t> list_of(data.count(), ~0u);
  for (size_t i = 0; i < index.rows(); ++i) list_of[rows[i]] = index.list_of[i];
  std::set<std::pair<uint32_t, uint32_t>> blocks;
  for (size_t i = 0; i < index.rows(); ++i) blocks.insert({index.list_of[i], index.coded_in[i]});
  std::vector<double> list_blocks(index.routing.list_count());
  for (const auto& [list, centroid] : blocks) ++list_blocks[list];
  struct Step {
    float stop;
    double rows;
    double blocks;
    double found;
  };
  std::vector<Step> steps;
  for (size_t q = 0; q < data.query_count(); ++q) {
    std::vector<RankedList> ranked;
    ListRanker(&index.routing, &data.queries[q * data.d], {curve.rule, ~0u, kAnyStop}).Rank(curve.rule, &ranked);
    std::vector<double> found(index.routing.list_count());
    for (const uint32_t row : data.nearest[q]) found[list_of[row]] += 1;
    for (const RankedList& list : ranked)
      steps.push_back({list.stop, static_cast<double>(index.list_rows[list.list]), list_blocks[list.list], found[list.list]});
  }
  std::sort(steps.begin(), steps.end(), [](const Step& a, const Step& b) { return a.stop < b.stop; });
  const auto queries = static_cast<double>(data.query_count());
  Outcome outcome{0, 0, 0, 0};
  const float stop = curve.At(kNeighbours, kRecall).stop;
  double found = 0;
  double scored = 0;
  double read = 0;
  for (const Step& step : steps) {
    found += step.found / queries / kNeighbours;
    scored += step.rows / queries;
    read += step.blocks / queries;
    if (outcome.rows_needed == 0 && found >= kRecall) outcome.rows_needed = scored, outcome.blocks_needed = read;
    if (step.stop <= stop) outcome.recall = found, outcome.rows = scored;
  }
  return outcome;
}

RecallCurve Calibrate(const Data& data, const std::vector<uint32_t>& rows, const Index& index, bool exact) {
  const uint32_t count = CalibrationQueries(static_cast<double>(index.rows()), static_cast<uint32_t>(data.d));
  std::vector<float> queries;
  std::vector<Tid> tids;
  for (size_t i = 0; i < index.rows(); ++i) {
    if (!IsOneOf(count, i, index.rows())) continue;
    queries.insert(queries.end(), &data.rows[rows[i] * data.d], &data.rows[rows[i] * data.d] + data.d);
    tids.push_back(TidOf(i));
  }
  CalibrationOptions options{data.metric, data.format, kSeed, data.format.bits == 1 ? 1.9 : 2.5, 0, 0.0f};
  Calibration calibration(options, &index.routing, std::move(queries), std::move(tids));
  ForBatches(data, rows, index, exact, [&](size_t first, const float* batch, size_t n, const float* excess) {
    std::vector<Tid> batch_tids;
    for (size_t i = 0; i < n; ++i) batch_tids.push_back(TidOf(first + i));
    calibration.Add(batch, n, &index.list_of[first], nullptr, batch_tids.data(), nullptr, excess);
  });
  for (bool done = false; !done;) Check(calibration.Step(Clock::now() + std::chrono::seconds(1), &done), "calibration");
  return calibration.TakeCurve();
}

double TargetRows(const Data& data, const Index& index) {
  const auto rows = static_cast<double>(index.rows());
  return rows / AutomaticLists(rows, static_cast<uint32_t>(data.d));
}

// Decoded rows (or `exact`) to new lists; those of all lists, or only what the splitter says.
void Reassign(const Data& data, const std::vector<uint32_t>& rows, Index* index, bool exact,
              const std::function<bool(uint32_t)>& reassigned) {
  Assigner assigner(&index->routing);
  std::vector<uint32_t> lists(64);
  std::vector<float> moved;
  ForBatches(data, rows, *index, exact, [&](size_t first, const float* batch, size_t n, const float* excess) {
    for (size_t i = 0; i < n; ++i)
      if (reassigned(index->list_of[first + i]))
        assigner.AssignCentred(batch + i * data.d, 1, &index->list_of[first + i], excess == nullptr ? nullptr : excess + i);
  });
  const std::vector<float> radii = assigner.Radii();
  for (uint32_t list = 0; list < radii.size(); ++list)
    if (reassigned(list) || list >= index->list_rows.size()) index->routing.radii[list] = radii[list];
  index->Count();
}

// As a compaction does. Returns the lists added.
uint32_t Split(const Data& data, const std::vector<uint32_t>& rows, Index* index, bool exact) {
  const Routing before = index->routing;
  const double target = TargetRows(data, *index);
  ListSplitter splitter(before, index->list_rows, target, {kThreads, nullptr, size_t{1} << 30, kSeed});
  ForBatches(data, rows, *index, exact, [&](size_t first, const float* batch, size_t n, const float*) {
    for (size_t i = 0; i < n; ++i) splitter.Add(index->list_of[first + i], batch + i * data.d);
  });
  for (bool done = false; !done;) Check(splitter.Step(&done), "split");
  const uint32_t added = splitter.new_lists();
  index->routing = splitter.TakeRouting();
  Reassign(data, rows, index, exact, [&](uint32_t list) { return splitter.Reassigned(list); });
  return added;
}

// For comparison: each large list's centroid is replaced, too, by k-means of its decoded rows.
void SplitReplacing(const Data& data, const std::vector<uint32_t>& rows, Index* index) {
  const size_t d = data.d;
  const double target = TargetRows(data, *index);
  std::vector<std::vector<float>> members(index->routing.list_count());
  ForBatches(data, rows, *index, false, [&](size_t first, const float* batch, size_t n, const float*) {
    for (size_t i = 0; i < n; ++i) {
      const uint32_t list = index->list_of[first + i];
      if (static_cast<double>(index->list_rows[list]) > 2 * target)
        members[list].insert(members[list].end(), batch + i * d, batch + (i + 1) * d);
    }
  });
  Routing& routing = index->routing;
  Check(KMeans::Run({static_cast<uint32_t>(d), kThreads, nullptr},
                    [&](const KMeans& kmeans) {
                      for (uint32_t list = 0; list < members.size(); ++list) {
                        const size_t n = members[list].size() / d;
                        if (n == 0) continue;
                        const auto parts = static_cast<size_t>(std::ceil(static_cast<double>(n) / target));
                        const std::vector<float> centroids = kmeans.Cluster(parts, n, members[list].data());
                        std::copy_n(centroids.begin(), d, &routing.centroids[list * d]);
                        routing.centroids.insert(routing.centroids.end(), centroids.begin() + static_cast<ptrdiff_t>(d),
                                                 centroids.end());
                      }
                    }),
        "k-means");
  routing.radii.resize(routing.centroids.size() / d);
  routing.group_first = {0, routing.list_count()};
  routing.group_centroids.assign(d, 0.0f);
  RoundCentroids(&routing);
  // All rows, to keep it simple.
  Assigner assigner(&routing);
  ForBatches(data, rows, *index, false, [&](size_t first, const float* batch, size_t n, const float* excess) {
    assigner.AssignCentred(batch, n, &index->list_of[first], excess);
  });
  routing.radii = assigner.Radii();
  index->Count();
}

void Print(const char* scenario, const char* name, const Index& index, const Outcome& outcome) {
  const uint64_t largest = *std::max_element(index.list_rows.begin(), index.list_rows.end());
  const auto empty = std::count(index.list_rows.begin(), index.list_rows.end(), 0u);
  std::printf("%-9s %-34s %5u lists, largest %5llu, %3lld empty: %7.0f rows in %4.0f blocks for 0.95; the curve's: recall %.3f, %7.0f rows\n",
              scenario, name, index.routing.list_count(), static_cast<unsigned long long>(largest),
              static_cast<long long>(empty), outcome.rows_needed, outcome.blocks_needed, outcome.recall, outcome.rows);
  std::fflush(stdout);
}

Data ReadData(std::vector<uint32_t>* labels) {
  const Dataset dataset = ReadDataset();
  Data data;
  data.metric = dataset.metric;
  data.d = dataset.rows.dimensions;
  data.format = AutomaticFormat(static_cast<uint32_t>(data.d));
  const auto in_space = [&](const Vectors& from, std::vector<float>* to) {
    to->resize(from.values.size());
    for (size_t i = 0; i < from.count(); ++i) ToRoutingSpace(data.metric, from[i], data.d, &(*to)[i * data.d]);
  };
  in_space(dataset.rows, &data.rows);
  in_space(dataset.queries, &data.queries);
  if (dataset.name == "Fashion-MNIST") {
    for (const uint8_t label : ReadFashionLabels()) labels->push_back(label < 5 ? 0 : 1);
    return data;
  }
  size_t widest = 0;
  double most = 0;
  double mean_of_widest = 0;
  for (size_t j = 0; j < data.d; ++j) {
    double sum = 0;
    double squares = 0;
    for (size_t i = 0; i < data.count(); ++i) {
      sum += data.rows[i * data.d + j];
      squares += double{data.rows[i * data.d + j]} * data.rows[i * data.d + j];
    }
    const double mean = sum / static_cast<double>(data.count());
    const double variance = squares / static_cast<double>(data.count()) - mean * mean;
    if (variance > most) most = variance, widest = j, mean_of_widest = mean;
  }
  for (size_t i = 0; i < data.count(); ++i) labels->push_back(data.rows[i * data.d + widest] < mean_of_widest ? 0 : 1);
  return data;
}

}  // namespace

int main() {
  std::vector<uint32_t> labels;
  Data data = ReadData(&labels);
  FindNearest(&data);
  const size_t n = data.count();
  Figures figures;

  std::vector<uint32_t> all(n);
  std::iota(all.begin(), all.end(), 0u);
  const auto lists_for = [&](size_t rows) { return AutomaticLists(static_cast<double>(rows), static_cast<uint32_t>(data.d)); };
  Index fresh;
  fresh.routing = TrainOn(data, all, lists_for(n));
  Insert(data, all, 0, n, &fresh);
  const Outcome of_fresh = Evaluate(data, all, fresh, Calibrate(data, all, fresh, true));
  Print("", "fresh build", fresh, of_fresh);
  Print("", "fresh, curve from codes", fresh, Evaluate(data, all, fresh, Calibrate(data, all, fresh, false)));
  figures.Add("fresh_rows", of_fresh.rows_needed, 0);

  for (const char* scenario : {"half", "tenth"}) {
    const bool half = std::string(scenario) == "half";
    std::vector<uint32_t> order;
    size_t trained = 0;
    for (const uint32_t part : {0u, 1u})
      for (uint32_t i = 0; i < n; ++i)
        if ((half ? labels[i] : (i % 10 == 3 ? 0 : 1)) == part) {
          order.push_back(i);
          trained += part == 0;
        }
    Index start;
    start.routing = TrainOn(data, {order.begin(), order.begin() + static_cast<ptrdiff_t>(trained)}, lists_for(trained));
    Insert(data, order, 0, trained, &start);
    const RecallCurve old_curve = Calibrate(data, {order.begin(), order.begin() + static_cast<ptrdiff_t>(trained)}, start, true);
    Index grown = start;
    Insert(data, order, trained, n, &grown);
    Print(scenario, "no split, old curve", grown, Evaluate(data, order, grown, old_curve));
    Print(scenario, "no split, new curve", grown, Evaluate(data, order, grown, Calibrate(data, order, grown, false)));

    Index split = grown;
    Split(data, order, &split, false);
    const Outcome of_split = Evaluate(data, order, split, Calibrate(data, order, split, false));
    Print(scenario, "split", split, of_split);
    Split(data, order, &split, false);
    Print(scenario, "split again", split, Evaluate(data, order, split, Calibrate(data, order, split, false)));
    Index exact = grown;
    Split(data, order, &exact, true);
    Print(scenario, "split, from the rows themselves", exact, Evaluate(data, order, exact, Calibrate(data, order, exact, true)));
    Index replaced = grown;
    SplitReplacing(data, order, &replaced);
    const Outcome of_replaced = Evaluate(data, order, replaced, Calibrate(data, order, replaced, false));
    Print(scenario, "split, centroids replaced", replaced, of_replaced);

    // As an index grows: a compaction whenever it has grown by half.
    Index stepwise = start;
    Index stepwise_replaced = start;
    for (size_t rows = trained; rows < n;) {
      const size_t next = std::min(rows + rows / 2, n);
      for (Index* index : {&stepwise, &stepwise_replaced}) Insert(data, order, rows, next, index);
      Split(data, order, &stepwise, false);
      SplitReplacing(data, order, &stepwise_replaced);
      rows = next;
    }
    const Outcome of_stepwise = Evaluate(data, order, stepwise, Calibrate(data, order, stepwise, false));
    Print(scenario, "split as it grows", stepwise, of_stepwise);
    const Outcome of_stepwise_replaced =
        Evaluate(data, order, stepwise_replaced, Calibrate(data, order, stepwise_replaced, false));
    Print(scenario, "split as it grows, replaced", stepwise_replaced, of_stepwise_replaced);
    figures.Add(std::string(scenario) + "_rows", of_split.rows_needed, 0);
    figures.Add(std::string(scenario) + "_rows_ratio", of_split.rows_needed / of_fresh.rows_needed, 3);
    figures.Add(std::string(scenario) + "_replaced_ratio", of_replaced.rows_needed / of_fresh.rows_needed, 3);
    figures.Add(std::string(scenario) + "_growing_ratio", of_stepwise.rows_needed / of_fresh.rows_needed, 3);
    figures.Add(std::string(scenario) + "_growing_replaced_ratio", of_stepwise_replaced.rows_needed / of_fresh.rows_needed, 3);
    figures.Add(std::string(scenario) + "_recall", of_split.recall, 3);
  }
  figures.Print();
  return 0;
}

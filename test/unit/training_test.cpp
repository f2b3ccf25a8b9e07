#include "core/training.h"

#include <omp.h>
#include <pthread.h>
#include <signal.h>

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <functional>
#include <set>
#include <tuple>
#include <utility>

#include "core/assignment.h"
#include "core/list_ranker.h"
#include "support.h"
#include "training_run.h"

namespace ivfremote {
namespace {

TrainingOptions Options(uint32_t dimensions, uint32_t lists, int threads = 1) {
  TrainingOptions options;
  options.dimensions = dimensions;
  options.lists = lists;
  options.threads = threads;
  return options;
}

// A routing in which everything fits together, with `lists` lists and finite values.
void ExpectSound(const Routing& routing, uint32_t dimensions, uint32_t lists) {
  EXPECT_EQ(routing.dimensions, dimensions);
  EXPECT_EQ(routing.list_count(), lists);
  EXPECT_EQ(routing.mean.size(), dimensions);
  EXPECT_EQ(routing.centroids.size(), size_t{lists} * dimensions);
  ASSERT_GE(routing.group_first.size(), 2u);
  EXPECT_EQ(routing.group_first.front(), 0u);
  EXPECT_EQ(routing.group_first.back(), lists);
  EXPECT_TRUE(std::is_sorted(routing.group_first.begin(), routing.group_first.end()));
  EXPECT_EQ(routing.group_centroids.size(), size_t{routing.group_count()} * dimensions);
  for (const auto* values : {&routing.mean, &routing.radii, &routing.centroids, &routing.group_centroids})
    EXPECT_TRUE(std::all_of(values->begin(), values->end(), [](float x) { return std::isfinite(x); }));
  Routing decoded;
  EXPECT_OK(DecodeRouting(routing.Encode(), &decoded));
  // What rows are assigned and coded by is what is stored.
  EXPECT_EQ(decoded.centroids, routing.centroids);
  EXPECT_EQ(decoded.group_centroids, routing.group_centroids);
}

TEST(Training, AutomaticLists) {
  const std::pair<double, uint32_t> wide[] = {
      {-1, 1},      {0, 1},        {1, 1},           {200, 1},           {299, 1},
      {301, 2},     {60000, 300},  {1e6, 5000},      {1e7, 50000},       {1.0000001e7, 50000},
      {2e7, 50000}, {4e7, 100000}, {1e9, kMaxLists}, {1e300, kMaxLists},
  };
  for (const auto& [rows, lists] : wide) {
    EXPECT_EQ(AutomaticLists(rows, 512), lists) << rows;
    EXPECT_EQ(AutomaticLists(rows, kMaxDimensions), lists) << rows;
  }
  const std::pair<double, uint32_t> narrow[] = {{1, 1}, {451, 2}, {60000, 200}, {1e7, 33333}, {2e7, 33333}, {3e7, 50000}};
  for (const auto& [rows, lists] : narrow) {
    EXPECT_EQ(AutomaticLists(rows, 1), lists) << rows;
    EXPECT_EQ(AutomaticLists(rows, 511), lists) << rows;
  }
}

// Samples of one shape each; all must train to exactly the lists asked for, or as many as there are rows.
struct Shape {
  const char* name;
  float (*value)(Random&, size_t row, size_t column);
};

void PrintTo(const Shape& shape, std::ostream* out) { *out << shape.name; }

const Shape kShapes[] = {
    {"Uniform", [](Random& random, size_t, size_t) { return Uniform(random); }},
    {"AllEqual", [](Random&, size_t, size_t column) { return 3.25f + static_cast<float>(column); }},
    {"AllZero", [](Random&, size_t, size_t) { return 0.0f; }},
    {"FewDistinct", [](Random&, size_t row, size_t column) { return static_cast<float>((row % 3) * (column + 1)); }},
    // One cluster and rows far from it and from each other, which become groups of their own.
    {"Outliers",
     [](Random& random, size_t row, size_t column) {
       return row % 29 == 5 && column == row % 4 ? static_cast<float>(1000 + row) : 0.01f * Uniform(random);
     }},
    {"Offset", [](Random& random, size_t, size_t) { return 10000 + Uniform(random); }},
    {"Huge", [](Random& random, size_t, size_t) { return 1e30f * Uniform(random); }},
    {"Largest", [](Random& random, size_t, size_t) { return Below(random, 2) == 0 ? FLT_MAX : -FLT_MAX; }},
    {"Tiny", [](Random& random, size_t, size_t) { return 1e-30f * Uniform(random); }},
    {"Denormal", [](Random& random, size_t, size_t) { return 1e-44f * Uniform(random); }},
    {"OfEveryMagnitude",
     [](Random& random, size_t, size_t) {
       return std::ldexp(Uniform(random), static_cast<int>(Below(random, 250)) - 125);
     }},
};

class TrainingShapeTest : public testing::TestWithParam<Shape> {
 protected:
  static std::vector<float> Sample(size_t rows, size_t dimensions) {
    Random random(36);
    std::vector<float> sample;
    for (size_t i = 0; i < rows; ++i)
      for (size_t j = 0; j < dimensions; ++j) sample.push_back(GetParam().value(random, i, j));
    return sample;
  }
};

TEST_P(TrainingShapeTest, AsManyListsAsAskedForOrRows) {
  for (uint32_t rows : {1u, 2u, 64u, 200u, 1000u}) {
    for (uint32_t lists : {1u, 10u, 64u, 65u, 150u, 1000u}) {
      Routing routing;
      ASSERT_OK(Train(Options(4, lists), Sample(rows, 4), &routing)) << rows << " rows, " << lists << " lists";
      ExpectSound(routing, 4, std::min(rows, lists));
      if (HasFailure()) FAIL() << rows << " rows, " << lists << " lists";
    }
  }
}

TEST_P(TrainingShapeTest, RowsCanBeAssigned) {
  Routing routing;
  ASSERT_OK(Train(Options(4, 80), Sample(1000, 4), &routing));
  std::vector<float> rows = Sample(1000, 4);
  std::vector<uint32_t> lists(1000);
  Assigner assigner(&routing);
  ASSERT_GE(assigner.batch_rows(), 1000u);
  assigner.Assign(rows.data(), 1000, lists.data());
  for (uint32_t list : lists) ASSERT_LT(list, 80u);
}

std::string NameOf(const testing::TestParamInfo<Shape>& info) { return info.param.name; }

INSTANTIATE_TEST_SUITE_P(Shapes, TrainingShapeTest, testing::ValuesIn(kShapes), NameOf);

TEST(Training, WidestRows) {
  Random random(37);
  Routing routing;
  ASSERT_OK(Train(Options(kMaxDimensions, 3), UniformVector(random, size_t{20} * kMaxDimensions), &routing));
  ExpectSound(routing, kMaxDimensions, 3);
}

TEST(Training, TwoLevelsFrom64Lists) {
  Random random(38);
  Routing routing;
  ASSERT_OK(Train(Options(8, 63), UniformVector(random, 8 * 1000), &routing));
  EXPECT_EQ(routing.group_count(), 1u);
  ASSERT_OK(Train(Options(8, 64), UniformVector(random, 8 * 1000), &routing));
  EXPECT_EQ(routing.group_count(), 8u);
}

TEST(Training, MetricIsKept) {
  Random random(39);
  TrainingOptions options = Options(3, 2);
  options.metric = Metric::kInnerProduct;
  Routing routing;
  ASSERT_OK(Train(options, UniformVector(random, 30), &routing));
  EXPECT_EQ(routing.metric, Metric::kInnerProduct);
}

// Every row passes by as often as was said, in as many passes as the number of lists takes.
TEST(Training, CountsRowsOfAllPasses) {
  Random random(40);
  // With and without groups; refined in two more passes, or too many centroids for that.
  const std::tuple<uint32_t, uint32_t, uint32_t, uint32_t> cases[] = {
      {8, 1000, 100, 5}, {8, 1000, 63, 3}, {6000, 60, 60, 3}, {6000, 400, 400, 3}};
  for (const auto& [dimensions, rows, lists, passes] : cases) {
    TrainingRun run(Options(dimensions, lists), UniformVector(random, size_t{dimensions} * rows));
    Trainer& trainer = run.trainer();
    EXPECT_EQ(trainer.rows_total(), uint64_t{rows} * passes);
    EXPECT_EQ(trainer.refines(), passes == 5 || lists < 64);
    uint64_t before = 0;
    for (bool done = false; !done;) {
      ASSERT_OK(run.Step(&done));
      EXPECT_GT(trainer.rows_done(), before);
      before = trainer.rows_done();
    }
    EXPECT_EQ(before, trainer.rows_total());
  }
}

TEST(Training, LargeSamplesAreNotRefined) {
  for (uint64_t rows : {30000u, 40000u}) {
    SampleSummary summary(64);
    summary.rows = rows;
    EXPECT_EQ(Trainer(Options(64, 8200), summary).refines(), rows == 30000) << rows;
  }
}

// -- memory

// With little memory the sample's rows are worked on in many parts, and lists get fewer of them.
TEST(Training, LittleMemory) {
  Random random(51);
  const size_t d = 32;
  const uint32_t lists = 100;
  const std::vector<float> sample = UniformVector(random, d * 12000);
  uint64_t rows_used = 0;
  for (size_t rows_at_a_time : {100u, 400u, 1000u, 100000u}) {
    TrainingOptions options = Options(d, lists);
    options.memory_bytes = rows_at_a_time * (d * sizeof(float) + 24);
    TrainingRun run(options, sample);
    for (bool done = false; !done;) ASSERT_OK(run.Step(&done));
    Trainer& trainer = run.trainer();
    EXPECT_GT(trainer.rows_used(), rows_used) << rows_at_a_time;
    rows_used = trainer.rows_used();
    if (rows_at_a_time == 100) {
      EXPECT_LT(trainer.fewest_rows_per_list(), kEnoughRowsPerList);
      EXPECT_GT(trainer.enough_memory_bytes(), options.memory_bytes);
      // What it says is enough is.
      options.memory_bytes = trainer.enough_memory_bytes();
      TrainingRun again(options, sample);
      for (bool done = false; !done;) ASSERT_OK(again.Step(&done));
      EXPECT_GE(again.trainer().rows_used(), lists * kEnoughRowsPerList);
      EXPECT_EQ(again.trainer().enough_memory_bytes(), 0u);
    }
    if (rows_at_a_time == 100000) {
      EXPECT_EQ(rows_used, 12000u);
      EXPECT_EQ(trainer.enough_memory_bytes(), 0u);
    }
    ExpectSound(trainer.TakeRouting(), d, lists);
  }
}

// No memory makes up for rows that the table does not have.
TEST(Training, FewRowsAreNoWantOfMemory) {
  Random random(52);
  for (uint32_t lists : {50u, 500u}) {
    TrainingRun run(Options(4, lists), UniformVector(random, size_t{4} * 5 * lists));
    for (bool done = false; !done;) ASSERT_OK(run.Step(&done));
    EXPECT_LE(run.trainer().rows_used(), 5 * lists);
    EXPECT_EQ(run.trainer().enough_memory_bytes(), 0u);
  }
}

// More rows than lists can use are left out evenly: a sample in the order of its clusters still gives each its list.
TEST(Training, RowsAreLeftOutEvenly) {
  const uint32_t lists = 4;
  std::vector<float> sample;
  for (uint32_t cluster = 0; cluster < lists; ++cluster)
    for (int i = 0; i < 2000; ++i) sample.push_back(static_cast<float>(100 * cluster));
  TrainingRun run(Options(1, lists), sample);
  for (bool done = false; !done;) ASSERT_OK(run.Step(&done));
  EXPECT_EQ(run.trainer().rows_used(), lists * kMostRowsPerCentroid);
  const Routing routing = run.trainer().TakeRouting();
  std::vector<float> found;
  for (float centroid : routing.centroids) found.push_back(centroid + routing.mean[0]);
  std::sort(found.begin(), found.end());
  EXPECT_EQ(found, (std::vector<float>{0, 100, 200, 300}));
}

TEST(Training, SummaryOfASample) {
  SampleSummary summary(2);
  for (const std::vector<float>& row : {std::vector<float>{1, -5}, {3, -7}, {-2, -6}}) summary.Add(row.data());
  EXPECT_EQ(summary.rows, 3u);
  EXPECT_EQ(summary.sums, (std::vector<double>{2, -18}));
  EXPECT_EQ(summary.least, (std::vector<float>{-2, -7}));
  EXPECT_EQ(summary.greatest, (std::vector<float>{3, -5}));
}

TEST(Training, SameSampleSameRouting) {
  Random random(41);
  const std::vector<float> sample = UniformVector(random, 128 * 8000);
  for (uint32_t lists : {63u, 200u}) {
    for (int threads : {1, 2}) {
      Routing first;
      Routing second;
      ASSERT_OK(Train(Options(128, lists, threads), sample, &first));
      ASSERT_OK(Train(Options(128, lists, threads), sample, &second));
      EXPECT_TRUE(first.Encode() == second.Encode()) << lists << " lists, " << threads << " threads";
    }
  }
}

// Two clusters at +s and -s (around an offset) must be told apart whatever s is.
TEST(Training, ClustersAreFoundAtEveryScale) {
  Random random(42);
  for (float scale : {1e-40f, 1e-30f, 1e-15f, 1.0f, 1e15f, 1e18f, 1e30f, 1e38f}) {
    std::vector<float> sample;
    for (int i = 0; i < 400; ++i)
      for (int j = 0; j < 5; ++j) sample.push_back((i % 2 == 0 ? scale : -scale) * (1 + 0.1f * Uniform(random)));
    Routing routing;
    ASSERT_OK(Train(Options(5, 2), sample, &routing));
    ASSERT_EQ(routing.list_count(), 2u);
    for (size_t j = 0; j < 5; ++j) {
      const double one = double{routing.centroids[j]} + routing.mean[j];
      const double other = double{routing.centroids[5 + j]} + routing.mean[j];
      EXPECT_NEAR(std::abs(one), scale, 0.05 * scale);
      EXPECT_NEAR(one, -other, 0.05 * scale);
    }
  }
}

// Far from the origin the squares of float32 hide what lies between rows; centroids are relative to the mean.
TEST(Training, ClustersAreFoundFarFromTheOrigin) {
  Random random(49);
  std::vector<float> sample;
  for (int i = 0; i < 400; ++i)
    for (int j = 0; j < 5; ++j) sample.push_back(10000 + (i % 2 == 0 ? 1 : -1) + 0.1f * Uniform(random));
  Routing routing;
  ASSERT_OK(Train(Options(5, 2), sample, &routing));
  for (size_t j = 0; j < 5; ++j) {
    EXPECT_NEAR(routing.mean[j], 10000, 0.02);
    EXPECT_NEAR(std::abs(routing.centroids[j]), 1, 0.02);
    EXPECT_NEAR(routing.centroids[j], -routing.centroids[5 + j], 0.02);
  }
}

// Lists are numbered so that neighbours in space are neighbours in the segment.
TEST(Training, NeighbouringListsAreNear) {
  Random random(43);
  for (uint32_t lists : {60u, 400u}) {
    Routing routing;
    ASSERT_OK(Train(Options(2, lists), UniformVector(random, 2 * 8000), &routing));
    std::vector<size_t> order(lists);
    for (size_t i = 0; i < lists; ++i) order[i] = i;
    const auto length = [&] {
      double sum = 0;
      for (size_t i = 1; i < lists; ++i)
        sum += std::hypot(routing.centroids[2 * order[i]] - routing.centroids[2 * order[i - 1]],
                          routing.centroids[2 * order[i] + 1] - routing.centroids[2 * order[i - 1] + 1]);
      return sum;
    };
    const double in_layout = length();
    std::shuffle(order.begin(), order.end(), random);
    EXPECT_LT(in_layout, 0.5 * length()) << lists;
  }
}

// Clusters far apart, queries near rows: a few probes must hold nearly all true neighbours.
TEST(Training, FewProbesFindTheNeighbours) {
  Random random(44);
  const size_t d = 16;
  const size_t n = 8000;
  const std::vector<float> centres = UniformVector(random, 100 * d);
  const auto draw = [&](std::vector<float>* rows, size_t count) {
    for (size_t i = 0; i < count; ++i) {
      const size_t cluster = Below(random, 100);
      for (size_t j = 0; j < d; ++j)
        rows->push_back(50 + 10 * centres[cluster * d + j] + Uniform(random) + Uniform(random) + Uniform(random));
    }
  };
  std::vector<float> rows;
  std::vector<float> queries;
  draw(&rows, n);
  draw(&queries, 100);
  for (uint32_t lists : {50u, 120u}) {
    Routing routing;
    ASSERT_OK(Train(Options(d, lists), rows, &routing));
    std::vector<uint32_t> list_of(n);
    Assigner assigner(&routing);
    std::vector<float> copy = rows;
    for (size_t i = 0; i < n; i += 500) assigner.Assign(&copy[i * d], 500, &list_of[i]);
    size_t found = 0;
    for (size_t q = 0; q < 100; ++q) {
      std::vector<std::pair<double, size_t>> neighbours;
      for (size_t i = 0; i < n; ++i) {
        double distance = 0;
        for (size_t j = 0; j < d; ++j) distance += std::pow(double{rows[i * d + j]} - queries[q * d + j], 2);
        neighbours.push_back({distance, i});
      }
      std::partial_sort(neighbours.begin(), neighbours.begin() + 10, neighbours.end());
      std::vector<RankedList> probes;
      ListRanker(&routing, &queries[q * d], {ProbeRule(), 4, kAnyStop}).Rank(ProbeRule(), &probes);
      for (size_t k = 0; k < 10; ++k)
        found += std::count_if(probes.begin(), probes.end(), [&](const RankedList& probe) {
                   return probe.list == list_of[neighbours[k].second];
                 }) > 0;
    }
    EXPECT_GT(static_cast<double>(found) / 1000, 0.97) << lists;
  }
}

// -- interrupts, threads, signals

// The interrupt callback of these tests: a plain function, as the core asks for.
std::function<bool()> on_interrupt_check;
bool CheckInterrupt() { return on_interrupt_check(); }

std::set<std::string> Tasks() {
  std::set<std::string> tasks;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/task"))
    tasks.insert(entry.path().filename());
  return tasks;
}

// The signals a thread blocks, as a bit mask from signal 1.
uint64_t BlockedBy(const std::string& task) {
  std::ifstream status("/proc/self/task/" + task + "/status");
  for (std::string word; status >> word;)
    if (word == "SigBlk:") {
      status >> word;
      return std::stoull(word, nullptr, 16);
    }
  return ~uint64_t{0};  // it has ended
}

volatile sig_atomic_t signals_handled = 0;
void HandleSignal(int) { signals_handled = signals_handled + 1; }

// With 63 lists the threads are Faiss's, in one k-means; with 100 each trains groups of its own.
class TrainingThreadsTest : public testing::TestWithParam<uint32_t> {
 protected:
  void SetUp() override {
    signals_handled = 0;
    old_handler_ = signal(SIGUSR1, HandleSignal);
  }
  void TearDown() override {
    signal(SIGUSR1, old_handler_);
    on_interrupt_check = nullptr;
  }

  // So much work that it is worth two threads; about to train lists.
  static TrainingRun TwoThreads() {
    Random random(45);
    TrainingOptions options = Options(128, GetParam(), 2);
    options.interrupted = CheckInterrupt;
    TrainingRun run(options, UniformVector(random, 128 * 8000));
    const auto ask = std::exchange(on_interrupt_check, [] { return false; });
    for (bool done = false; run.trainer().pass() != Trainer::Pass::kLists;) EXPECT_OK(run.Step(&done));
    on_interrupt_check = ask;
    return run;
  }

  void (*old_handler_)(int) = nullptr;
};

TEST_P(TrainingThreadsTest, ThreadsLiveOnlyWithinAStep) {
  size_t most = 0;
  on_interrupt_check = [&] {
    most = std::max(most, Tasks().size());
    return false;
  };
  TrainingRun run = TwoThreads();
  for (bool done = false; !done;) {
    ASSERT_OK(run.Step(&done));
    EXPECT_EQ(Tasks().size(), 1u);
    EXPECT_EQ(omp_get_max_threads(), 1);
  }
  EXPECT_GT(most, 1u) << "there was nothing to see";
}

TEST_P(TrainingThreadsTest, ThreadsBlockEverySignal) {
  const std::set<std::string> before = Tasks();
  size_t seen = 0;
  on_interrupt_check = [&] {
    for (const std::string& task : Tasks()) {
      if (before.contains(task)) continue;
      ++seen;
      const uint64_t blocked = BlockedBy(task);
      for (int signal : {SIGHUP, SIGINT, SIGQUIT, SIGUSR1, SIGUSR2, SIGALRM, SIGTERM, SIGCHLD, SIGURG, SIGIO})
        EXPECT_TRUE(blocked >> (signal - 1) & 1) << signal;
    }
    return seen > 20;
  };
  TrainingRun run = TwoThreads();
  bool done = false;
  while (!done && run.Step(&done).ok()) continue;
  EXPECT_GT(seen, 0u);
}

TEST_P(TrainingThreadsTest, SignalMaskIsRestored) {
  sigset_t mine;
  sigset_t original;
  sigemptyset(&mine);
  sigaddset(&mine, SIGUSR2);
  pthread_sigmask(SIG_SETMASK, &mine, &original);
  sigset_t before;
  pthread_sigmask(SIG_SETMASK, nullptr, &before);
  for (int cancel_after : {1000000, 1}) {
    int left = cancel_after;
    on_interrupt_check = [&left] { return --left < 0; };
    TrainingRun run = TwoThreads();
    bool done = false;
    const Status status = run.Step(&done);
    EXPECT_EQ(status.code(), cancel_after == 1 ? StatusCode::kCancelled : StatusCode::kOk);
    sigset_t after;
    pthread_sigmask(SIG_SETMASK, nullptr, &after);
    for (int signal = 1; signal < 32; ++signal)
      EXPECT_EQ(sigismember(&after, signal), sigismember(&before, signal)) << signal;
  }
  pthread_sigmask(SIG_SETMASK, &original, nullptr);
}

// A backend's handlers set the flags that the callback looks at, so they must run before it is asked.
TEST_P(TrainingThreadsTest, HandlersRunBetweenChecks) {
  int checks = 0;
  std::vector<int> handled;
  on_interrupt_check = [&] {
    handled.push_back(int{signals_handled});
    if (++checks == 2) raise(SIGUSR1);
    return checks >= 5;
  };
  TrainingRun run = TwoThreads();
  bool done = false;
  while (!done && run.Step(&done).ok()) continue;
  ASSERT_GE(handled.size(), 5u);
  handled.resize(5);
  EXPECT_EQ(handled, (std::vector<int>{0, 0, 1, 1, 1}));
}

TEST_P(TrainingThreadsTest, Cancel) {
  int left = 1;
  on_interrupt_check = [&] { return --left < 0; };
  TrainingRun run = TwoThreads();
  bool done = false;
  EXPECT_TRUE(Fails(run.Step(&done), StatusCode::kCancelled, {"cancelled"}));
  EXPECT_FALSE(done);
  EXPECT_EQ(Tasks().size(), 1u);
}

TEST_P(TrainingThreadsTest, CancelInALaterStep) {
  bool now = false;
  on_interrupt_check = [&] { return now; };
  Random random(46);
  TrainingOptions options = Options(16, GetParam());
  options.interrupted = CheckInterrupt;
  TrainingRun run(options, UniformVector(random, 16 * 2000));
  bool done = false;
  ASSERT_OK(run.Step(&done));
  ASSERT_OK(run.Step(&done));
  now = true;
  EXPECT_TRUE(Fails(run.Step(&done), StatusCode::kCancelled));
  EXPECT_EQ(Tasks().size(), 1u);
}

// A cancel must not wait. In processor time, for this machine may have other things to do.
TEST_P(TrainingThreadsTest, ChecksComeOften) {
  std::clock_t last = std::clock();
  std::clock_t longest = 0;
  on_interrupt_check = [&] {
    longest = std::max(longest, std::clock() - last);
    last = std::clock();
    return false;
  };
  Random random(47);
  TrainingOptions options = Options(256, GetParam());
  options.interrupted = CheckInterrupt;
  TrainingRun run(options, UniformVector(random, 256 * 20000));
  for (bool done = false; !done;) ASSERT_OK(run.Step(&done));
  // Some 20 ms are meant; sanitizers get more.
  EXPECT_LT(static_cast<double>(longest) / CLOCKS_PER_SEC, 0.5);
}

INSTANTIATE_TEST_SUITE_P(Lists, TrainingThreadsTest, testing::Values(63, 100));

}  // namespace
}  // namespace ivfremote

// amcostestimate. An index without pages (a hypothetical one) is estimated from the table alone.
#include <algorithm>
#include <cmath>

#include "core/code.h"
#include "core/training.h"
#include "pg/access_method.h"
#include "pg/page.h"
#include "pg/probes.h"
#include "pg/scan_lists.h"
#include "pg/server.h"
#include "pg/settings.h"

extern "C" {
#include "nodes/pathnodes.h"
#include "optimizer/cost.h"
#include "optimizer/optimizer.h"
#include "utils/float.h"
#include "utils/selfuncs.h"
}

namespace ivfremote {
namespace {

// A cost unit is about 0.01 ms.
constexpr double kCostPerMs = 100;
constexpr double kTypicalDimensions = 768;
// Rows of the table read for their exact distances before the first is returned.
constexpr double kRerankedRows = 20;

// What the planner needs of an index.
struct IndexFigures {
  double lists = 0;  // 0: untrained
  double probes = 0;  // of the first wave
  double dimensions = 0;
  double bits = 32;  // of a dimension of a stored row
  bool coded = false;
  double segment_rows = 0;
  double pending_pages = 0;
  double table_pages = 0;
  double operator_cost = 0;  // of a row, to a sequential scan
  double request_latency_ms = 0;
};

IndexFigures Hypothetical(double rows) {
  IndexFigures figures;
  figures.segment_rows = rows;
  figures.dimensions = kTypicalDimensions;
  figures.coded = true;
  figures.bits = AutomaticBits(static_cast<uint32_t>(kTypicalDimensions));
  CallCore([&] {
    figures.lists = AutomaticLists(rows, static_cast<uint32_t>(kTypicalDimensions));
    return Status::Ok();
  });
  figures.probes = std::min(figures.lists, std::max(8.0, std::round(std::sqrt(figures.lists))));
  return figures;
}

IndexFigures Measured(Oid index_oid) {
  IndexFigures figures;
  Relation index = index_open(index_oid, NoLock);
  auto* meta = static_cast<MetaPage*>(palloc(sizeof(MetaPage)));
  ReadMeta(index, meta);
  figures.dimensions = std::max<double>(meta->dimensions, 1);
  if (meta->code_kind != CodeKind::kFloat32 && meta->trained()) figures.bits = meta->bits;
  figures.coded = meta->format().coded() && meta->trained();
  double local_pages = RelationGetNumberOfBlocks(index);
  const char* server = "";
  for (uint32_t i = 0; i < meta->segment_count; ++i) {
    const SegmentEntry& segment = meta->segments[i];
    figures.segment_rows += static_cast<double>(segment.rows);
    local_pages -= static_cast<double>(segment.data.bytes / kPayloadBytes);
    if (segment.place == SegmentPlace::kObject) server = ServerNameOf(index, *meta);
  }
  local_pages -= static_cast<double>(meta->routing.bytes / kPayloadBytes);
  figures.pending_pages = std::max(local_pages, 1.0);
  if (meta->trained()) {
    figures.lists = meta->list_count;
    figures.probes = ProbeSettingOf(index, *meta).lists;
  }
  if (server[0] != '\0') figures.request_latency_ms = ServerRequestLatencyMs(server);
  pfree(meta);
  index_close(index, NoLock);
  return figures;
}

bool IsHypothetical(const IndexOptInfo* index) {
#ifdef IVFREMOTE_TEST_FAULTS
  if (settings.test_hypothetical) return true;
#endif
  return index->hypothetical;
}

double ShareProbed(const IndexFigures& figures) {
  return figures.lists == 0 ? 1 : std::min(1.0, figures.probes / figures.lists);
}

// The same of a scan that goes on to its end.
double MostProbed(const IndexFigures& figures) {
  const double share = ShareProbed(figures);
  if (figures.lists == 0 || settings.iterative_scan == static_cast<int>(IterativeScan::kOff)) return share;
  const double most = settings.max_probes < 0 ? static_cast<double>(kDefaultMaxWaves) * figures.probes : settings.max_probes;
  return std::clamp(most / figures.lists, share, 1.0);
}

// The cost of the search itself, paid before the first row, where that share of the lists is read.
Cost SearchCost(const IndexFigures& figures, double share) {
  // Some 30 dimensions of floats are scored in the time of one operator call, and codes by their bytes. But pgvector's operators cost 1 at
  // any dimensions, and a sequential scan does no less for a row than we do.
  const double vector_cost = std::min(cpu_operator_cost * (1 + figures.dimensions / 30), figures.operator_cost);
  const double row_cost = vector_cost * figures.bits / 32;
  const double row_pages = figures.dimensions * figures.bits / 8 / BLCKSZ;
  const double rows = figures.segment_rows * share;
  const double reranked = figures.coded ? std::min(rows, kRerankedRows) : 0;
  // Vectors out of line are free for a sequential scan, which counts the table's own pages: for us they can't cost more.
  const double reranked_pages = std::min(reranked, figures.table_pages);
  const double pending_pages = std::min(figures.pending_pages * share, figures.table_pages);
  return figures.lists * vector_cost + rows * (row_cost + row_pages * seq_page_cost / 4) + reranked * vector_cost +
         reranked_pages * random_page_cost + pending_pages * seq_page_cost + figures.request_latency_ms * kCostPerMs;
}

}  // namespace

void AmCostEstimate(PlannerInfo* root, IndexPath* path, double loop_count, Cost* startup, Cost* total,
                    Selectivity* selectivity, double* correlation, double* pages) {
  IndexOptInfo* index = path->indexinfo;
  if (path->indexorderbys == NIL || !settings.enable_scan) {
    // Never without ORDER BY: a scan returns what it finds near a query, not every row.
    *startup = *total = get_float8_infinity();
    *selectivity = 0;
    *correlation = 0;
    *pages = 0;
#if PG_VERSION_NUM >= 180000
    path->path.disabled_nodes = 2;
#endif
    return;
  }
  GenericCosts costs;
  MemSet(&costs, 0, sizeof costs);
  genericcostestimate(root, path, loop_count, &costs);
  IndexFigures figures = IsHypothetical(index) ? Hypothetical(index->tuples) : Measured(index->indexoid);
  figures.table_pages = index->rel->pages;
  QualCost operator_cost;
  cost_qual_eval_node(&operator_cost, static_cast<Node*>(linitial(path->indexorderbys)), root);
  figures.operator_cost = operator_cost.per_tuple;

  const double first = ShareProbed(figures);
  *startup = SearchCost(figures, first);
  // The scan ends with the lists it may read. A LIMIT takes its part of them; a filter, more.
  const double share = MostProbed(figures);
  *total = *startup + costs.numIndexTuples * share * cpu_index_tuple_cost;
  if (share > first)
    *total += SearchCost(figures, share) - *startup + std::log2(share / first) * figures.request_latency_ms * kCostPerMs;
  // So whoever wants all rows in order gets them from a sequential scan.
  if (root->tuple_fraction <= 0) *total += disable_cost;
  *selectivity = costs.indexSelectivity * share;
  *correlation = 0;
  *pages = costs.numIndexPages;
}

}  // namespace ivfremote

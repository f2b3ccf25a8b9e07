// How many lists a scan probes, from the settings, the index's options and its recall curve.
#pragma once

#include "core/recall_curve.h"
#include "pg/page.h"
#include "pg/postgres_c.h"

namespace ivfremote {

// Plain data.
struct ProbeSetting {
  ProbeRule rule;
  float stop;         // lists with stop values up to here are probed, the best one in any case
  uint32_t max_lists;
  double lists;       // expected of a query
  double recall;      // wanted; 0: a number of lists was set instead, or nothing is known
};

// What is asked for: a number of lists, or a recall where that is 0. The first that is set: ivfremote.probes,
// ivfremote.recall_target, the index's probes, its recall_target, then recall 0.95.
struct ProbeWish {
  int probes;
  double recall;
};
ProbeWish ProbeWishOf(Relation index);

// What it takes for the nearest `rows` rows; for a recall without a curve max(8, round(sqrt(lists))). A number of lists, and
// that, are for recall_k rows: for more they grow as the curve's lists do, or the square root of rows. `curve` may be null.
// More lists than there are: all.
ProbeSetting ProbeSettingOf(Relation index, uint32_t list_count, const RecallCurve* curve, double rows);

// The same for the recall_k rows of a trained index whose curve is looked up.
ProbeSetting ProbeSettingOf(Relation index, const MetaPage& meta);

// Standard errors between a row's estimate and its bound: ivfremote.epsilon, or the default for codes of that width.
double EpsilonOf(uint32_t bits);
constexpr double DefaultEpsilon(uint32_t bits) { return bits == 1 ? 1.9 : 2.5; }

}  // namespace ivfremote

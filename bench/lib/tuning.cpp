#include "lib/tuning.h"

#include <algorithm>
#include <cstdio>
#include <stdexcept>

#include "lib/command.h"
#include "lib/figures.h"

namespace ivfremote::bench {
namespace {

constexpr int kMostProbes = 16384;  // more lists than any set of data here has

}  // namespace

Tuned SmallestSetting(const std::string& name, int first, int last, double goal,
                      const std::function<double(int)>& recall_of) {
  int below = first - 1;
  Tuned best{first, recall_of(first)};
  while (best.recall < goal) {
    below = best.setting;
    if (below == last) {
      std::printf("*** %s reaches recall %.4f only, not %.4f ***\n", name.c_str(), best.recall, goal);
      return best;
    }
    best.setting = std::min(below > last / 2 ? last : std::max(2 * below, 1), last);
    best.recall = recall_of(best.setting);
  }
  while (best.setting - below > 1) {
    const int middle = below + (best.setting - below) / 2;
    const double recall = recall_of(middle);
    if (recall >= goal)
      best = {middle, recall};
    else
      below = middle;
  }
  return best;
}

std::string Knob::Sql(int setting) const { return "SET " + parameter + Format(" = %g", setting * unit); }

Knob OurKnob(Connection* connection) {
  connection->Query("LOAD 'ivfremote'");
  std::string name = Environment("TUNE", "");
  if (name.empty())
    name = connection->Query("SELECT 1 FROM pg_settings WHERE name = 'ivfremote.recall_target'").empty()
               ? "probes"
               : "recall_target";
  if (name == "probes") return {"ivfremote.probes", 1, kMostProbes, 1};
  if (name == "recall_target") return {"ivfremote.recall_target", 500, 999, 0.001};
  throw std::runtime_error("TUNE is recall_target or probes, not \"" + name + "\"");
}

}  // namespace ivfremote::bench

#include "lib/tuning.h"

#include <algorithm>
#include <stdexcept>

#include "lib/command.h"
#include "lib/figures.h"

namespace ivfremote::bench {

Tuned SmallestSetting(const std::string& name, int first, int last, double goal,
                      const std::function<double(int)>& recall_of) {
  int below = first - 1;
  Tuned best{first, recall_of(first)};
  while (best.recall < goal) {
    below = best.setting;
    if (below == last)
      throw std::runtime_error(Format("%s: recall %.4f at the largest setting, %d, not %.2f", name.c_str(), best.recall,
                                      last, goal));
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
  if (name == "probes") return {"ivfremote.probes", 1, static_cast<int>(kMaxLists), 1};
  if (name == "recall_target") return {"ivfremote.recall_target", 500, 999, 0.001};
  throw std::runtime_error("TUNE is recall_target or probes, not \"" + name + "\"");
}

}  // namespace ivfremote::bench

// The smallest setting that reaches a recall: what each side of a comparison runs at.
#pragma once

#include <functional>
#include <string>

#include "lib/postgres.h"

namespace ivfremote::bench {

struct Tuned {
  int setting;
  double recall;
};

// Of first .. last, by doubling and then bisection; recall is taken to grow with the setting. Says so if none
// reaches it, and returns the last.
Tuned SmallestSetting(const std::string& name, int first, int last, double goal,
                      const std::function<double(int)>& recall_of);

// A setting of the session that trades time for recall.
struct Knob {
  std::string parameter;
  int first;
  int last;
  double unit;  // what 1 is to the parameter

  std::string Sql(int setting) const;
};

// ivfremote.recall_target in thousandths if there is such, else ivfremote.probes; TUNE of the environment ("recall_target" or
// "probes") chooses.
Knob OurKnob(Connection* connection);

}  // namespace ivfremote::bench

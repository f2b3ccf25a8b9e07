// Takes a training through its passes over a sample in memory.
#pragma once

#include <algorithm>
#include <utility>
#include <vector>

#include "core/training.h"

namespace ivfremote {

class TrainingRun {
 public:
  TrainingRun(const TrainingOptions& options, std::vector<float> sample)
      : d_(options.dimensions), sample_(std::move(sample)), trainer_(options, Summary()) {}

  // To the end of the next Step, and over the border of a pass if it was the pass's last.
  Status Step(bool* done) {
    const Trainer::Pass pass = trainer_.pass();
    const size_t rows = sample_.size() / d_;
    while (next_ < rows && !trainer_.full()) AddNext();
    IVFREMOTE_RETURN_IF_ERROR(trainer_.Step());
    if (pass == Trainer::Pass::kSharing)
      for (size_t i = 0; i < trainer_.groups().size(); ++i)
        members_.push_back({trainer_.groups()[i], {trainer_.row(i), trainer_.row(i) + d_}});
    if (next_ == rows) {
      trainer_.EndPass();
      next_ = 0;
      if (pass == Trainer::Pass::kSharing)
        std::stable_sort(members_.begin(), members_.end(),
                         [](const auto& a, const auto& b) { return a.first < b.first; });
    }
    *done = trainer_.pass() == Trainer::Pass::kDone;
    return Status::Ok();
  }

  Trainer& trainer() { return trainer_; }

 private:
  SampleSummary Summary() const {
    SampleSummary summary(d_);
    for (size_t i = 0; i < sample_.size(); i += d_) summary.Add(&sample_[i]);
    return summary;
  }

  void AddNext() {
    const size_t number = next_++;
    if (trainer_.pass() == Trainer::Pass::kLists && trainer_.grouped())
      trainer_.AddMember(members_[number].first, members_[number].second.data());
    else
      trainer_.Add(&sample_[number * d_]);
  }

  uint32_t d_;
  std::vector<float> sample_;
  Trainer trainer_;
  std::vector<std::pair<uint32_t, std::vector<float>>> members_;
  size_t next_ = 0;
};

// From the first step to the last.
inline Status Train(const TrainingOptions& options, std::vector<float> sample, Routing* routing) {
  TrainingRun run(options, std::move(sample));
  for (bool done = false; !done;) IVFREMOTE_RETURN_IF_ERROR(run.Step(&done));
  *routing = run.trainer().TakeRouting();
  return Status::Ok();
}

}  // namespace ivfremote

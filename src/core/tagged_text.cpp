#include "core/tagged_text.h"

namespace ivfremote {
namespace {

class TextReading : public Operation {
 public:
  TextReading(TaggedObject* object, std::unique_ptr<Operation> read) : object_(object), read_(std::move(read)) {}

  Status Step(Clock::time_point deadline, bool* done) override {
    Status status = read_->Step(deadline, done);
    if (status.code() != StatusCode::kNotFound) return status;
    *object_ = {};
    *done = true;
    return Status::Ok();
  }

 private:
  TaggedObject* object_;
  std::unique_ptr<Operation> read_;
};

class TextReplacement : public Operation {
 public:
  TextReplacement(ObjectStore* store, std::string key, std::string text, bool* replaced)
      : store_(store), key_(std::move(key)), text_(std::move(text)), replaced_(replaced) {}

  Status Start(std::string tag) { return store_->WriteTagged(key_, text_, std::move(tag), &step_); }

  Status Step(Clock::time_point deadline, bool* done) override {
    bool ended = false;
    const Status status = step_->Step(deadline, &ended);
    if (!reading_ && status.code() == StatusCode::kPrecondition) {
      reading_ = true;
      return ReadText(store_, key_, text_.size(), &found_, &step_);
    }
    // One that is longer than ours is another.
    if (reading_ && status.code() == StatusCode::kCorrupt) ended = true;
    else IVFREMOTE_RETURN_IF_ERROR(status);
    if (!ended) return Status::Ok();
    *replaced_ = !reading_ || found_.text == text_;
    *done = true;
    return Status::Ok();
  }

 private:
  ObjectStore* store_;
  std::string key_;
  std::string text_;
  bool* replaced_;
  std::unique_ptr<Operation> step_;
  bool reading_ = false;
  TaggedObject found_;
};

}  // namespace

Status ReadText(ObjectStore* store, std::string key, size_t limit, TaggedObject* object,
                std::unique_ptr<Operation>* operation) {
  *object = {};
  std::unique_ptr<Operation> read;
  IVFREMOTE_RETURN_IF_ERROR(store->ReadTagged(std::move(key), limit, object, &read));
  *operation = std::make_unique<TextReading>(object, std::move(read));
  return Status::Ok();
}

Status ReplaceText(ObjectStore* store, std::string key, std::string text, std::string tag, bool* replaced,
                   std::unique_ptr<Operation>* operation) {
  auto replacement = std::make_unique<TextReplacement>(store, std::move(key), std::move(text), replaced);
  IVFREMOTE_RETURN_IF_ERROR(replacement->Start(std::move(tag)));
  *operation = std::move(replacement);
  return Status::Ok();
}

}  // namespace ivfremote

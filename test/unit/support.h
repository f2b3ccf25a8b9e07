// What several unit tests share: how a Status is expected, the verbs of a store, and random data that is the same in
// every run.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <initializer_list>
#include <memory>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "core/little_endian.h"
#include "core/object_store.h"
#include "core/routing.h"
#include "core/status.h"
#include "core/types.h"

namespace ivfremote {

// gtest prints values with these.
inline void PrintTo(StatusCode code, std::ostream* out) { *out << "status code " << static_cast<int>(code); }
inline void PrintTo(const Status& status, std::ostream* out) {
  PrintTo(status.code(), out);
  *out << " \"" << status.message() << '"';
}
inline void PrintTo(const Tid& tid, std::ostream* out) { *out << '(' << tid.block << ',' << tid.offset << ')'; }

// A row in routing space less a mean, where centroids live.
inline void Centre(Metric metric, const float* row, const float* mean, size_t dimensions, float* out) {
  if (!ToRoutingSpace(metric, row, dimensions, out)) std::fill(out, out + dimensions, 0.0f);
  for (size_t i = 0; i < dimensions; ++i) out[i] -= mean[i];
}

inline testing::AssertionResult Succeeds(const Status& status) {
  if (status.ok()) return testing::AssertionSuccess();
  return testing::AssertionFailure() << testing::PrintToString(status);
}

// Whether a status is `code`, with each of `words` in its message.
inline testing::AssertionResult Fails(const Status& status, StatusCode code,
                                      std::initializer_list<std::string_view> words = {}) {
  if (status.code() != code)
    return testing::AssertionFailure() << testing::PrintToString(status) << ", not " << testing::PrintToString(code);
  for (std::string_view word : words)
    if (status.message().find(word) == std::string::npos)
      return testing::AssertionFailure() << testing::PrintToString(status) << " lacks \"" << word << '"';
  return testing::AssertionSuccess();
}

#define EXPECT_OK(status) EXPECT_TRUE(::ivfremote::Succeeds(status))
#define ASSERT_OK(status) ASSERT_TRUE(::ivfremote::Succeeds(status))

// A deadline that no test reaches, and one that has always passed.
inline Clock::time_point Later() { return Clock::now() + std::chrono::seconds(30); }
inline Clock::time_point Past() { return Clock::now() - std::chrono::seconds(1); }

inline std::string Text(Bytes bytes) { return {reinterpret_cast<const char*>(bytes.data()), bytes.size()}; }
inline Bytes AsBytes(std::string_view text) { return std::as_bytes(std::span(text)); }
// A float32 row as blocks and pending rows take it.
inline const std::byte* RowBytes(const float* row) { return reinterpret_cast<const std::byte*>(row); }

// Overwrites a field of an encoded structure.
template <typename T>
void Poke(std::vector<std::byte>* bytes, size_t at, T value) {
  ASSERT_LE(at + sizeof value, bytes->size());
  Store(bytes->data() + at, value);
}

// -- stores

// Takes an upload through the rest of its life.
inline Status Complete(Upload* upload) {
  for (bool ready = false; !ready;) IVFREMOTE_RETURN_IF_ERROR(upload->Step(Later(), &ready));
  for (bool done = false; !done;) IVFREMOTE_RETURN_IF_ERROR(upload->Finish(Later(), &done));
  return Status::Ok();
}

inline Status Put(ObjectStore* store, std::string_view key, std::string_view text) {
  std::unique_ptr<Upload> upload;
  IVFREMOTE_RETURN_IF_ERROR(store->Create(key, &upload));
  IVFREMOTE_RETURN_IF_ERROR(upload->Append(AsBytes(text)));
  return Complete(upload.get());
}

// Every completion of a wave, in the order they came.
inline Status RunWave(ObjectStore* store, const std::vector<RangeRequest>& requests,
                      std::vector<RangeCompletion>* completions, size_t max_concurrent = 8) {
  std::unique_ptr<RangeWave> wave;
  IVFREMOTE_RETURN_IF_ERROR(store->GetRanges(requests, max_concurrent, &wave));
  while (completions->size() < requests.size()) IVFREMOTE_RETURN_IF_ERROR(wave->Step(Later(), completions));
  return Status::Ok();
}

inline Status Get(ObjectStore* store, std::string_view key, uint64_t offset, uint32_t length, std::string* text) {
  std::vector<RangeCompletion> completions;
  IVFREMOTE_RETURN_IF_ERROR(RunWave(store, {{std::string(key), offset, length}}, &completions));
  IVFREMOTE_RETURN_IF_ERROR(completions[0].status);
  *text = Text(completions[0].buffer.bytes());
  return Status::Ok();
}

// Steps an operation to its end.
inline Status RunOperation(Status started, const std::unique_ptr<Operation>& operation) {
  IVFREMOTE_RETURN_IF_ERROR(started);
  for (bool done = false; !done;)
    IVFREMOTE_RETURN_IF_ERROR(operation->Step(Clock::now() + std::chrono::seconds(1), &done));
  return Status::Ok();
}

inline Status Delete(ObjectStore* store, std::vector<std::string> keys) {
  std::unique_ptr<Operation> operation;
  Status started = store->Delete(std::move(keys), &operation);
  return RunOperation(std::move(started), operation);
}

inline Status ReadTagged(ObjectStore* store, std::string_view key, size_t limit, TaggedObject* object) {
  std::unique_ptr<Operation> operation;
  Status started = store->ReadTagged(std::string(key), limit, object, &operation);
  return RunOperation(std::move(started), operation);
}

inline Status WriteTagged(ObjectStore* store, std::string_view key, std::string_view text, std::string_view tag) {
  std::unique_ptr<Operation> operation;
  Status started = store->WriteTagged(std::string(key), std::string(text), std::string(tag), &operation);
  return RunOperation(std::move(started), operation);
}

inline Status List(ObjectStore* store, std::string_view prefix, std::string_view start_after, size_t limit,
                   std::vector<ObjectInfo>* objects) {
  std::unique_ptr<Operation> operation;
  Status started = store->List(std::string(prefix), std::string(start_after), limit, objects, &operation);
  return RunOperation(std::move(started), operation);
}

inline std::vector<std::string> Keys(ObjectStore* store, std::string_view prefix = "",
                                     std::string_view start_after = "", size_t limit = 1000) {
  std::vector<ObjectInfo> objects;
  EXPECT_OK(List(store, prefix, start_after, limit, &objects));
  std::vector<std::string> keys;
  for (const ObjectInfo& object : objects) keys.push_back(object.key);
  return keys;
}

// -- random data

using Random = std::mt19937_64;

// Below `n`, which is small: the bias of the remainder does not matter.
inline uint64_t Below(Random& random, uint64_t n) { return random() % n; }

// In [-1, 1).
inline float Uniform(Random& random) { return static_cast<float>(static_cast<double>(random() >> 11) * 0x1p-52 - 1.0); }

inline std::vector<float> UniformVector(Random& random, size_t n) {
  std::vector<float> values(n);
  for (float& value : values) value = Uniform(random);
  return values;
}

inline std::string RandomText(Random& random, size_t n) {
  std::string text(n, '\0');
  for (char& c : text) c = static_cast<char>(random());
  return text;
}

}  // namespace ivfremote

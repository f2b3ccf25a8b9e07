// The contract of object_store.h, which every store keeps.
#include "core/object_store.h"

#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <set>

#include "core/fault_store.h"
#include "core/file_store.h"
#include "core/memory_store.h"
#include "core/s3_store.h"
#include "support.h"
#include "temporary_directory.h"

namespace ivfremote {
namespace {

struct StoreKind {
  const char* name;
  std::unique_ptr<ObjectStore> (*make)(const std::string& directory);
};

void PrintTo(const StoreKind& kind, std::ostream* out) { *out << kind.name; }

// A real S3 server, if the environment names one (test/stores/radosgw.sh prints how). Each test has a prefix of its own.
std::unique_ptr<ObjectStore> MakeS3(const char* scheme, const char* host, const char* port_variable, bool virtual_host) {
  static std::atomic<int> count{0};
  const char* port = std::getenv(port_variable);
  if (port == nullptr) return nullptr;
  S3Location location;
  location.bucket = "contract";
  location.prefix = "test-" + std::to_string(getpid()) + "-" + std::to_string(count++);
  location.region = "us-east-1";
  location.endpoint = std::string(scheme) + "://" + host + ":" + port;
  location.virtual_host = virtual_host;
  HttpOptions http;
  http.ca_file = std::getenv("S3_CA_FILE");
  S3Environment environment;
  environment.random = [] { return 0.5; };
  return std::make_unique<S3Store>(
      location, AwsCredentials{std::getenv("AWS_ACCESS_KEY_ID"), std::getenv("AWS_SECRET_ACCESS_KEY"), ""}, http,
      RetryPolicy(), environment);
}

const StoreKind kKinds[] = {
    {"Memory", [](const std::string&) -> std::unique_ptr<ObjectStore> { return std::make_unique<MemoryStore>(); }},
    {"File",
     [](const std::string& directory) -> std::unique_ptr<ObjectStore> {
       return std::make_unique<FileStore>(directory + "/store");
     }},
    {"FaultlessFault",
     [](const std::string&) { return MakeFaultStore(std::make_unique<MemoryStore>(), Fault::kNone); }},
    {"S3Http", [](const std::string&) { return MakeS3("http", "127.0.0.1", "S3_HTTP_PORT", false); }},
    {"S3Https", [](const std::string&) { return MakeS3("https", "127.0.0.1", "S3_HTTPS_PORT", false); }},
    {"S3VirtualHost", [](const std::string&) { return MakeS3("https", "s3.localhost", "S3_HTTPS_PORT", true); }},
};

class ObjectStoreTest : public testing::TestWithParam<StoreKind> {
 protected:
  void SetUp() override {
    if (store_ == nullptr) GTEST_SKIP() << "no S3 server: S3_HTTP_PORT and S3_HTTPS_PORT are not set";
  }

  std::unique_ptr<Upload> Begin(std::string_view key, std::string_view text) {
    std::unique_ptr<Upload> upload;
    EXPECT_OK(store_->Create(key, &upload));
    EXPECT_OK(upload->Append(AsBytes(text)));
    return upload;
  }

  std::string Read(std::string_view key, uint64_t offset, uint32_t length) {
    std::string text;
    EXPECT_OK(Get(store_.get(), key, offset, length, &text));
    return text;
  }

  Status ReadStatus(std::string_view key, uint64_t offset, uint32_t length) {
    std::string text;
    return Get(store_.get(), key, offset, length, &text);
  }

  TemporaryDirectory directory_;
  std::unique_ptr<ObjectStore> store_ = GetParam().make(directory_.path());
};

using Strings = std::vector<std::string>;

// -- writing

TEST_P(ObjectStoreTest, PutThenGet) {
  ASSERT_OK(Put(store_.get(), "a/b/c.seg", "hello"));
  EXPECT_EQ(Read("a/b/c.seg", 0, 5), "hello");
  EXPECT_EQ(Keys(store_.get()), Strings{"a/b/c.seg"});
}

TEST_P(ObjectStoreTest, EmptyObject) {
  ASSERT_OK(Put(store_.get(), "a/empty", ""));
  std::vector<ObjectInfo> objects;
  ASSERT_OK(List(store_.get(), "", "", 10, &objects));
  ASSERT_EQ(objects.size(), 1u);
  EXPECT_EQ(objects[0].size, 0u);
}

TEST_P(ObjectStoreTest, AppendsFollowEachOther) {
  auto upload = Begin("a/b", "one ");
  for (const char* text : {"two ", "", "three"}) {
    bool ready = false;
    while (!ready) ASSERT_OK(upload->Step(Later(), &ready));
    ASSERT_OK(upload->Append(AsBytes(text)));
  }
  ASSERT_OK(Complete(upload.get()));
  EXPECT_EQ(Read("a/b", 0, 13), "one two three");
}

TEST_P(ObjectStoreTest, LargeObject) {
  Random random(22);
  const std::string text = RandomText(random, (5 << 20) + 123);
  ASSERT_OK(Put(store_.get(), "a/large", text));
  EXPECT_TRUE(Read("a/large", 0, static_cast<uint32_t>(text.size())) == text);
  EXPECT_TRUE(Read("a/large", 3 << 20, 1 << 20) == text.substr(3 << 20, 1 << 20));
}

TEST_P(ObjectStoreTest, NothingIsVisibleBeforeFinish) {
  auto upload = Begin("a/b", "hello");
  bool ready = false;
  while (!ready) ASSERT_OK(upload->Step(Later(), &ready));
  EXPECT_TRUE(Fails(ReadStatus("a/b", 0, 5), StatusCode::kNotFound, {"a/b"}));
  EXPECT_EQ(Keys(store_.get()), Strings{});
  ASSERT_OK(Complete(upload.get()));
  EXPECT_EQ(Read("a/b", 0, 5), "hello");
}

TEST_P(ObjectStoreTest, AbortedUploadLeavesNothing) {
  Begin("a/b", "hello").reset();
  EXPECT_TRUE(Fails(ReadStatus("a/b", 0, 5), StatusCode::kNotFound));
  EXPECT_EQ(Keys(store_.get()), Strings{});
  ASSERT_OK(Put(store_.get(), "a/b", "again"));
  EXPECT_EQ(Read("a/b", 0, 5), "again");
}

TEST_P(ObjectStoreTest, DestroyingAFinishedUploadKeepsTheObject) {
  auto upload = Begin("a/b", "hello");
  ASSERT_OK(Complete(upload.get()));
  upload.reset();
  EXPECT_EQ(Read("a/b", 0, 5), "hello");
}

TEST_P(ObjectStoreTest, CreateNeverOverwrites) {
  ASSERT_OK(Put(store_.get(), "a/b", "first"));
  EXPECT_TRUE(Fails(Put(store_.get(), "a/b", "second"), StatusCode::kAlreadyExists, {"a/b"}));
  EXPECT_EQ(Read("a/b", 0, 5), "first");
}

TEST_P(ObjectStoreTest, FirstOfTwoCreatorsWins) {
  auto first = Begin("a/b", "first");
  auto second = Begin("a/b", "other");
  ASSERT_OK(Complete(first.get()));
  EXPECT_TRUE(Fails(Complete(second.get()), StatusCode::kAlreadyExists, {"a/b"}));
  second.reset();
  EXPECT_EQ(Read("a/b", 0, 5), "first");
  EXPECT_EQ(Keys(store_.get()), Strings{"a/b"});
}

TEST_P(ObjectStoreTest, UploadsOfDifferentKeysDoNotMix) {
  auto one = Begin("a/one", "1");
  auto two = Begin("a/two", "2");
  ASSERT_OK(one->Append(AsBytes("11")));
  ASSERT_OK(two->Append(AsBytes("22")));
  ASSERT_OK(Complete(two.get()));
  ASSERT_OK(Complete(one.get()));
  EXPECT_EQ(Read("a/one", 0, 3), "111");
  EXPECT_EQ(Read("a/two", 0, 3), "222");
}

// -- reading

TEST_P(ObjectStoreTest, Ranges) {
  ASSERT_OK(Put(store_.get(), "a/b", "0123456789"));
  EXPECT_EQ(Read("a/b", 0, 10), "0123456789");
  EXPECT_EQ(Read("a/b", 0, 1), "0");
  EXPECT_EQ(Read("a/b", 3, 4), "3456");
  EXPECT_EQ(Read("a/b", 9, 1), "9");
}

TEST_P(ObjectStoreTest, ReadBeyondTheEndNamesKeyAndRange) {
  ASSERT_OK(Put(store_.get(), "a/b", "0123456789"));
  EXPECT_TRUE(Fails(ReadStatus("a/b", 0, 11), StatusCode::kCorrupt, {"\"a/b\"", "0-10", "10 bytes"}));
  EXPECT_TRUE(Fails(ReadStatus("a/b", 9, 2), StatusCode::kCorrupt, {"\"a/b\"", "9-10"}));
  EXPECT_TRUE(Fails(ReadStatus("a/b", 10, 1), StatusCode::kCorrupt, {"10-10"}));
  EXPECT_TRUE(Fails(ReadStatus("a/b", 1000, 10), StatusCode::kCorrupt, {"1000-1009"}));
  EXPECT_TRUE(Fails(ReadStatus("a/b", uint64_t{1} << 62, 10), StatusCode::kCorrupt, {"a/b"}));
  EXPECT_TRUE(Fails(ReadStatus("a/b", uint64_t{1} << 63, 10), StatusCode::kCorrupt, {"a/b"}));
  EXPECT_TRUE(Fails(ReadStatus("a/b", ~uint64_t{0} - 20, 10), StatusCode::kCorrupt, {"a/b"}));
}

TEST_P(ObjectStoreTest, MissingObject) {
  EXPECT_TRUE(Fails(ReadStatus("a/b", 0, 1), StatusCode::kNotFound, {"a/b"}));
  ASSERT_OK(Put(store_.get(), "a/b", "hello"));
  EXPECT_TRUE(Fails(ReadStatus("a/c", 0, 1), StatusCode::kNotFound, {"a/c"}));
  EXPECT_TRUE(Fails(ReadStatus("b/b", 0, 1), StatusCode::kNotFound, {"b/b"}));
}

TEST_P(ObjectStoreTest, BufferHasReadableSlack) {
  ASSERT_OK(Put(store_.get(), "a/b", "0123456789"));
  std::vector<RangeCompletion> completions;
  ASSERT_OK(RunWave(store_.get(), {{"a/b", 0, 10}}, &completions));
  RangeBuffer& buffer = completions[0].buffer;
  EXPECT_EQ(buffer.size(), 10u);
  std::memset(buffer.data() + buffer.size(), 0, RangeBuffer::kSlack);  // the address sanitizer watches
}

// -- waves

TEST_P(ObjectStoreTest, WaveWithoutRequests) {
  std::unique_ptr<RangeWave> wave;
  ASSERT_OK(store_->GetRanges({}, 4, &wave));
  std::vector<RangeCompletion> completions;
  EXPECT_OK(wave->Step(Past(), &completions));
  EXPECT_TRUE(completions.empty());
}

TEST_P(ObjectStoreTest, WaveEndsEachRequestOnce) {
  Random random(23);
  const std::string text = RandomText(random, 10000);
  for (const char* key : {"a/0", "a/1", "b/2"}) ASSERT_OK(Put(store_.get(), key, text));
  std::vector<RangeRequest> requests;
  for (int i = 0; i < 300; ++i) {
    const uint64_t offset = Below(random, text.size());
    const auto length = static_cast<uint32_t>(1 + Below(random, text.size() - offset));
    requests.push_back({std::vector<std::string>{"a/0", "a/1", "b/2"}[Below(random, 3)], offset, length});
  }
  for (size_t max_concurrent : {1, 7, 1000}) {
    std::vector<RangeCompletion> completions;
    ASSERT_OK(RunWave(store_.get(), requests, &completions, max_concurrent));
    std::set<size_t> ended;
    for (const RangeCompletion& completion : completions) {
      ASSERT_OK(completion.status);
      ASSERT_TRUE(ended.insert(completion.request).second) << completion.request << " ended twice";
      const RangeRequest& request = requests[completion.request];
      ASSERT_EQ(Text(completion.buffer.bytes()), text.substr(request.offset, request.length));
      ASSERT_LE(completion.started, completion.finished);
    }
    EXPECT_EQ(ended.size(), requests.size());
  }
}

TEST_P(ObjectStoreTest, OneFailureLeavesTheOthersAlone) {
  ASSERT_OK(Put(store_.get(), "a/b", "0123456789"));
  std::vector<RangeCompletion> completions;
  ASSERT_OK(RunWave(store_.get(), {{"a/b", 0, 3}, {"a/missing", 0, 3}, {"a/b", 5, 100}, {"a/b", 7, 3}}, &completions));
  StatusCode codes[4];
  std::string texts[4];
  for (const RangeCompletion& completion : completions) {
    codes[completion.request] = completion.status.code();
    if (completion.status.ok()) texts[completion.request] = Text(completion.buffer.bytes());
  }
  EXPECT_EQ(codes[0], StatusCode::kOk);
  EXPECT_EQ(codes[1], StatusCode::kNotFound);
  EXPECT_EQ(codes[2], StatusCode::kCorrupt);
  EXPECT_EQ(codes[3], StatusCode::kOk);
  EXPECT_EQ(texts[0], "012");
  EXPECT_EQ(texts[3], "789");
}

TEST_P(ObjectStoreTest, StepsPastTheDeadlineStillGetThere) {
  Random random(24);
  const std::string text = RandomText(random, 5 << 20);
  ASSERT_OK(Put(store_.get(), "a/b", text));
  std::unique_ptr<RangeWave> wave;
  ASSERT_OK(store_->GetRanges({{"a/b", 1, 4 << 20}, {"a/b", 0, 10}}, 2, &wave));
  std::vector<RangeCompletion> completions;
  for (int steps = 0; completions.size() < 2; ++steps) {
    ASSERT_LT(steps, 1000);
    // A store that is elsewhere needs time, which steps into the past do not give it.
    if (steps > 100) usleep(1000);
    ASSERT_OK(wave->Step(Past(), &completions));
  }
  for (const RangeCompletion& completion : completions) {
    ASSERT_OK(completion.status);
    EXPECT_TRUE(Text(completion.buffer.bytes()) ==
                (completion.request == 0 ? text.substr(1, 4 << 20) : text.substr(0, 10)));
  }
}

TEST_P(ObjectStoreTest, StepAppendsToTheCompletions) {
  ASSERT_OK(Put(store_.get(), "a/b", "0123456789"));
  std::vector<RangeCompletion> completions(1);
  completions[0].request = 77;
  std::unique_ptr<RangeWave> wave;
  ASSERT_OK(store_->GetRanges({{"a/b", 0, 3}}, 1, &wave));
  while (completions.size() < 2) ASSERT_OK(wave->Step(Later(), &completions));
  EXPECT_EQ(completions[0].request, 77u);
  EXPECT_EQ(completions[1].request, 0u);
}

TEST_P(ObjectStoreTest, WaveMayBeAbandoned) {
  ASSERT_OK(Put(store_.get(), "a/b", "0123456789"));
  std::unique_ptr<RangeWave> wave;
  ASSERT_OK(store_->GetRanges({{"a/b", 0, 3}, {"a/b", 1, 3}, {"a/b", 2, 3}}, 2, &wave));
  std::vector<RangeCompletion> completions;
  ASSERT_OK(wave->Step(Later(), &completions));
  wave.reset();
  EXPECT_EQ(Read("a/b", 0, 10), "0123456789");
}

// -- tagged objects

TEST_P(ObjectStoreTest, TaggedObjectIsCreatedOnce) {
  EXPECT_TRUE(Fails(WriteTagged(store_.get(), "a/b", "never", "\"0\""), StatusCode::kPrecondition, {"a/b"}));
  ASSERT_OK(WriteTagged(store_.get(), "a/b", "first", ""));
  EXPECT_TRUE(Fails(WriteTagged(store_.get(), "a/b", "second", ""), StatusCode::kPrecondition, {"a/b"}));
  TaggedObject object;
  ASSERT_OK(ReadTagged(store_.get(), "a/b", 5, &object));
  EXPECT_EQ(object.text, "first");
  EXPECT_EQ(Read("a/b", 1, 3), "irs");
  EXPECT_EQ(Keys(store_.get()), Strings{"a/b"});
}

TEST_P(ObjectStoreTest, TaggedObjectIsReplacedByWhoHasReadIt) {
  ASSERT_OK(WriteTagged(store_.get(), "a/b", "first", ""));
  TaggedObject first;
  ASSERT_OK(ReadTagged(store_.get(), "a/b", 100, &first));
  ASSERT_OK(WriteTagged(store_.get(), "a/b", "the second", first.tag));
  EXPECT_TRUE(Fails(WriteTagged(store_.get(), "a/b", "late", first.tag), StatusCode::kPrecondition, {"a/b"}));
  TaggedObject second;
  ASSERT_OK(ReadTagged(store_.get(), "a/b", 100, &second));
  EXPECT_EQ(second.text, "the second");
  EXPECT_NE(second.tag, first.tag);
  ASSERT_OK(Delete(store_.get(), {"a/b"}));
  EXPECT_TRUE(Fails(WriteTagged(store_.get(), "a/b", "later", second.tag), StatusCode::kPrecondition, {"a/b"}));
  EXPECT_EQ(Keys(store_.get()), Strings{});
}

TEST_P(ObjectStoreTest, TaggedObjectMissingOrTooLong) {
  TaggedObject object;
  EXPECT_TRUE(Fails(ReadTagged(store_.get(), "a/b", 100, &object), StatusCode::kNotFound, {"a/b"}));
  ASSERT_OK(WriteTagged(store_.get(), "a/b", std::string(101, 'x'), ""));
  EXPECT_TRUE(Fails(ReadTagged(store_.get(), "a/b", 100, &object), StatusCode::kCorrupt, {"a/b", "100"}));
  ASSERT_OK(ReadTagged(store_.get(), "a/b", 101, &object));
}

TEST_P(ObjectStoreTest, LargeTaggedObject) {
  Random random(25);
  const std::string text = RandomText(random, (6 << 20) + 17);
  ASSERT_OK(WriteTagged(store_.get(), "a/b", text, ""));
  TaggedObject object;
  ASSERT_OK(ReadTagged(store_.get(), "a/b", 8 << 20, &object));
  EXPECT_TRUE(object.text == text);
}

// -- delete

TEST_P(ObjectStoreTest, Delete) {
  ASSERT_OK(Put(store_.get(), "a/b", "hello"));
  ASSERT_OK(Put(store_.get(), "a/c", "hello"));
  ASSERT_OK(Delete(store_.get(), {"a/b"}));
  EXPECT_TRUE(Fails(ReadStatus("a/b", 0, 1), StatusCode::kNotFound));
  EXPECT_EQ(Keys(store_.get()), Strings{"a/c"});
}

// Garbage collection may be told twice.
TEST_P(ObjectStoreTest, DeleteOfAMissingObject) {
  ASSERT_OK(Put(store_.get(), "a/c", "hello"));
  EXPECT_OK(Delete(store_.get(), {"a/b", "a/c", "a/c"}));
  EXPECT_EQ(Keys(store_.get()), Strings{});
}

TEST_P(ObjectStoreTest, UnfinishedUploads) {
  auto upload = Begin("a/b.seg", "half");
  std::vector<UploadInfo> uploads;
  std::unique_ptr<Operation> operation;
  ASSERT_OK(RunOperation(store_->ListUploads("a/", &uploads, &operation), operation));
  for (const UploadInfo& unfinished : uploads) {
    EXPECT_EQ(unfinished.key, "a/b.seg");
    EXPECT_OK(RunOperation(store_->AbortUpload(unfinished, &operation), operation));
    EXPECT_OK(RunOperation(store_->AbortUpload(unfinished, &operation), operation)) << "twice";
  }
  upload.reset();
  uploads.clear();
  ASSERT_OK(RunOperation(store_->ListUploads("", &uploads, &operation), operation));
  EXPECT_TRUE(uploads.empty());
  EXPECT_EQ(Keys(store_.get()), Strings{});
}

// -- list

class ListTest : public ObjectStoreTest {
 protected:
  void SetUp() override {
    ObjectStoreTest::SetUp();
    if (store_ == nullptr) return;
    // '.' sorts before '/', as in a segment's parts and its directory's neighbours.
    for (const char* key : {"b/1/y", "a/1/x.seg.10", "a/10/x", "a/1/x.seg", "a/2/z", "a/1/x.seg.1", "a/1.5/x"})
      ASSERT_OK(Put(store_.get(), key, key));
  }
};

TEST_P(ListTest, InKeyOrder) {
  EXPECT_EQ(Keys(store_.get()),
            (Strings{"a/1.5/x", "a/1/x.seg", "a/1/x.seg.1", "a/1/x.seg.10", "a/10/x", "a/2/z", "b/1/y"}));
}

TEST_P(ListTest, SizesAreTold) {
  std::vector<ObjectInfo> objects;
  ASSERT_OK(List(store_.get(), "a/1/", "", 10, &objects));
  ASSERT_EQ(objects.size(), 3u);
  for (const ObjectInfo& object : objects) EXPECT_EQ(object.size, object.key.size());
}

TEST_P(ListTest, Prefix) {
  EXPECT_EQ(Keys(store_.get(), "a/1/"), (Strings{"a/1/x.seg", "a/1/x.seg.1", "a/1/x.seg.10"}));
  EXPECT_EQ(Keys(store_.get(), "a/1"), (Strings{"a/1.5/x", "a/1/x.seg", "a/1/x.seg.1", "a/1/x.seg.10", "a/10/x"}));
  EXPECT_EQ(Keys(store_.get(), "b/1/y"), Strings{"b/1/y"});
  EXPECT_EQ(Keys(store_.get(), "b/1/yy"), Strings{});
  EXPECT_EQ(Keys(store_.get(), "c"), Strings{});
}

TEST_P(ListTest, StartAfter) {
  EXPECT_EQ(Keys(store_.get(), "a/1/", "a/1/x.seg"), (Strings{"a/1/x.seg.1", "a/1/x.seg.10"}));
  EXPECT_EQ(Keys(store_.get(), "a/1/", "a/1/x.seg.0"), (Strings{"a/1/x.seg.1", "a/1/x.seg.10"}));
  EXPECT_EQ(Keys(store_.get(), "a/1/", "a/1/x.seg.10"), Strings{});
  EXPECT_EQ(Keys(store_.get(), "b", "a/2/z"), Strings{"b/1/y"});
  EXPECT_EQ(Keys(store_.get(), "a", "b"), Strings{});
}

TEST_P(ListTest, Limit) {
  EXPECT_EQ(Keys(store_.get(), "", "", 2), (Strings{"a/1.5/x", "a/1/x.seg"}));
  EXPECT_EQ(Keys(store_.get(), "a/1/", "", 1), Strings{"a/1/x.seg"});
  EXPECT_EQ(Keys(store_.get(), "", "", 0), Strings{});
}

TEST_P(ListTest, PageAfterPageIntoOneVector) {
  std::vector<ObjectInfo> objects;
  for (size_t before = 1; before != objects.size();) {
    before = objects.size();
    ASSERT_OK(List(store_.get(), "", objects.empty() ? "" : objects.back().key, 3, &objects));
    ASSERT_LE(objects.size(), before + 3);
    ASSERT_LE(objects.size(), 7u) << "an object came twice";
  }
  EXPECT_EQ(objects.size(), 7u);
}

std::string NameOf(const testing::TestParamInfo<StoreKind>& info) { return info.param.name; }

INSTANTIATE_TEST_SUITE_P(Stores, ObjectStoreTest, testing::ValuesIn(kKinds), NameOf);
INSTANTIATE_TEST_SUITE_P(Stores, ListTest, testing::ValuesIn(kKinds), NameOf);

}  // namespace
}  // namespace ivfremote

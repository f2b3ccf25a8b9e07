#include "core/fault_store.h"

#include "core/memory_store.h"
#include "support.h"

namespace ivfremote {
namespace {

const std::vector<RangeRequest> kRequests = {{"a/b", 0, 4}, {"a/b", 2, 5}, {"a/b", 9, 1}};

std::string Expected(size_t request) {
  return std::string("0123456789").substr(kRequests[request].offset, kRequests[request].length);
}

// A store with one object, "a/b", behind a fault.
std::unique_ptr<ObjectStore> StoreWith(Fault fault) {
  auto store = std::make_unique<MemoryStore>();
  EXPECT_OK(Put(store.get(), "a/b", "0123456789"));
  return MakeFaultStore(std::move(store), fault);
}

std::vector<RangeCompletion> Wave(Fault fault) {
  std::vector<RangeCompletion> completions;
  EXPECT_OK(RunWave(StoreWith(fault).get(), kRequests, &completions));
  return completions;
}

TEST(FaultStore, Names) {
  const std::pair<const char*, Fault> names[] = {
      {"", Fault::kNone},
      {"get_stall", Fault::kGetStall},
      {"get_fail", Fault::kGetFail},
      {"get_fail_one", Fault::kGetFailOne},
      {"get_missing", Fault::kGetMissing},
      {"get_denied", Fault::kGetDenied},
      {"get_flip_byte", Fault::kGetFlipByte},
      {"get_reorder", Fault::kGetReorder},
      {"put_stall", Fault::kPutStall},
      {"put_fail", Fault::kPutFail},
      {"put_no_space", Fault::kPutNoSpace},
      {"tagged_fail", Fault::kTaggedFail},
      {"tagged_lost", Fault::kTaggedLost},
      {"delete_fail", Fault::kDeleteFail},
  };
  for (const auto& [name, fault] : names) EXPECT_EQ(ParseFault(name), fault) << name;
  for (const char* name : {"none", "get", "GET_STALL", "get_stall ", "put_missing"})
    EXPECT_FALSE(ParseFault(name).has_value()) << name;
}

TEST(FaultStore, GetFaultsEndEveryRequest) {
  const std::pair<Fault, StatusCode> cases[] = {
      {Fault::kGetFail, StatusCode::kUnavailable},
      {Fault::kGetMissing, StatusCode::kNotFound},
      {Fault::kGetDenied, StatusCode::kDenied},
  };
  for (const auto& [fault, code] : cases) {
    const auto completions = Wave(fault);
    ASSERT_EQ(completions.size(), kRequests.size());
    for (const RangeCompletion& completion : completions) EXPECT_TRUE(Fails(completion.status, code, {"injected"}));
  }
}

TEST(FaultStore, GetFailOneEndsTheLastRequest) {
  for (const RangeCompletion& completion : Wave(Fault::kGetFailOne)) {
    if (completion.request + 1 == kRequests.size()) {
      EXPECT_TRUE(Fails(completion.status, StatusCode::kUnavailable));
    } else {
      EXPECT_OK(completion.status);
      EXPECT_EQ(Text(completion.buffer.bytes()), Expected(completion.request));
    }
  }
}

TEST(FaultStore, GetFlipByteChangesOneByteOfEachRange) {
  for (const RangeCompletion& completion : Wave(Fault::kGetFlipByte)) {
    EXPECT_OK(completion.status);
    const std::string text = Text(completion.buffer.bytes());
    const std::string expected = Expected(completion.request);
    ASSERT_EQ(text.size(), expected.size());
    int different = 0;
    for (size_t i = 0; i < text.size(); ++i) different += text[i] != expected[i];
    EXPECT_EQ(different, 1);
  }
}

TEST(FaultStore, GetReorderHoldsAllUntilTheEnd) {
  const auto store = StoreWith(Fault::kGetReorder);
  std::unique_ptr<RangeWave> wave;
  ASSERT_OK(store->GetRanges(kRequests, 1, &wave));
  std::vector<RangeCompletion> completions;
  for (int steps = 0; completions.empty(); ++steps) {
    ASSERT_LT(steps, 100);
    ASSERT_OK(wave->Step(Later(), &completions));
  }
  ASSERT_EQ(completions.size(), 3u);
  for (size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(completions[i].request, 2 - i);
    EXPECT_OK(completions[i].status);
    EXPECT_EQ(Text(completions[i].buffer.bytes()), Expected(2 - i));
  }
}

TEST(FaultStore, GetStallReturnsAtTheDeadline) {
  const auto store = StoreWith(Fault::kGetStall);
  std::unique_ptr<RangeWave> wave;
  ASSERT_OK(store->GetRanges(kRequests, 1, &wave));
  std::vector<RangeCompletion> completions;
  const Clock::time_point deadline = Clock::now() + std::chrono::milliseconds(50);
  ASSERT_OK(wave->Step(deadline, &completions));
  EXPECT_GE(Clock::now(), deadline);
  EXPECT_LT(Clock::now(), deadline + std::chrono::seconds(5));
  EXPECT_TRUE(completions.empty());
  ASSERT_OK(wave->Step(Past(), &completions));
  EXPECT_TRUE(completions.empty());
}

TEST(FaultStore, PutStallNeverGetsReady) {
  const auto store = StoreWith(Fault::kPutStall);
  std::unique_ptr<Upload> upload;
  ASSERT_OK(store->Create("a/c", &upload));
  ASSERT_OK(upload->Append(AsBytes("hello")));
  const Clock::time_point deadline = Clock::now() + std::chrono::milliseconds(50);
  bool ready = true;
  ASSERT_OK(upload->Step(deadline, &ready));
  EXPECT_FALSE(ready);
  EXPECT_GE(Clock::now(), deadline);
  bool done = false;
  ASSERT_OK(upload->Finish(Past(), &done));
  EXPECT_FALSE(done);
  EXPECT_EQ(Keys(store.get()), std::vector<std::string>{"a/b"});
}

TEST(FaultStore, PutFaultsFailTheFirstBytes) {
  EXPECT_TRUE(Fails(Put(StoreWith(Fault::kPutFail).get(), "a/c", "hello"), StatusCode::kUnavailable, {"injected"}));
  EXPECT_TRUE(Fails(Put(StoreWith(Fault::kPutNoSpace).get(), "a/c", "hello"), StatusCode::kNoSpace, {"injected"}));
}

TEST(FaultStore, GetFaultsLeaveWritingAlone) {
  for (Fault fault : {Fault::kGetStall, Fault::kGetFail, Fault::kGetFailOne, Fault::kGetMissing, Fault::kGetDenied,
                      Fault::kGetFlipByte, Fault::kGetReorder}) {
    const auto store = StoreWith(fault);
    ASSERT_OK(Put(store.get(), "a/c", "hello"));
    EXPECT_EQ(Keys(store.get()), (std::vector<std::string>{"a/b", "a/c"}));
    EXPECT_OK(Delete(store.get(), {"a/c"}));
  }
}

TEST(FaultStore, PutFaultsLeaveReadingAlone) {
  for (Fault fault : {Fault::kPutStall, Fault::kPutFail, Fault::kPutNoSpace}) {
    std::string text;
    ASSERT_OK(Get(StoreWith(fault).get(), "a/b", 2, 3, &text));
    EXPECT_EQ(text, "234");
  }
}

}  // namespace
}  // namespace ivfremote

// Replacing small objects: who may, and what is known after an answer was lost.
#include "core/tagged_text.h"

#include "core/fault_store.h"
#include "core/memory_store.h"
#include "core/s3_store.h"
#include "support.h"
#include "tiny_s3.h"

namespace ivfremote {
namespace {

Status ReadIt(ObjectStore* store, TaggedObject* object) {
  std::unique_ptr<Operation> operation;
  Status started = ReadText(store, "a/OWNER", 1000, object, &operation);
  return RunOperation(std::move(started), operation);
}

Status ReplaceIt(ObjectStore* store, const std::string& text, const std::string& tag, bool* replaced) {
  std::unique_ptr<Operation> operation;
  Status started = ReplaceText(store, "a/OWNER", text, tag, replaced, &operation);
  return RunOperation(std::move(started), operation);
}

TEST(TaggedText, MissingIsNoError) {
  MemoryStore store;
  TaggedObject object{"left", "over"};
  ASSERT_OK(ReadIt(&store, &object));
  EXPECT_EQ(object.text, "");
  EXPECT_EQ(object.tag, "");
}

TEST(TaggedText, ReplacesWhatWasRead) {
  MemoryStore store;
  bool replaced = false;
  ASSERT_OK(ReplaceIt(&store, "one", "", &replaced));
  EXPECT_TRUE(replaced);
  TaggedObject object;
  ASSERT_OK(ReadIt(&store, &object));
  EXPECT_EQ(object.text, "one");
  ASSERT_OK(ReplaceIt(&store, "two", object.tag, &replaced));
  EXPECT_TRUE(replaced);
  ASSERT_OK(ReplaceIt(&store, "a longer three", object.tag, &replaced));
  EXPECT_FALSE(replaced) << "somebody else was faster";
  ASSERT_OK(ReplaceIt(&store, "3", object.tag, &replaced));
  EXPECT_FALSE(replaced) << "and its text is longer";
  ASSERT_OK(ReadIt(&store, &object));
  EXPECT_EQ(object.text, "two");
}

TEST(TaggedText, FindsItsOwnTextAfterALostAnswer) {
  const std::unique_ptr<ObjectStore> store = MakeFaultStore(std::make_unique<MemoryStore>(), Fault::kTaggedLost);
  bool replaced = false;
  ASSERT_OK(ReplaceIt(store.get(), "one", "", &replaced));
  EXPECT_TRUE(replaced);
}

TEST(TaggedText, FailsWithTheStore) {
  const std::unique_ptr<ObjectStore> store = MakeFaultStore(std::make_unique<MemoryStore>(), Fault::kTaggedFail);
  bool replaced = false;
  TaggedObject object;
  EXPECT_TRUE(Fails(ReplaceIt(store.get(), "one", "", &replaced), StatusCode::kUnavailable));
  EXPECT_TRUE(Fails(ReadIt(store.get(), &object), StatusCode::kUnavailable));
}

// -- against an S3 server that misbehaves

std::unique_ptr<ObjectStore> StoreOf(const TinyS3& server) {
  S3Location location;
  location.bucket = "bucket";
  location.region = "us-east-1";
  location.endpoint = server.endpoint();
  location.virtual_host = false;
  S3Environment environment;
  environment.random = [] { return 0.0; };
  return std::make_unique<S3Store>(location, AwsCredentials{"key", "secret", ""}, HttpOptions(), RetryPolicy(), environment);
}

TEST(TaggedTextOnS3, SendsTheTagItWasTold) {
  TinyS3 server;
  const auto store = StoreOf(server);
  bool replaced = false;
  ASSERT_OK(ReplaceIt(store.get(), "one", "", &replaced));
  TaggedObject object;
  ASSERT_OK(ReadIt(store.get(), &object));
  ASSERT_OK(ReplaceIt(store.get(), "two", object.tag, &replaced));
  EXPECT_TRUE(replaced);
  const auto requests = server.requests();
  ASSERT_EQ(requests.size(), 3u) << "one request for each";
  EXPECT_TRUE(requests[0].create_only && requests[0].if_match.empty());
  EXPECT_TRUE(!requests[2].create_only && requests[2].if_match == object.tag);
}

TEST(TaggedTextOnS3, AnswerOfTheFirstAttemptIsLost) {
  TinyS3 server;
  const auto store = StoreOf(server);
  bool lose = true;
  server.set_interfere([&lose](size_t, const TinyS3::Request& request) {
    TinyS3::Answer answer{0, "", "", false};
    if (request.method == "PUT") answer.lost = std::exchange(lose, false);
    return answer;
  });
  bool replaced = false;
  ASSERT_OK(ReplaceIt(store.get(), "one", "", &replaced));
  EXPECT_TRUE(replaced);
  EXPECT_GE(server.requests().size(), 3u) << "PUT, PUT again, GET";
}

TEST(TaggedTextOnS3, ConflictsAreTriedAgain) {
  TinyS3 server;
  const auto store = StoreOf(server);
  server.set_interfere([](size_t number, const TinyS3::Request&) {
    return number == 0 ? TinyS3::Answer{409, "", "<Error><Code>ConditionalRequestConflict</Code></Error>", false}
                       : TinyS3::Answer{0, "", "", false};
  });
  bool replaced = false;
  ASSERT_OK(ReplaceIt(store.get(), "one", "", &replaced));
  EXPECT_TRUE(replaced);
}

TEST(TaggedTextOnS3, WithoutConditionalWritesTheyAreLeftOutAndSaidOnce) {
  TinyS3 server;
  const auto store = StoreOf(server);
  server.set_interfere([](size_t, const TinyS3::Request& request) {
    const bool conditional = request.create_only || !request.if_match.empty();
    return conditional ? TinyS3::Answer{501, "", "<Error><Code>NotImplemented</Code></Error>", false}
                       : TinyS3::Answer{0, "", "", false};
  });
  bool replaced = false;
  ASSERT_OK(ReplaceIt(store.get(), "one", "", &replaced));
  EXPECT_NE(store->TakeNotice(), "");
  TaggedObject object;
  ASSERT_OK(ReadIt(store.get(), &object));
  ASSERT_OK(ReplaceIt(store.get(), "two", object.tag, &replaced));
  EXPECT_TRUE(replaced);
  EXPECT_EQ(store->TakeNotice(), "");
}

// Older radosgw compares with what it stores, which has no quotation marks.
TEST(TaggedTextOnS3, TagsWithoutQuotationMarks) {
  TinyS3 server;
  const auto store = StoreOf(server);
  server.set_interfere([](size_t, const TinyS3::Request& request) {
    return request.if_match.starts_with('"') ? TinyS3::Answer{412, "", "<Error><Code>PreconditionFailed</Code></Error>", false}
                                             : TinyS3::Answer{0, "", "", false};
  });
  bool replaced = false;
  ASSERT_OK(ReplaceIt(store.get(), "one", "", &replaced));
  for (const char* text : {"two", "three"}) {
    TaggedObject object;
    ASSERT_OK(ReadIt(store.get(), &object));
    ASSERT_OK(ReplaceIt(store.get(), text, object.tag, &replaced));
    EXPECT_TRUE(replaced);
  }
  EXPECT_EQ(server.requests().size(), 7u) << "only the first replacement is tried twice, with a look between";
}

// What has changed is not written with another spelling of the old tag.
TEST(TaggedTextOnS3, ChangedObjectIsNotTriedAgain) {
  TinyS3 server;
  const auto store = StoreOf(server);
  bool replaced = true;
  ASSERT_OK(ReplaceIt(store.get(), "one", "", &replaced));
  ASSERT_OK(ReplaceIt(store.get(), "two", "\"other\"", &replaced));
  EXPECT_FALSE(replaced);
  size_t puts = 0;
  for (const TinyS3::Request& request : server.requests()) puts += request.method == "PUT";
  EXPECT_EQ(puts, 2u);
}

// One that knows them only with quotation marks, and an object that has changed.
TEST(TaggedTextOnS3, AStrictStoreRefusesBareTags) {
  TinyS3 server;
  const auto store = StoreOf(server);
  server.set_interfere([](size_t, const TinyS3::Request& request) {
    const bool bare = !request.if_match.empty() && !request.if_match.starts_with('"');
    return bare ? TinyS3::Answer{400, "", "<Error><Code>InvalidArgument</Code></Error>", false} : TinyS3::Answer{0, "", "", false};
  });
  bool replaced = true;
  ASSERT_OK(ReplaceIt(store.get(), "one", "", &replaced));
  ASSERT_OK(ReplaceIt(store.get(), "two", "\"other\"", &replaced));
  EXPECT_FALSE(replaced);
}

// Keys that may read objects, and not list them, get this answer for a missing one.
TEST(TaggedTextOnS3, RefusedReadsMayBeOfAMissingObject) {
  TinyS3 server;
  const auto store = StoreOf(server);
  std::string code = "AccessDenied";
  server.set_interfere([&code](size_t, const TinyS3::Request&) {
    return TinyS3::Answer{403, "", "<Error><Code>" + code + "</Code></Error>", false};
  });
  TaggedObject object;
  ASSERT_OK(ReadIt(store.get(), &object));
  EXPECT_EQ(object.tag, "");
  code = "SignatureDoesNotMatch";
  EXPECT_TRUE(Fails(ReadIt(store.get(), &object), StatusCode::kDenied));
}

TEST(TaggedTextOnS3, AStoreWithoutTagsIsRefused) {
  TinyS3 server;
  const auto store = StoreOf(server);
  server.set_interfere([](size_t, const TinyS3::Request&) { return TinyS3::Answer{200, "", "text", false}; });
  TaggedObject object;
  EXPECT_TRUE(Fails(ReadIt(store.get(), &object), StatusCode::kUnsupported, {"ETag"}));
}

}  // namespace
}  // namespace ivfremote

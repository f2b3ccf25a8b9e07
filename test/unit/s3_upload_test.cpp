// Uploads to a store that fails now and then, forgets to answer, or wants other keys.
#include "core/s3_upload.h"

#include <algorithm>

#include "core/s3_store.h"
#include "support.h"
#include "tiny_s3.h"

namespace ivfremote {
namespace {

using std::chrono::milliseconds;

constexpr size_t kPart = 8 << 20;

class S3UploadTest : public testing::Test {
 protected:
  S3UploadTest() { Open(milliseconds(20000)); }

  void Open(milliseconds patience, bool credentials_worked = false) {
    S3Location location;
    location.bucket = "bucket";
    location.region = "us-east-1";
    location.endpoint = server_.endpoint();
    location.virtual_host = false;
    S3Environment environment;
    environment.random = [] { return 0.5; };
    RetryPolicy retry;
    retry.base_delay = milliseconds(1);
    retry.longest_delay = milliseconds(20);
    retry.patience = patience;
    retry.credentials_worked = credentials_worked;
    store_ = std::make_unique<S3Store>(location, AwsCredentials{"first", "secret", ""}, HttpOptions(), retry, environment);
  }

  // Uploads `text` in pieces, giving the store `keys` whenever it asks.
  Status Upload(const std::string& text) {
    EXPECT_OK(store_->Create("a/b", &upload_));
    Status status;
    for (size_t at = 0; at < text.size() && status.ok(); at += 1 << 20) {
      for (bool ready = false; !ready && status.ok(); Answer())
        status = upload_->Step(Clock::now() + milliseconds(20), &ready);
      if (status.ok()) status = upload_->Append(AsBytes(std::string_view(text).substr(at, 1 << 20)));
      EXPECT_LE(upload_->BytesStored(), at + (1 << 20));
      EXPECT_GE(upload_->BytesStored(), stored_);
      stored_ = upload_->BytesStored();
    }
    for (bool done = false; !done && status.ok(); Answer())
      status = upload_->Finish(Clock::now() + milliseconds(20), &done);
    return status;
  }

  void Answer() {
    most_failures_ = std::max(most_failures_, store_->Trouble().failures);
    if (!store_->AwaitsCredentials()) return;
    ++questions_;
    store_->SetCredentials({keys_, "secret", ""});
    EXPECT_FALSE(store_->AwaitsCredentials());
  }

  size_t Count(const std::string& method, const std::string& part_of_target) {
    const auto requests = server_.requests();
    return static_cast<size_t>(std::count_if(requests.begin(), requests.end(),
                                             [&](const auto& r) { return r.Is(method, part_of_target); }));
  }

  void ExpectStored(const std::string& text) {
    EXPECT_TRUE(server_.objects()["/bucket/a/b"] == text);
    EXPECT_EQ(server_.unfinished_uploads(), 0u);
    EXPECT_EQ(upload_->BytesStored(), text.size());
    EXPECT_EQ(store_->Trouble().failures, 0);
  }

  static TinyS3::Answer Says(int status, const std::string& code) {
    return {status, "", "<Error><Code>" + code + "</Code></Error>", false};
  }
  static TinyS3::Answer Goes() { return {0, "", "", false}; }
  static TinyS3::Answer GoesUnheard() { return {0, "", "", true}; }

  Random random_{31};
  std::string large_ = RandomText(random_, 3 * kPart + 5);
  std::string small_ = "hello";
  TinyS3 server_;
  std::unique_ptr<S3Store> store_;
  std::unique_ptr<ivfremote::Upload> upload_;
  std::string keys_ = "first";
  uint64_t stored_ = 0;
  int questions_ = 0;
  int most_failures_ = 0;
};

TEST_F(S3UploadTest, RequestsOfAnUndisturbedUpload) {
  ASSERT_OK(Upload(large_));
  ExpectStored(large_);
  // POST, ceil(bytes / 8 MiB) PUTs, POST, HEAD: docs/s3.md.
  EXPECT_EQ(server_.requests().size(), 1 + 4 + 1 + 1u);
  EXPECT_EQ(Count("PUT", "partNumber="), 4u);
}

TEST_F(S3UploadTest, RequestsOfASmallUpload) {
  ASSERT_OK(Upload(small_));
  ExpectStored(small_);
  EXPECT_EQ(server_.requests().size(), 2u);
}

TEST_F(S3UploadTest, OnlyTheFailedPartIsSentAgain) {
  int failures = 30;
  server_.set_interfere([&](size_t, const TinyS3::Request& r) {
    return r.Is("PUT", "partNumber=2") && failures-- > 0 ? Says(503, "SlowDown") : Goes();
  });
  ASSERT_OK(Upload(large_));
  ExpectStored(large_);
  EXPECT_EQ(Count("PUT", "partNumber=2"), 31u);
  for (const char* part : {"partNumber=1", "partNumber=3", "partNumber=4"}) EXPECT_EQ(Count("PUT", part), 1u) << part;
  EXPECT_GT(most_failures_, 3);
}

TEST_F(S3UploadTest, EveryRequestIsPatient) {
  large_.resize(kPart + 5);
  for (const auto& [method, what] : {std::pair{"POST", "uploads"}, {"PUT", "partNumber=2"}, {"POST", "uploadId"}, {"HEAD", ""}}) {
    for (const int status : {500, 503, 429, 408}) {
      int failures = 5;
      server_.set_interfere([&](size_t, const TinyS3::Request& r) {
        return r.Is(method, what) && failures-- > 0 ? Says(status, "Whatever") : Goes();
      });
      stored_ = 0;
      Open(milliseconds(20000));
      // Names are used once.
      EXPECT_OK(store_->Create("a/" + std::string(method) + what + std::to_string(status), &upload_));
      ASSERT_OK(upload_->Append(AsBytes(large_)));
      EXPECT_OK(Complete(upload_.get())) << method << what << status;
      EXPECT_LT(failures, 0);
    }
  }
}

TEST_F(S3UploadTest, GivesUpInTheEnd) {
  Open(milliseconds(300));
  server_.set_interfere([](size_t, const TinyS3::Request& r) { return r.Is("PUT", "partNumber=3") ? Says(503, "SlowDown") : Goes(); });
  const auto start = Clock::now();
  EXPECT_TRUE(Fails(Upload(large_), StatusCode::kUnavailable, {"a/b", "HTTP 503 SlowDown", " attempts"}));
  EXPECT_GE(Clock::now() - start, milliseconds(300));
  EXPECT_GE(Count("PUT", "partNumber=3"), 3u);
  EXPECT_EQ(store_->Trouble().last, "HTTP 503 SlowDown");
  upload_.reset();
  EXPECT_EQ(server_.unfinished_uploads(), 0u) << "it was not aborted";
  EXPECT_TRUE(server_.objects().empty());
}

TEST_F(S3UploadTest, WithoutPatienceThreeAttempts) {
  Open(milliseconds(0));
  server_.set_interfere([](size_t, const TinyS3::Request&) { return Says(503, "SlowDown"); });
  EXPECT_TRUE(Fails(Upload(small_), StatusCode::kUnavailable, {"(3 attempts)"}));
  EXPECT_EQ(server_.requests().size(), 3u);
}

// -- answers that are lost: the request was carried out

TEST_F(S3UploadTest, LostAnswerToAPut) {
  int lost = 1;
  server_.set_interfere([&](size_t, const TinyS3::Request& r) { return r.method == "PUT" && lost-- > 0 ? GoesUnheard() : Goes(); });
  ASSERT_OK(Upload(small_));
  ExpectStored(small_);
}

// Where the connection was used before, curl itself sends the request again, on a new one.
TEST_F(S3UploadTest, LostAnswerToAPutOnAKeptConnection) {
  ASSERT_OK(Put(store_.get(), "a/before", small_));
  int lost = 1;
  server_.set_interfere([&](size_t, const TinyS3::Request& r) { return r.method == "PUT" && lost-- > 0 ? GoesUnheard() : Goes(); });
  ASSERT_OK(Upload(small_));
  ExpectStored(small_);
  EXPECT_LT(lost, 0);
}

TEST_F(S3UploadTest, LostAnswersToAllOfAMultipartUpload) {
  size_t stored = 0;
  for (const auto& [method, what] : {std::pair{"PUT", "partNumber=2"}, {"POST", "uploadId"}, {"HEAD", ""}}) {
    SCOPED_TRACE(std::string(method) + what);
    int lost = 1;
    server_.set_interfere([&](size_t, const TinyS3::Request& r) { return r.Is(method, what) && lost-- > 0 ? GoesUnheard() : Goes(); });
    const std::string key = std::string("a/") + method + what;
    EXPECT_OK(store_->Create(key, &upload_));
    ASSERT_OK(upload_->Append(AsBytes(large_)));
    ASSERT_OK(Complete(upload_.get()));
    const auto objects = server_.objects();
    EXPECT_EQ(objects.size(), ++stored);
    EXPECT_TRUE(std::all_of(objects.begin(), objects.end(), [&](const auto& object) { return object.second == large_; }));
    EXPECT_LT(lost, 0);
  }
}

// What is there after a lost answer must be what was sent.
TEST_F(S3UploadTest, LostAnswerAndAnotherObject) {
  ASSERT_OK(Upload("of another"));
  int lost = 1;
  server_.set_interfere([&](size_t, const TinyS3::Request& r) { return r.method == "PUT" && lost-- > 0 ? GoesUnheard() : Goes(); });
  EXPECT_TRUE(Fails(Upload(small_), StatusCode::kCorrupt, {"a/b", "10 bytes after writing 5"}));
  EXPECT_EQ(server_.objects()["/bucket/a/b"], "of another");
}

// -- credentials

TEST_F(S3UploadTest, CredentialsReplacedInTheMiddle) {
  keys_ = "second";
  size_t parts = 0;
  server_.set_interfere([&](size_t, const TinyS3::Request& r) {
    if (r.Is("PUT", "partNumber=")) ++parts;
    return parts > 2 && r.key_id == "first" ? Says(403, "InvalidAccessKeyId") : Goes();
  });
  ASSERT_OK(Upload(large_));
  ExpectStored(large_);
  EXPECT_GE(questions_, 1);
  const auto requests = server_.requests();
  EXPECT_EQ(requests.front().key_id, "first");
  EXPECT_EQ(requests.back().key_id, "second");
}

// A token has expired, and whoever renews it is late.
TEST_F(S3UploadTest, ExpiredCredentialsAreWaitedFor) {
  for (const auto& [status, code] : {std::pair{403, "ExpiredToken"}, {400, "ExpiredToken"}, {403, "SignatureDoesNotMatch"}, {403, "RequestTimeTooSkewed"}}) {
    int refusals = 20;
    keys_ = "first";
    server_.set_interfere([&](size_t, const TinyS3::Request& r) {
      if (!r.Is("PUT", "partNumber=") || r.key_id == "second") return Goes();
      if (--refusals == 0) keys_ = "second";
      return Says(status, code);
    });
    Open(milliseconds(20000));
    const std::string key = std::string("a/") + code + std::to_string(status);
    EXPECT_OK(store_->Create(key, &upload_));
    ASSERT_OK(upload_->Append(AsBytes(large_)));
    Status failed;
    for (bool ready = false; !ready && failed.ok(); Answer()) failed = upload_->Step(Clock::now() + milliseconds(20), &ready);
    for (bool done = false; !done && failed.ok(); Answer()) failed = upload_->Finish(Clock::now() + milliseconds(20), &done);
    ASSERT_OK(failed);
    EXPECT_LE(refusals, 0);
    EXPECT_GE(questions_, 5);
  }
}

TEST_F(S3UploadTest, ExpiredCredentialsAreNotWaitedForWithoutEnd) {
  Open(milliseconds(300));
  server_.set_interfere([](size_t, const TinyS3::Request& r) { return r.Is("PUT", "partNumber=") ? Says(403, "ExpiredToken") : Goes(); });
  EXPECT_TRUE(Fails(Upload(large_), StatusCode::kDenied, {"HTTP 403 ExpiredToken", " attempts"}));
  EXPECT_TRUE(store_->Trouble().denied);
}

// They never worked: waiting would hide a mistake.
TEST_F(S3UploadTest, WrongCredentialsFailAtOnce) {
  server_.set_interfere([](size_t, const TinyS3::Request&) { return Says(403, "SignatureDoesNotMatch"); });
  EXPECT_TRUE(Fails(Upload(small_), StatusCode::kDenied, {"HTTP 403 SignatureDoesNotMatch"}));
  EXPECT_EQ(server_.requests().size(), 1u);
  EXPECT_EQ(questions_, 1);
}

// They worked hours ago, when the build began: the first request of the upload may find them expired.
TEST_F(S3UploadTest, CredentialsThatWorkedBeforeAreWaitedFor) {
  Open(milliseconds(20000), true);
  int refusals = 5;
  server_.set_interfere([&](size_t, const TinyS3::Request& r) {
    if (r.key_id == "second") return Goes();
    if (--refusals == 0) keys_ = "second";
    return Says(403, "ExpiredToken");
  });
  ASSERT_OK(Upload(small_));
  ExpectStored(small_);
  EXPECT_GE(questions_, 5);
}

// That there is no such object is an answer: it ends the trouble, and shows that the keys are known.
TEST_F(S3UploadTest, MissingObjectIsAnAnswer) {
  int failures = 3;
  server_.set_interfere([&](size_t, const TinyS3::Request& r) {
    if (r.method == "GET") return failures-- > 0 ? Says(503, "SlowDown") : Says(404, "NoSuchKey");
    return r.key_id == "second" ? Goes() : Says(403, "ExpiredToken");
  });
  std::unique_ptr<RangeWave> wave;
  ASSERT_OK(store_->GetRanges({{"a/none", 0, 1}}, 1, &wave));
  std::vector<RangeCompletion> completions;
  while (completions.empty()) ASSERT_OK(wave->Step(Clock::now() + milliseconds(20), &completions));
  EXPECT_EQ(completions[0].status.code(), StatusCode::kNotFound);
  EXPECT_EQ(store_->Trouble().failures, 0);
  EXPECT_OK(store_->Create("a/b", &upload_));
  ASSERT_OK(upload_->Append(AsBytes(small_)));
  Status failed;
  for (bool done = false; !done && failed.ok();) {
    failed = upload_->Finish(Clock::now() + milliseconds(20), &done);
    if (!store_->AwaitsCredentials()) continue;
    // Nobody has others yet; in the end somebody has.
    if (++questions_ < 3) store_->KeepCredentials();
    else store_->SetCredentials({"second", "secret", ""});
    EXPECT_FALSE(store_->AwaitsCredentials());
  }
  ASSERT_OK(failed);
  EXPECT_EQ(questions_, 3);
}

TEST_F(S3UploadTest, MissingRightsFailAtOnce) {
  server_.set_interfere([](size_t, const TinyS3::Request& r) { return r.Is("POST", "uploadId") ? Says(403, "AccessDenied") : Goes(); });
  EXPECT_TRUE(Fails(Upload(large_), StatusCode::kDenied, {"HTTP 403 AccessDenied"}));
  EXPECT_EQ(Count("POST", "uploadId"), 1u);
  EXPECT_EQ(questions_, 1);
  upload_.reset();
  EXPECT_EQ(server_.unfinished_uploads(), 0u);
}

TEST_F(S3UploadTest, WithoutPatienceNobodyIsAskedForCredentials) {
  Open(milliseconds(0));
  keys_ = "second";
  server_.set_interfere([](size_t, const TinyS3::Request& r) { return r.key_id == "first" ? Says(403, "ExpiredToken") : Goes(); });
  EXPECT_TRUE(Fails(Upload(small_), StatusCode::kDenied));
  EXPECT_EQ(questions_, 0);
}

}  // namespace
}  // namespace ivfremote

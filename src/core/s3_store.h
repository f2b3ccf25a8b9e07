// An object store that speaks the S3 protocol: AWS, radosgw, MinIO, GCS's XML interface and their like.
//
// Requests are signed (sigv4.h), sent over kept-alive connections (http_client.h) and tried again here, because each try
// has to be signed anew: 5xx except 501, 429, 408, 409 on a conditional write, broken connections and bodies cut short,
// with full-jitter backoff and on a fresh connection. Other 4xx are final, but for refused credentials of a patient store.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "core/http_client.h"
#include "core/object_store.h"
#include "core/sigv4.h"

namespace ivfremote {

struct S3Location {
  std::string bucket;
  std::string prefix;    // no slash at either end; may be empty
  std::string region;
  std::string endpoint;  // "https://host[:port]"; empty: AWS in the region
  bool virtual_host = true;
};

// From "s3://bucket[/prefix]"; the rest of *location is left alone.
Status ParseS3Url(std::string_view url, S3Location* location);

// A request fails when it has been tried again `retries` times and for as long as `patience`, counted from the start of
// the first attempt that failed.
struct RetryPolicy {
  int retries = 2;
  std::chrono::milliseconds base_delay{100};  // the n-th retry waits up to base * 2^n, at random
  std::chrono::milliseconds longest_delay{10000};
  // More than none: refused credentials are asked for again (ObjectStore::AwaitsCredentials). If they stay the same, the
  // request fails, unless they worked before and have expired or were replaced: then it is tried again like others.
  std::chrono::milliseconds patience{0};
  bool credentials_worked = false;  // before this store was made: whoever waits for work of hours has tried them
};

// What a store takes from outside, so that tests decide it.
struct S3Environment {
  std::function<std::chrono::system_clock::time_point()> wall_clock = std::chrono::system_clock::now;
  std::function<double()> random;  // uniform in [0, 1)
};

class S3Store : public ObjectStore {
 public:
  // No credentials (an empty access key): requests are sent unsigned.
  S3Store(S3Location location, const AwsCredentials& credentials, HttpOptions http, RetryPolicy retry,
          S3Environment environment);
  ~S3Store() override;

  Status GetRanges(std::vector<RangeRequest> requests, size_t max_concurrent,
                   std::unique_ptr<RangeWave>* wave) override;
  Status Create(std::string_view key, std::unique_ptr<Upload>* upload) override;
  Status ReadTagged(std::string key, size_t limit, TaggedObject* object,
                    std::unique_ptr<Operation>* operation) override;
  Status WriteTagged(std::string key, std::string text, std::string tag,
                     std::unique_ptr<Operation>* operation) override;
  Status Delete(std::vector<std::string> keys, std::unique_ptr<Operation>* operation) override;
  Status List(std::string prefix, std::string start_after, size_t limit, std::vector<ObjectInfo>* objects,
              std::unique_ptr<Operation>* operation) override;
  Status ListUploads(std::string prefix, std::vector<UploadInfo>* uploads,
                     std::unique_ptr<Operation>* operation) override;
  Status AbortUpload(const UploadInfo& upload, std::unique_ptr<Operation>* operation) override;
  Status CheckTransport(InterruptCheck interrupted, std::vector<CheckResult>* results) override;
  StoreTrouble Trouble() const override;
  bool AwaitsCredentials() const override;
  void SetCredentials(const AwsCredentials& credentials) override;
  void KeepCredentials() override;
  void SetPatient(bool patient) override;
  std::string TakeNotice() override;

  class Connection;

 private:
  std::shared_ptr<Connection> connection_;
};

}  // namespace ivfremote

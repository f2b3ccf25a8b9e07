// AWS Signature Version 4 in the Authorization header, over OpenSSL. Our own, since libcurl before 8.14 signs keys and
// queries as they are given instead of in their canonical form.
//
// Secrets: the secret key and what is derived from it are never printed, never part of a Status, and wiped from memory
// with their owner. A session token and a signature are headers, so they live as long as the request.
#pragma once

#include <array>
#include <chrono>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/status.h"
#include "core/types.h"

namespace ivfremote {

struct AwsCredentials {
  std::string access_key_id;
  std::string secret_access_key;
  std::string session_token;  // empty: none

  ~AwsCredentials();                                          // wipes; a move is therefore a copy
  AwsCredentials& operator=(const AwsCredentials&) = delete;  // would leave the old secret in memory
};

using NameValues = std::vector<std::pair<std::string, std::string>>;

// What is signed. Nothing in it is percent-encoded.
struct SignableRequest {
  std::string method;
  std::string host;            // as the Host header says it: with the port, unless it is the scheme's own
  std::string path = "/";      // from the first '/' on; "//" and dot segments stay, so curl needs CURLOPT_PATH_AS_IS
  NameValues query;            // in any order; `?uploads` has an empty value
  NameValues headers;          // to be sent and signed besides those that Sign adds; no two with the same name
  std::string payload_sha256;  // Sha256Hex of the body, kEmptySha256 or kUnsignedPayload
};

inline constexpr char kEmptySha256[] = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
// Over https, which protects the body itself: saves hashing it.
inline constexpr char kUnsignedPayload[] = "UNSIGNED-PAYLOAD";

// In lower case.
std::string Sha256Hex(Bytes bytes);

// All but A-Z a-z 0-9 - . _ ~ as %XX, each byte for itself.
std::string UriEncode(std::string_view text, bool keep_slash);

// The encoded path and query, as they are signed: what a URL has after the host.
std::string RequestTarget(const SignableRequest& request);

// `name=value&...` in the canonical order: by encoded name, then value; "" without parameters.
std::string CanonicalQuery(const NameValues& query);

// Signs requests of one account in one region. One thread at a time.
class SigV4Signer {
 public:
  // `service` is "s3" for every S3-like store. `region` must be what the server expects ("us-east-1" if it has none).
  SigV4Signer(const AwsCredentials& credentials, std::string region, std::string service);
  ~SigV4Signer();
  SigV4Signer(const SigV4Signer&) = delete;
  SigV4Signer& operator=(const SigV4Signer&) = delete;

  bool SignsWith(const AwsCredentials& credentials) const;

  // Replaces *headers by those to add to the request: x-amz-date, x-amz-content-sha256 (service s3 only),
  // x-amz-security-token if there is one, Authorization. They hold while `now` is within 15 minutes of the server's
  // clock: a retry signs anew. kInvalid if the credentials, the region or a header has a character no header may have.
  Status Sign(const SignableRequest& request, std::chrono::system_clock::time_point now, NameValues* headers);

 private:
  using Digest = std::array<unsigned char, 32>;

  void DeriveKey(std::string_view day);

  const AwsCredentials credentials_;
  const std::string region_;
  const std::string service_;
  std::string key_day_;  // "YYYYMMDD" that key_ is for, or empty
  Digest key_{};
};

}  // namespace ivfremote

#include "core/sigv4.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

#include <algorithm>
#include <cassert>
#include <ctime>
#include <new>

namespace ivfremote {
namespace {

constexpr char kAlgorithm[] = "AWS4-HMAC-SHA256";
constexpr char kScopeEnd[] = "aws4_request";
constexpr size_t kDayLength = 8;

using Digest = std::array<unsigned char, 32>;

void Wipe(std::string* text) {
  // What a shorter string has left behind counts too.
  text->resize(text->capacity());
  OPENSSL_cleanse(text->data(), text->size());
  text->clear();
}

// A digest of bytes in memory has nothing else to fail for.
void CheckOpenSsl(bool ok) {
  if (!ok) throw std::bad_alloc();
}

Digest Sha256(std::string_view text) {
  Digest digest;
  CheckOpenSsl(EVP_Digest(text.data(), text.size(), digest.data(), nullptr, EVP_sha256(), nullptr) == 1);
  return digest;
}

Digest Hmac(const void* key, size_t key_length, std::string_view text) {
  Digest digest;
  const auto* data = reinterpret_cast<const unsigned char*>(text.data());
  CheckOpenSsl(HMAC(EVP_sha256(), key, static_cast<int>(key_length), data, text.size(), digest.data(), nullptr));
  return digest;
}

std::string Hex(const Digest& digest) {
  constexpr char kDigits[] = "0123456789abcdef";
  std::string text;
  for (unsigned char byte : digest) {
    text += kDigits[byte >> 4];
    text += kDigits[byte & 15];
  }
  return text;
}

// "20130524T000000Z"
std::string BasicIso8601(std::chrono::system_clock::time_point time) {
  const std::time_t seconds = std::chrono::system_clock::to_time_t(time);
  std::tm utc{};
  gmtime_r(&seconds, &utc);
  char text[32];
  return {text, std::strftime(text, sizeof text, "%Y%m%dT%H%M%SZ", &utc)};
}

std::string LowerCase(std::string text) {
  for (char& c : text)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  return text;
}

// Without spaces around, and with single ones inside.
std::string CanonicalValue(std::string_view value) {
  std::string text;
  for (char c : value)
    if (c != ' ' || (!text.empty() && text.back() != ' ')) text += c;
  if (!text.empty() && text.back() == ' ') text.pop_back();
  return text;
}

bool FitsHeader(std::string_view text) {
  return std::none_of(text.begin(), text.end(), [](unsigned char c) { return c < ' ' || c == 0x7f; });
}

struct CanonicalHeaders {
  std::string lines;         // "name:value\n" each
  std::string signed_names;  // "name;name"
};

CanonicalHeaders Canonicalize(const SignableRequest& request, const NameValues& added) {
  NameValues all = {{"host", CanonicalValue(request.host)}};
  for (const NameValues* headers : {&request.headers, &added})
    for (const auto& [name, value] : *headers) all.emplace_back(LowerCase(name), CanonicalValue(value));
  std::sort(all.begin(), all.end());

  CanonicalHeaders canonical;
  for (const auto& [name, value] : all) {
    canonical.lines += name + ':' + value + '\n';
    if (!canonical.signed_names.empty()) canonical.signed_names += ';';
    canonical.signed_names += name;
  }
  return canonical;
}

}  // namespace

AwsCredentials::~AwsCredentials() {
  Wipe(&secret_access_key);
  Wipe(&session_token);
}

std::string Sha256Hex(Bytes bytes) {
  return Hex(Sha256({reinterpret_cast<const char*>(bytes.data()), bytes.size()}));
}

std::string UriEncode(std::string_view text, bool keep_slash) {
  constexpr char kDigits[] = "0123456789ABCDEF";
  std::string encoded;
  for (char c : text) {
    // Not isalnum: the server's locale must not matter.
    const bool unreserved = (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' ||
                            c == '.' || c == '_' || c == '~';
    if (unreserved || (keep_slash && c == '/')) {
      encoded += c;
    } else {
      encoded += '%';
      encoded += kDigits[static_cast<unsigned char>(c) >> 4];
      encoded += kDigits[static_cast<unsigned char>(c) & 15];
    }
  }
  return encoded;
}

std::string CanonicalQuery(const NameValues& query) {
  NameValues encoded;
  for (const auto& [name, value] : query) encoded.emplace_back(UriEncode(name, false), UriEncode(value, false));
  std::sort(encoded.begin(), encoded.end());
  std::string text;
  for (const auto& [name, value] : encoded) {
    if (!text.empty()) text += '&';
    text += name + '=' + value;
  }
  return text;
}

std::string RequestTarget(const SignableRequest& request) {
  std::string target = UriEncode(request.path, true);
  if (!request.query.empty()) target += '?' + CanonicalQuery(request.query);
  return target;
}

bool SigV4Signer::SignsWith(const AwsCredentials& credentials) const {
  return credentials.access_key_id == credentials_.access_key_id &&
         credentials.secret_access_key == credentials_.secret_access_key &&
         credentials.session_token == credentials_.session_token;
}

SigV4Signer::SigV4Signer(const AwsCredentials& credentials, std::string region, std::string service)
    : credentials_(credentials), region_(std::move(region)), service_(std::move(service)) {}

SigV4Signer::~SigV4Signer() { OPENSSL_cleanse(key_.data(), key_.size()); }

void SigV4Signer::DeriveKey(std::string_view day) {
  if (key_day_ == day) return;
  const AwsCredentials prefixed{{}, "AWS4" + credentials_.secret_access_key, {}};  // wiped, come what may
  key_day_.clear();
  key_ = Hmac(prefixed.secret_access_key.data(), prefixed.secret_access_key.size(), day);
  for (std::string_view part : {std::string_view(region_), std::string_view(service_), std::string_view(kScopeEnd)})
    key_ = Hmac(key_.data(), key_.size(), part);
  key_day_ = day;
}

Status SigV4Signer::Sign(const SignableRequest& request, std::chrono::system_clock::time_point now,
                         NameValues* headers) {
  assert(request.path.starts_with('/') && !request.payload_sha256.empty());
  if (!FitsHeader(credentials_.access_key_id) || !FitsHeader(credentials_.session_token))
    return Status::Invalid("the credentials contain a control character");
  if (!FitsHeader(region_)) return Status::Invalid("the region contains a control character");
  for (const auto& [name, value] : request.headers)
    if (!FitsHeader(name) || !FitsHeader(value))
      return Status::Invalid("an HTTP header contains a control character");

  const std::string time = BasicIso8601(now);
  const std::string day = time.substr(0, kDayLength);
  headers->clear();
  headers->emplace_back("x-amz-date", time);
  if (service_ == "s3") headers->emplace_back("x-amz-content-sha256", request.payload_sha256);
  if (!credentials_.session_token.empty()) headers->emplace_back("x-amz-security-token", credentials_.session_token);

  const CanonicalHeaders canonical = Canonicalize(request, *headers);
  const std::string canonical_request =
      request.method + '\n' + UriEncode(request.path, true) + '\n' + CanonicalQuery(request.query) + '\n' +
      canonical.lines + '\n' + canonical.signed_names + '\n' + request.payload_sha256;
  const std::string scope = day + '/' + region_ + '/' + service_ + '/' + kScopeEnd;
  const std::string string_to_sign = kAlgorithm + ('\n' + time) + '\n' + scope + '\n' + Hex(Sha256(canonical_request));

  DeriveKey(day);
  const std::string signature = Hex(Hmac(key_.data(), key_.size(), string_to_sign));
  headers->emplace_back("Authorization", kAlgorithm + (" Credential=" + credentials_.access_key_id) + '/' + scope +
                                             ", SignedHeaders=" + canonical.signed_names + ", Signature=" + signature);
  return Status::Ok();
}

}  // namespace ivfremote

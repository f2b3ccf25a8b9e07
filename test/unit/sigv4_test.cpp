#include "core/sigv4.h"

#include <algorithm>
#include <map>

#include "support.h"

namespace ivfremote {
namespace {

using std::chrono::sys_days;
using std::chrono::system_clock;
using namespace std::chrono_literals;

// -- AWS's test suite: one account, region, service and time for all

constexpr char kSuiteHost[] = "example.amazonaws.com";
constexpr system_clock::time_point kSuiteTime = sys_days{2015y / 8 / 30} + 12h + 36min;
constexpr char kSuiteToken[] =
    "AQoDYXdzEPT//////////wEXAMPLEtc764bNrC9SAPBSM22wDOk4x4HIZ8j4FZTwdQWLWsKWHGBuFqwAeMicRXmxfpSPfIeoIYRqTflfKD8YUu"
    "wthAx7mSEI/qkPpKPi/kMcGdQrmGdeehM4IC1NtBmUpp2wUE8phUZampKsburEDy0KPkyQDYwT7WZ0wq5VSXDvp75YU9HFvlRd8Tx6q6fE8YQc"
    "HNVXAkiY9q6d+xo0rKwT38xVqr7ZD0u0iPPkUL64lIZbqBAz+scqKmlzm8FDrypNC9Yjc8fPOLn9FX9KSYvKTr4rvx3iSIlTJabIQwj2ICCR/o"
    "LxBA==";

AwsCredentials SuiteCredentials(std::string token = "") {
  return {"AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", std::move(token)};
}

SignableRequest SuiteRequest(std::string method, std::string path = "/", NameValues query = {},
                             NameValues headers = {}) {
  return {std::move(method), kSuiteHost, std::move(path), std::move(query), std::move(headers), kEmptySha256};
}

// -- the examples of S3's API reference: another account and time

constexpr char kExampleHost[] = "examplebucket.s3.amazonaws.com";
constexpr system_clock::time_point kExampleTime = sys_days{2013y / 5 / 24};

AwsCredentials ExampleCredentials() { return {"AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", ""}; }

SignableRequest ExampleRequest(std::string method, std::string path, NameValues query = {}, NameValues headers = {}) {
  return {std::move(method), kExampleHost, std::move(path), std::move(query), std::move(headers), kEmptySha256};
}

// -- verbs

std::map<std::string, std::string> Signed(SigV4Signer& signer, const SignableRequest& request,
                                          system_clock::time_point now) {
  NameValues headers;
  EXPECT_OK(signer.Sign(request, now, &headers));
  return {headers.begin(), headers.end()};
}

std::string Authorization(SigV4Signer& signer, const SignableRequest& request, system_clock::time_point now) {
  return Signed(signer, request, now)["Authorization"];
}

std::string Signature(SigV4Signer& signer, const SignableRequest& request, system_clock::time_point now) {
  const std::string authorization = Authorization(signer, request, now);
  const size_t at = authorization.find("Signature=");
  return at == std::string::npos ? authorization : authorization.substr(at + 10);
}

TEST(SigV4, TestSuite) {
  const std::string unreserved = "-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
  const struct {
    std::string name;
    SignableRequest request;
    std::string signature;
  } cases[] = {
      {"get-vanilla", SuiteRequest("GET"), "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"},
      {"get-vanilla-query-order-key-case", SuiteRequest("GET", "/", {{"Param2", "value2"}, {"Param1", "value1"}}),
       "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500"},
      {"get-vanilla-query-order-encoded",
       SuiteRequest("GET", "/", {{"Param-3", "Value3"}, {"Param", "Value2"}, {"\u1234", "Value1"}}),
       "371d3713e185cc334048618a97f809c9ffe339c62934c032af5a0e595648fcac"},
      {"get-vanilla-query-unreserved", SuiteRequest("GET", "/", {{unreserved, unreserved}}),
       "9c3e54bfcdf0b19771a7f523ee5669cdf59bc7cc0884027167c21bb143a40197"},
      {"get-vanilla-empty-query-key", SuiteRequest("GET", "/", {{"Param1", "value1"}}),
       "a67d582fa61cc504c4bae71f336f98b97f1ea3c7a6bfe1b6e45aec72011b9aeb"},
      {"get-vanilla-utf8-query", SuiteRequest("GET", "/", {{"\u1234", "bar"}}),
       "2cdec8eed098649ff3a119c94853b13c643bcf08f8b0a1d91e12c9027818dd04"},
      {"get-utf8", SuiteRequest("GET", "/\u1234"), "8318018e0b0f223aa2bbf98705b62bb787dc9c0e678f255a891fd03141be5d85"},
      {"get-unreserved", SuiteRequest("GET", "/" + unreserved),
       "07ef7494c76fa4850883e2b006601f940f8a34d404d0cfa977f52a65bbf5f24f"},
      {"get-space-unnormalized", SuiteRequest("GET", "/example space/"),
       "652487583200325589f1fba4c7e578f72c47cb61beeca81406b39ddec1366741"},
      {"get-slash-unnormalized", SuiteRequest("GET", "//"),
       "c88bcd3d312d75078c0cd961d6deae3f4c754924b01669efcfcb439fd5e5b76e"},
      {"get-slashes-unnormalized", SuiteRequest("GET", "//example//"),
       "87cca117541a147f6df867677d98a7d80dff226d2bfca9e4ffa899665623c7e5"},
      {"get-slash-dot-slash-unnormalized", SuiteRequest("GET", "/./"),
       "68714168e6557f8f2de0ef956fc24dc2593a4bd2961f8df51898d8a134695145"},
      {"get-slash-pointless-dot-unnormalized", SuiteRequest("GET", "/./example"),
       "beb03f223f7deae4146464f06e29eebbee9c8afbe15c290cf07aa8b119e14cff"},
      {"get-relative-unnormalized", SuiteRequest("GET", "/example/.."),
       "eca7ead57bb5aa5c8e28007acd4ff04e1ff9a0ff3b237ec1554a184887ff9282"},
      {"get-relative-relative-unnormalized", SuiteRequest("GET", "/example1/example2/../.."),
       "dc33e0856fd4baca4d7aa2146c38958283844764f38c74252a333df5e613003b"},
      {"get-header-value-trim",
       SuiteRequest("GET", "/", {}, {{"My-Header1", " value1"}, {"My-Header2", " \"a   b   c\""}}),
       "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736"},
      {"post-vanilla", SuiteRequest("POST"), "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"},
      {"post-vanilla-query", SuiteRequest("POST", "/", {{"Param1", "value1"}}),
       "28038455d6de14eafc1f9222cf5aa6f1a96197d7deb8263271d420d138af7f11"},
      {"post-header-key-sort", SuiteRequest("POST", "/", {}, {{"My-Header1", "value1"}}),
       "c5410059b04c1ee005303aed430f6e6645f61f4dc9e1461ec8f8916fdf18852c"},
      {"post-header-value-case", SuiteRequest("POST", "/", {}, {{"My-Header1", "VALUE1"}}),
       "cdbc9802e29d2942e5e10b5bccfdd67c5f22c7c4e8ae67b53629efa58b974b7d"},
  };
  SigV4Signer signer(SuiteCredentials(), "us-east-1", "service");
  for (const auto& c : cases) EXPECT_EQ(Signature(signer, c.request, kSuiteTime), c.signature) << c.name;
}

TEST(SigV4, TestSuiteWithBody) {
  const std::string hash = Sha256Hex(AsBytes("Param1=value1"));
  SignableRequest request = SuiteRequest("POST", "/", {},
                                         {{"Content-Type", "application/x-www-form-urlencoded"},
                                          {"Content-Length", "13"},
                                          {"x-amz-content-sha256", hash}});
  request.payload_sha256 = hash;
  SigV4Signer signer(SuiteCredentials(), "us-east-1", "service");
  EXPECT_EQ(Signature(signer, request, kSuiteTime), "d3875051da38690788ef43de4db0d8f280229d82040bfac253562e56c3f20e0b");
}

TEST(SigV4, TestSuiteSessionToken) {
  SigV4Signer post(SuiteCredentials(kSuiteToken), "us-east-1", "service");
  const std::map<std::string, std::string> headers = Signed(post, SuiteRequest("POST"), kSuiteTime);
  EXPECT_EQ(headers.at("x-amz-security-token"), kSuiteToken);
  EXPECT_EQ(headers.at("Authorization"),
            "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, "
            "SignedHeaders=host;x-amz-date;x-amz-security-token, "
            "Signature=85d96828115b5dc0cfc3bd16ad9e210dd772bbebba041836c64533a82be05ead");

  SigV4Signer get(SuiteCredentials("6e86291e8372ff2a2260956d9b8aae1d763fbf315fa00fa31553b73ebf194267"), "us-east-1",
                  "service");
  EXPECT_EQ(Signature(get, SuiteRequest("GET"), kSuiteTime),
            "07ec1639c89043aa0e3e2de82b96708f198cceab042d4a97044c66dd9f74e7f8");
}

// "Signature Calculations for the Authorization Header: Transferring Payload in a Single Chunk"
TEST(SigV4, S3ApiReference) {
  SignableRequest put = ExampleRequest(
      "PUT", "/test$file.text", {},
      {{"Date", "Fri, 24 May 2013 00:00:00 GMT"}, {"x-amz-storage-class", "REDUCED_REDUNDANCY"}});
  put.payload_sha256 = Sha256Hex(AsBytes("Welcome to Amazon S3."));
  EXPECT_EQ(put.payload_sha256, "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072");

  const struct {
    std::string name;
    SignableRequest request;
    std::string signature;
  } cases[] = {
      {"GET Object", ExampleRequest("GET", "/test.txt", {}, {{"Range", "bytes=0-9"}}),
       "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"},
      {"PUT Object", put, "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd"},
      {"GET Bucket Lifecycle", ExampleRequest("GET", "/", {{"lifecycle", ""}}),
       "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"},
      {"GET Bucket (List Objects)", ExampleRequest("GET", "/", {{"prefix", "J"}, {"max-keys", "2"}}),
       "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"},
  };
  SigV4Signer signer(ExampleCredentials(), "us-east-1", "s3");
  for (const auto& c : cases) EXPECT_EQ(Signature(signer, c.request, kExampleTime), c.signature) << c.name;
}

TEST(SigV4, HeadersToAdd) {
  SigV4Signer signer(ExampleCredentials(), "us-east-1", "s3");
  NameValues headers = {{"left", "over"}};
  ASSERT_OK(signer.Sign(ExampleRequest("GET", "/test.txt", {}, {{"Range", "bytes=0-9"}}), kExampleTime, &headers));
  const NameValues expected = {
      {"x-amz-date", "20130524T000000Z"},
      {"x-amz-content-sha256", kEmptySha256},
      {"Authorization",
       "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request, "
       "SignedHeaders=host;range;x-amz-content-sha256;x-amz-date, "
       "Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"},
  };
  EXPECT_EQ(headers, expected);
}

TEST(SigV4, UnsignedPayload) {
  SigV4Signer signer(ExampleCredentials(), "us-east-1", "s3");
  SignableRequest request = ExampleRequest("PUT", "/key");
  const std::string signature = Signature(signer, request, kExampleTime);
  request.payload_sha256 = kUnsignedPayload;
  EXPECT_EQ(Signed(signer, request, kExampleTime)["x-amz-content-sha256"], "UNSIGNED-PAYLOAD");
  EXPECT_NE(Signature(signer, request, kExampleTime), signature);
}

// Headers sort by their whole name, also when one is the beginning of another, and whatever their case.
TEST(SigV4, OrderOfHeaders) {
  SigV4Signer signer(ExampleCredentials(), "us-east-1", "s3");
  const NameValues ascending = {
      {"if-none-match", "*"}, {"x-amz-meta-a", "1"}, {"x-amz-meta-a-b", "2"}, {"X-Amz-Meta-B", "3"}};
  const std::string authorization =
      Authorization(signer, ExampleRequest("PUT", "/key", {}, ascending), kExampleTime);
  EXPECT_NE(authorization.find("SignedHeaders=host;if-none-match;x-amz-content-sha256;x-amz-date;"
                               "x-amz-meta-a;x-amz-meta-a-b;x-amz-meta-b,"),
            std::string::npos)
      << authorization;
  const NameValues descending(ascending.rbegin(), ascending.rend());
  EXPECT_EQ(Authorization(signer, ExampleRequest("PUT", "/key", {}, descending), kExampleTime), authorization);
}

// What is signed is every part of the request.
TEST(SigV4, EveryPartCounts) {
  const SignableRequest request = ExampleRequest("GET", "/key", {{"a", "b"}}, {{"range", "bytes=0-9"}});
  SigV4Signer signer(ExampleCredentials(), "us-east-1", "s3");
  const std::string signature = Signature(signer, request, kExampleTime);

  SignableRequest changed = request;
  changed.method = "PUT";
  EXPECT_NE(Signature(signer, changed, kExampleTime), signature);
  changed = request;
  changed.host += ":8080";
  EXPECT_NE(Signature(signer, changed, kExampleTime), signature);
  changed = request;
  changed.path = "/kez";
  EXPECT_NE(Signature(signer, changed, kExampleTime), signature);
  changed = request;
  changed.query[0].second = "c";
  EXPECT_NE(Signature(signer, changed, kExampleTime), signature);
  changed = request;
  changed.headers[0].second = "bytes=0-8";
  EXPECT_NE(Signature(signer, changed, kExampleTime), signature);
  EXPECT_NE(Signature(signer, request, kExampleTime + 1s), signature);

  AwsCredentials credentials = ExampleCredentials();
  credentials.secret_access_key.back() ^= 1;
  SigV4Signer wrong_secret(credentials, "us-east-1", "s3");
  EXPECT_NE(Signature(wrong_secret, request, kExampleTime), signature);
  SigV4Signer wrong_region(ExampleCredentials(), "us-east-2", "s3");
  EXPECT_NE(Signature(wrong_region, request, kExampleTime), signature);
}

// The signing key is that of the day in UTC, and found again when the clock goes back.
TEST(SigV4, KeyOfTheDay) {
  const SignableRequest request = ExampleRequest("GET", "/key");
  const system_clock::time_point before = kExampleTime - 1ms;
  SigV4Signer signer(ExampleCredentials(), "us-east-1", "s3");
  for (const auto& [time, day, stamp] : {std::tuple(before, "20130523", "20130523T235959Z"),
                                         std::tuple(kExampleTime, "20130524", "20130524T000000Z"),
                                         std::tuple(kExampleTime + 24h - 1ms, "20130524", "20130524T235959Z"),
                                         std::tuple(before, "20130523", "20130523T235959Z"),
                                         std::tuple(system_clock::time_point(sys_days{2024y / 2 / 29} + 1h), "20240229",
                                                    "20240229T010000Z")}) {
    std::map<std::string, std::string> headers = Signed(signer, request, time);
    EXPECT_EQ(headers["x-amz-date"], stamp);
    EXPECT_NE(headers["Authorization"].find(std::string("/") + day + "/us-east-1/s3/"), std::string::npos) << day;
    // A signer without a cached key agrees.
    SigV4Signer fresh(ExampleCredentials(), "us-east-1", "s3");
    EXPECT_EQ(headers["Authorization"], Authorization(fresh, request, time)) << stamp;
  }
}

TEST(SigV4, ControlCharactersAreRefused) {
  const std::string secret = "wJalrXUtnFEMI/K7MDENG";
  const SignableRequest request = ExampleRequest("GET", "/");
  NameValues headers;
  for (const std::string& bad :
       {std::string("a\nb"), std::string("a\r\nx-evil: b"), std::string("a\0b", 3), std::string("\x7f")}) {
    SigV4Signer id({bad, secret, ""}, "us-east-1", "s3");
    EXPECT_TRUE(Fails(id.Sign(request, kExampleTime, &headers), StatusCode::kInvalid, {"credentials"}));
    SigV4Signer token({"AKID", secret, bad}, "us-east-1", "s3");
    EXPECT_TRUE(Fails(token.Sign(request, kExampleTime, &headers), StatusCode::kInvalid, {"credentials"}));
    SigV4Signer region({"AKID", secret, ""}, bad, "s3");
    EXPECT_TRUE(Fails(region.Sign(request, kExampleTime, &headers), StatusCode::kInvalid, {"region"}));
    SigV4Signer header({"AKID", secret, ""}, "us-east-1", "s3");
    const Status status = header.Sign(ExampleRequest("GET", "/", {}, {{"range", bad}}), kExampleTime, &headers);
    EXPECT_TRUE(Fails(status, StatusCode::kInvalid, {"header"}));
    EXPECT_EQ(status.message().find(bad), std::string::npos);
  }
}

TEST(AwsCredentials, AreWiped) {
  alignas(AwsCredentials) std::byte memory[sizeof(AwsCredentials)];
  // Short enough to be inside the string itself, where it can be looked for afterwards.
  auto* credentials = new (memory) AwsCredentials{"id", "secret", "token"};
  const auto holds = [&](std::string_view word) { return Text(memory).find(word) != std::string::npos; };
  ASSERT_TRUE(holds("secret") && holds("token"));
  credentials->secret_access_key = "s";
  credentials->~AwsCredentials();
  EXPECT_FALSE(holds("ecret"));
  EXPECT_FALSE(holds("token"));
}

TEST(UriEncode, OddKeys) {
  const struct {
    std::string decoded, in_path, in_query;
  } cases[] = {
      {"", "", ""},
      {"/", "/", "%2F"},
      {"a/b", "a/b", "a%2Fb"},
      {"a//b", "a//b", "a%2F%2Fb"},
      {"a/./b/../c", "a/./b/../c", "a%2F.%2Fb%2F..%2Fc"},
      {"with space", "with%20space", "with%20space"},
      {"plus+sign", "plus%2Bsign", "plus%2Bsign"},
      {"100%", "100%25", "100%25"},
      {"100%25", "100%2525", "100%2525"},
      {"tilde~.-_", "tilde~.-_", "tilde~.-_"},
      {"it's \"quoted\"", "it%27s%20%22quoted%22", "it%27s%20%22quoted%22"},
      {"a=b&c=d", "a%3Db%26c%3Dd", "a%3Db%26c%3Dd"},
      {"user@host:1", "user%40host%3A1", "user%40host%3A1"},
      {"?query#fragment", "%3Fquery%23fragment", "%3Fquery%23fragment"},
      {"!*'();,$", "%21%2A%27%28%29%3B%2C%24", "%21%2A%27%28%29%3B%2C%24"},
      {"[{<|\\^`>}]", "%5B%7B%3C%7C%5C%5E%60%3E%7D%5D", "%5B%7B%3C%7C%5C%5E%60%3E%7D%5D"},
      {"\u00fc\u20ac\U0001f600", "%C3%BC%E2%82%AC%F0%9F%98%80", "%C3%BC%E2%82%AC%F0%9F%98%80"},
      {"\x80\xff", "%80%FF", "%80%FF"},
      {std::string("\0\n\t\x7f", 4), "%00%0A%09%7F", "%00%0A%09%7F"},
  };
  for (const auto& c : cases) {
    EXPECT_EQ(UriEncode(c.decoded, true), c.in_path);
    EXPECT_EQ(UriEncode(c.decoded, false), c.in_query);
    EXPECT_EQ(CanonicalQuery({{"prefix", c.decoded}}), "prefix=" + c.in_query);
    EXPECT_EQ(CanonicalQuery({{c.decoded, ""}}), c.in_query + "=");
  }
}

TEST(CanonicalQuery, Order) {
  EXPECT_EQ(CanonicalQuery({}), "");
  EXPECT_EQ(CanonicalQuery({{"uploads", ""}}), "uploads=");
  EXPECT_EQ(CanonicalQuery({{"prefix", "a/b"}, {"list-type", "2"}, {"continuation-token", "x+/=="}}),
            "continuation-token=x%2B%2F%3D%3D&list-type=2&prefix=a%2Fb");
  EXPECT_EQ(CanonicalQuery({{"a", "2"}, {"a", "1"}, {"a", ""}}), "a=&a=1&a=2");
  // '=' sorts after '-' and '%' before all letters: it is the encoded names that count, not the whole text.
  EXPECT_EQ(CanonicalQuery({{"a-b", "1"}, {"a", "2"}, {"B", "3"}, {"\u00fc", "4"}}), "%C3%BC=4&B=3&a=2&a-b=1");
}

TEST(RequestTarget, IsWhatIsSigned) {
  SignableRequest request = ExampleRequest("GET", "/bucket/a b");
  EXPECT_EQ(RequestTarget(request), "/bucket/a%20b");
  request.query = {{"uploads", ""}, {"prefix", "x/"}};
  EXPECT_EQ(RequestTarget(request), "/bucket/a%20b?prefix=x%2F&uploads=");
}

TEST(Sha256Hex, KnownDigests) {
  EXPECT_EQ(Sha256Hex({}), kEmptySha256);
  EXPECT_EQ(Sha256Hex(AsBytes("abc")), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

}  // namespace
}  // namespace ivfremote

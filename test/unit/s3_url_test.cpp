#include "core/s3_store.h"
#include "support.h"

namespace ivfremote {
namespace {

TEST(ParseS3Url, BucketAndPrefix) {
  const struct {
    const char *url, *bucket, *prefix;
  } cases[] = {
      {"s3://bucket", "bucket", ""},
      {"s3://bucket/", "bucket", ""},
      {"s3://bucket///", "bucket", ""},
      {"s3://bucket/prefix", "bucket", "prefix"},
      {"s3://bucket/prefix/", "bucket", "prefix"},
      {"s3://bucket/a/b c/\u00fc%20", "bucket", "a/b c/\u00fc%20"},
      {"s3://my.bucket-1_2/a", "my.bucket-1_2", "a"},
      {"s3://abc", "abc", ""},
      {"s3://a23456789012345678901234567890123456789012345678901234567890123/x",
       "a23456789012345678901234567890123456789012345678901234567890123", "x"},
  };
  for (const auto& c : cases) {
    S3Location location;
    EXPECT_OK(ParseS3Url(c.url, &location)) << c.url;
    EXPECT_EQ(location.bucket, c.bucket) << c.url;
    EXPECT_EQ(location.prefix, c.prefix) << c.url;
  }
}

TEST(ParseS3Url, Refused) {
  for (const char* url : {"", "s3:", "s3://", "s3:///", "s3:///prefix", "s3:/bucket", "S3://bucket", "http://bucket", "bucket", "s3://ab",
                          "s3://Bucket", "s3://buck et", "s3://bucket:80/x", "s3://user@bucket", "s3://bucket?x", "s3://bucket#x",
                          "s3://a234567890123456789012345678901234567890123456789012345678901234", "s3://bucket//prefix", "s3://bucket/a//b"}) {
    S3Location location;
    EXPECT_TRUE(Fails(ParseS3Url(url, &location), StatusCode::kInvalid, {"invalid"})) << url;
  }
}

TEST(ParseS3Url, LeavesTheRestAlone) {
  S3Location location;
  location.region = "eu-west-1";
  location.endpoint = "http://127.0.0.1:9000";
  location.virtual_host = false;
  ASSERT_OK(ParseS3Url("s3://bucket/prefix", &location));
  EXPECT_EQ(location.region, "eu-west-1");
  EXPECT_EQ(location.endpoint, "http://127.0.0.1:9000");
  EXPECT_FALSE(location.virtual_host);
}

}  // namespace
}  // namespace ivfremote

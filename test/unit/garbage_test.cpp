// OWNER and GARBAGE objects, and what a collection does with what it finds.
#include "core/garbage.h"

#include "core/owner.h"
#include "support.h"

namespace ivfremote {
namespace {

const Uuid kOwn{1};
const Uuid kOther{2};

SegmentName Named(uint64_t mint_xid, Uuid incarnation = kOwn) { return {incarnation, Uuid{7}, mint_xid, 99}; }
ObjectInfo Object(const SegmentName& name, uint32_t part = 0) { return {FormatObjectKey({name, part}), 10}; }

constexpr int64_t kHour = 3600 * int64_t{1000000};

class Garbage : public testing::Test {
 protected:
  Collection At(uint64_t oldest_running, int64_t now_us, int64_t retention_us = 0) {
    return {kOwn, oldest_running, oldest_running + 10, now_us, retention_us, &marks_};
  }
  std::set<SegmentName> marks_;
};

TEST_F(Garbage, WaitsForTheSecondCollection) {
  GarbageSweep first(At(100, kHour), {});
  const auto found = first.Judge(Object(Named(50)));
  EXPECT_EQ(found.verdict, Verdict::kWaits);
  EXPECT_EQ(found.since_us, kHour);
  EXPECT_EQ(found.bytes, 10u);
  EXPECT_TRUE(first.changed());
  ASSERT_EQ(first.after().size(), 1u);
  EXPECT_EQ(first.after().begin()->second, (GarbageSince{kHour, 110}));

  GarbageSweep second(At(111, kHour + 1), first.after());
  EXPECT_EQ(second.Judge(Object(Named(50))).verdict, Verdict::kDue);
  EXPECT_FALSE(second.changed());
  second.Forget(Object(Named(50)).key);
  EXPECT_TRUE(second.after().empty());
}

TEST_F(Garbage, TransactionsOfTheFirstCollectionMustHaveEnded) {
  GarbageSweep first(At(100, 0), {});
  first.Judge(Object(Named(50)));
  GarbageSweep second(At(110, 1), first.after());
  EXPECT_EQ(second.Judge(Object(Named(50))).verdict, Verdict::kWaits) << "110 is still running";
}

TEST_F(Garbage, RetentionMustHavePassed) {
  GarbageSweep first(At(100, 0, kHour), {});
  first.Judge(Object(Named(50)));
  for (const auto& [now, verdict] : {std::pair{kHour - 1, Verdict::kWaits}, {kHour, Verdict::kDue}, {-kHour, Verdict::kWaits}}) {
    GarbageSweep later(At(200, now, kHour), first.after());
    const auto finding = later.Judge(Object(Named(50)));
    EXPECT_EQ(finding.verdict, verdict) << now;
    EXPECT_EQ(finding.since_us, 0);
  }
}

TEST_F(Garbage, YoungObjectsAreNobodysBusiness) {
  GarbageSweep sweep(At(100, 0), {});
  EXPECT_EQ(sweep.Judge(Object(Named(100))).verdict, Verdict::kKept);
  EXPECT_EQ(sweep.Judge(Object(Named(5000))).verdict, Verdict::kKept);
  EXPECT_EQ(sweep.Judge(Object(Named(99))).verdict, Verdict::kWaits);
}

// Of a cluster that is gone, perhaps with more transaction ids than this one will ever have.
TEST_F(Garbage, AdoptedObjectsAreOld) {
  Collection collection = At(100, kHour);
  collection.adopted = true;
  marks_.insert(Named(7000));
  GarbageSweep first(collection, {});
  EXPECT_EQ(first.Judge(Object(Named(5000))).verdict, Verdict::kWaits);
  EXPECT_EQ(first.Judge(Object(Named(7000))).verdict, Verdict::kKept);
  EXPECT_TRUE(first.IsAbandoned({Object(Named(5000)).key, "id"}));
  collection.oldest_running = 110;
  GarbageSweep running(collection, first.after());
  EXPECT_EQ(running.Judge(Object(Named(5000))).verdict, Verdict::kWaits);
  collection.oldest_running = 111;
  GarbageSweep second(collection, first.after());
  EXPECT_EQ(second.Judge(Object(Named(5000))).verdict, Verdict::kDue);
}

TEST_F(Garbage, MarkedObjectsAreKeptWithAllTheirParts) {
  marks_.insert(Named(50));
  GarbageList before;
  before[Object(Named(50)).key] = {0, 1};
  GarbageSweep sweep(At(100, kHour), before);
  EXPECT_EQ(sweep.Judge(Object(Named(50))).verdict, Verdict::kKept);
  EXPECT_EQ(sweep.Judge(Object(Named(50), 3)).verdict, Verdict::kKept);
  EXPECT_EQ(sweep.Judge(Object(Named(51))).verdict, Verdict::kWaits);
  EXPECT_FALSE(sweep.after().contains(Object(Named(50)).key)) << "in use again: its time starts anew";
}

TEST_F(Garbage, OnlyItsOwnIncarnation) {
  GarbageSweep sweep(At(100, 0), {});
  EXPECT_EQ(sweep.Judge(Object(Named(50, kOther))).verdict, Verdict::kUnknown);
  EXPECT_EQ(sweep.Judge({FormatOwnerKey(kOwn), 1}).verdict, Verdict::kKept);
  EXPECT_EQ(sweep.Judge({FormatGarbageKey(kOwn), 1}).verdict, Verdict::kKept);
  EXPECT_EQ(sweep.Judge({FormatIncarnation(kOwn) + "/check/0123.check", 1}).verdict, Verdict::kUnknown);
  EXPECT_EQ(sweep.Judge({Object(Named(50)).key + "x", 1}).verdict, Verdict::kUnknown);
  EXPECT_TRUE(sweep.after().empty());
}

TEST_F(Garbage, WhatIsGoneIsForgotten) {
  GarbageList before;
  before[Object(Named(50)).key] = {0, 1};
  GarbageSweep sweep(At(100, kHour), before);
  EXPECT_TRUE(sweep.changed());
  EXPECT_TRUE(sweep.after().empty());
}

TEST_F(Garbage, AbandonedUploads) {
  GarbageSweep sweep(At(100, 0), {});
  EXPECT_TRUE(sweep.IsAbandoned({Object(Named(99), 1).key, "id"}));
  EXPECT_FALSE(sweep.IsAbandoned({Object(Named(100)).key, "id"}));
  EXPECT_FALSE(sweep.IsAbandoned({Object(Named(99, kOther)).key, "id"}));
  EXPECT_FALSE(sweep.IsAbandoned({FormatOwnerKey(kOwn), "id"}));
}

TEST_F(Garbage, ListIsReadAsWritten) {
  GarbageList list;
  EXPECT_OK(DecodeGarbage(EncodeGarbage(list), &list));
  EXPECT_TRUE(list.empty());
  list["a/b c"] = {-1, UINT64_MAX};
  list[Object(Named(5)).key] = {kHour, 7};
  const std::string text = EncodeGarbage(list);
  GarbageList read;
  ASSERT_OK(DecodeGarbage(text, &read));
  EXPECT_EQ(read, list);
  for (size_t i = 0; i < text.size(); ++i) {
    std::string damaged = text;
    damaged[i] ^= 1;
    EXPECT_TRUE(Fails(DecodeGarbage(damaged, &read), StatusCode::kCorrupt)) << i;
    EXPECT_TRUE(Fails(DecodeGarbage(text.substr(0, i), &read), StatusCode::kCorrupt)) << i;
  }
  EXPECT_TRUE(Fails(DecodeGarbage(text + text, &read), StatusCode::kCorrupt));
}

// Formats are frozen: docs/format.md.
TEST_F(Garbage, ListOfVersion1) {
  const std::string text =
      "ivfremote garbage 1\n"
      "1767225600000000 745 01000000000000000000000000000000/07000000-0000-0000-0000-000000000000/0000000000000032-0000000000000063.seg\n"
      "end 1149640562\n";
  GarbageList list;
  ASSERT_OK(DecodeGarbage(text, &list));
  ASSERT_EQ(list.size(), 1u);
  EXPECT_EQ(list.begin()->first, Object(Named(50)).key);
  EXPECT_EQ(list.begin()->second, (GarbageSince{1767225600000000, 745}));
  EXPECT_EQ(EncodeGarbage(list), text);
}

// -- OWNER

const Owner kOwner{"main", "7300000000000000001", "db\"1", "/var/lib/pg", "1.0", "2026-01-02 03:04:05Z", UINT64_MAX, "0123456789abcdef0123456789abcdef"};

TEST(OwnerObject, IsReadAsWritten) {
  Owner read;
  ASSERT_OK(DecodeOwner(EncodeOwner(kOwner), &read));
  EXPECT_EQ(EncodeOwner(read), EncodeOwner(kOwner));
  EXPECT_EQ(read.host, kOwner.host);
  EXPECT_EQ(read.token, UINT64_MAX);
  EXPECT_EQ(read.nonce, kOwner.nonce);
}

TEST(OwnerObject, OfVersion1) {
  const char* text = R"({
  "what": "the cluster that writes and deletes the ivfremote objects beside this one",
  "cluster_name": "main",
  "system_identifier": "7300000000000000001",
  "host": "db\"1",
  "data_directory": "/var/lib/pg",
  "library": "1.0",
  "written": "2026-01-02 03:04:05Z",
  "token": 18446744073709551615,
  "nonce": "0123456789abcdef0123456789abcdef"
}
)";
  EXPECT_EQ(EncodeOwner(kOwner), text);
}

TEST(OwnerObject, OtherEncodingsDoNotMatter) {
  Owner owner = kOwner;
  owner.host = "b\xe4r";
  ASSERT_OK(DecodeOwner(EncodeOwner(owner), &owner));
}

TEST(OwnerObject, ANewerLibraryMayAddMembers) {
  Owner read;
  ASSERT_OK(DecodeOwner(R"({"added": [1], "token": 3, "nonce": "0123456789abcdef0123456789abcdef"})", &read));
  EXPECT_EQ(read.token, 3u);
  EXPECT_EQ(read.host, "");
}

TEST(OwnerObject, DamagedOnes) {
  Owner read;
  for (const char* text :
       {"", "{", "[]", "{}", "null", R"({"token": 3})", R"({"token": -3, "nonce": "0123456789abcdef0123456789abcdef"})",
        R"({"token": "3", "nonce": "0123456789abcdef0123456789abcdef"})", R"({"token": 3, "nonce": "0123456789ABCDEF0123456789abcdef"})",
        R"({"token": 3, "nonce": "0123456789abcdef"})", R"({"token": 3, "nonce": 4})"})
    EXPECT_TRUE(Fails(DecodeOwner(text, &read), StatusCode::kCorrupt)) << text;
}

}  // namespace
}  // namespace ivfremote

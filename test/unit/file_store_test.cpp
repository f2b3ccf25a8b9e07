// What a file store promises beyond the contract of every store (object_store_test.cpp).
#include "core/file_store.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>

#include "support.h"
#include "temporary_directory.h"

namespace ivfremote {
namespace {

namespace fs = std::filesystem;

class FileStoreTest : public testing::Test {
 protected:
  // Everything that is not a directory, temporary files too.
  std::vector<std::string> Files() const {
    std::vector<std::string> files;
    for (const auto& entry : fs::recursive_directory_iterator(directory_.path()))
      if (!entry.is_directory()) files.push_back(entry.path().lexically_relative(directory_.path()));
    return files;
  }

  Status ReadStatus(std::string_view key) {
    std::string text;
    return Get(&store_, key, 0, 1, &text);
  }

  void WriteFile(const std::string& name, const std::string& text) {
    std::ofstream(directory_.path() + "/" + name) << text;
  }

  TemporaryDirectory directory_;
  const std::string root_ = directory_.path() + "/deep/root";
  FileStore store_{root_};
};

using Strings = std::vector<std::string>;

TEST_F(FileStoreTest, RootIsCreatedWithTheFirstObject) {
  EXPECT_EQ(Keys(&store_), Strings{});
  EXPECT_FALSE(fs::exists(root_));
  ASSERT_OK(Put(&store_, "a/b/c", "hello"));
  EXPECT_EQ(Files(), Strings{"deep/root/a/b/c"});
}

TEST_F(FileStoreTest, OnlyTheOwnerMayRead) {
  ASSERT_OK(Put(&store_, "a/b", "hello"));
  for (const char* name : {"", "/a", "/a/b"}) {
    struct stat info;
    ASSERT_EQ(stat((root_ + name).c_str(), &info), 0);
    EXPECT_EQ(info.st_mode & 0077, 0u) << name;
  }
}

TEST_F(FileStoreTest, NoTemporaryFileStaysBehind) {
  std::unique_ptr<Upload> upload;
  ASSERT_OK(store_.Create("a/b", &upload));
  ASSERT_OK(upload->Append(AsBytes("hello")));
  EXPECT_EQ(Files().size(), 1u);
  upload.reset();
  EXPECT_EQ(Files(), Strings{}) << "after an abort";

  ASSERT_OK(Put(&store_, "a/b", "hello"));
  EXPECT_EQ(Files(), Strings{"deep/root/a/b"}) << "after success";

  fs::remove(root_ + "/a/b");
  ASSERT_OK(store_.Create("a/b", &upload));
  ASSERT_OK(Put(&store_, "a/b", "hello"));
  EXPECT_TRUE(Fails(Complete(upload.get()), StatusCode::kAlreadyExists));
  upload.reset();
  EXPECT_EQ(Files(), Strings{"deep/root/a/b"}) << "after losing a race";
}

TEST_F(FileStoreTest, TemporaryFileOfACrashIsNoObject) {
  ASSERT_OK(Put(&store_, "a/b", "hello"));
  WriteFile("deep/root/a/.c.123.0.tmp", "half an obj");
  EXPECT_EQ(Keys(&store_), Strings{"a/b"});
  EXPECT_TRUE(Fails(ReadStatus("a/.c.123.0.tmp"), StatusCode::kInvalid));
  ASSERT_OK(Put(&store_, "a/c", "hello"));
}

TEST_F(FileStoreTest, HiddenDirectoriesHoldNoObjects) {
  ASSERT_OK(Put(&store_, "a/b", "hello"));
  fs::create_directory(root_ + "/.snapshot");
  WriteFile("deep/root/.snapshot/x", "of the file system");
  EXPECT_EQ(Keys(&store_), Strings{"a/b"});
}

TEST_F(FileStoreTest, KeysThatAreNoNames) {
  WriteFile("secret", "outside the root");
  const std::string keys[] = {"",
                              "/",
                              "/a",
                              "a/",
                              "a//b",
                              ".",
                              "..",
                              "../secret",
                              "a/..",
                              "a/../b",
                              "a/./b",
                              ".hidden",
                              "a/.hidden/b",
                              "...",
                              "../../secret",
                              "/etc/passwd",
                              std::string("a\0b", 3),
                              std::string("a/\0", 3)};
  for (const std::string& key : keys) {
    std::unique_ptr<Upload> upload;
    EXPECT_TRUE(Fails(store_.Create(key, &upload), StatusCode::kInvalid)) << key;
    EXPECT_TRUE(Fails(Delete(&store_, {key}), StatusCode::kInvalid)) << key;
    EXPECT_TRUE(Fails(ReadStatus(key), StatusCode::kInvalid)) << key;
  }
  EXPECT_EQ(Files(), Strings{"secret"});
}

TEST_F(FileStoreTest, DotsInsideNamesAreFine) {
  for (const char* key : {"a.b/c..d", "a./b.", "a/b.seg.1"}) {
    ASSERT_OK(Put(&store_, key, "x"));
    EXPECT_OK(ReadStatus(key)) << key;
  }
}

TEST_F(FileStoreTest, NameThatIsTooLong) {
  EXPECT_TRUE(Fails(Put(&store_, "a/" + std::string(300, 'x'), "x"), StatusCode::kUnavailable));
  EXPECT_TRUE(Fails(ReadStatus("a/" + std::string(300, 'x')), StatusCode::kUnavailable));
}

TEST_F(FileStoreTest, RootBelowARegularFile) {
  WriteFile("file", "not a directory");
  FileStore store(directory_.path() + "/file/root");
  EXPECT_TRUE(Fails(Put(&store, "a/b", "x"), StatusCode::kUnavailable, {"a/b", "Not a directory"}));
  FileStore itself(directory_.path() + "/file");
  EXPECT_TRUE(Fails(Put(&itself, "a/b", "x"), StatusCode::kUnavailable, {"a/b", "Not a directory"}));
  EXPECT_TRUE(Fails(Put(&itself, "a", "x"), StatusCode::kUnavailable, {"Not a directory"}));
}

// Another user than root while it exists: root may write anywhere.
class AsNobody {
 public:
  AsNobody() : was_root_(geteuid() == 0 && seteuid(65534) == 0) {}
  ~AsNobody() {
    if (was_root_ && seteuid(0) != 0) abort();
  }
  bool ok() const { return geteuid() != 0; }

 private:
  bool was_root_;
};

TEST_F(FileStoreTest, RootThatMayNotBeWritten) {
  ASSERT_OK(Put(&store_, "a/b", "x"));
  // Readable for nobody, and writable for none.
  for (const std::string& path : {directory_.path(), directory_.path() + "/deep", root_, root_ + "/a"})
    ASSERT_EQ(chmod(path.c_str(), 0555), 0);
  {
    const AsNobody nobody;
    ASSERT_TRUE(nobody.ok());
    std::unique_ptr<Upload> upload;
    EXPECT_TRUE(Fails(store_.Create("a/c", &upload), StatusCode::kDenied, {"a/c", "Permission denied"}));
    EXPECT_TRUE(Fails(store_.Create("b/c", &upload), StatusCode::kDenied, {"b/c"}));
    EXPECT_TRUE(Fails(Delete(&store_, {"a/b"}), StatusCode::kDenied, {"a/b"}));
  }
  for (const std::string& path : {directory_.path(), directory_.path() + "/deep", root_, root_ + "/a"})
    ASSERT_EQ(chmod(path.c_str(), 0700), 0);
  EXPECT_EQ(Keys(&store_), Strings{"a/b"});
}

TEST_F(FileStoreTest, PrefixThatMayNotBeRead) {
  ASSERT_OK(Put(&store_, "a/b", "x"));
  ASSERT_EQ(chmod((root_ + "/a").c_str(), 0), 0);
  {
    const AsNobody nobody;
    ASSERT_TRUE(nobody.ok());
    EXPECT_TRUE(Fails(ReadStatus("a/b"), StatusCode::kDenied, {"a/b"}));
    std::vector<ObjectInfo> objects;
    EXPECT_TRUE(Fails(List(&store_, "a/", "", 10, &objects), StatusCode::kDenied));
    EXPECT_TRUE(objects.empty());
  }
  ASSERT_EQ(chmod((root_ + "/a").c_str(), 0700), 0);
}

// A limit on the size of files stands for a full disk: both are kNoSpace, and need no root to arrange.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(rlim_t bytes) : old_handler_(signal(SIGXFSZ, SIG_IGN)) {
    getrlimit(RLIMIT_FSIZE, &old_);
    const rlimit limit{bytes, old_.rlim_max};
    setrlimit(RLIMIT_FSIZE, &limit);
  }
  ~FileSizeLimit() {
    setrlimit(RLIMIT_FSIZE, &old_);
    signal(SIGXFSZ, old_handler_);
  }

 private:
  rlimit old_;
  void (*old_handler_)(int);
};

// A file system's lost+found beside the objects does not matter; what is among them does.
TEST_F(FileStoreTest, DirectoriesThatMayNotBeRead) {
  ASSERT_OK(Put(&store_, "a/b", "x"));
  for (const std::string& path : {directory_.path(), directory_.path() + "/deep", root_, root_ + "/a"})
    ASSERT_EQ(chmod(path.c_str(), 0755), 0);
  for (const char* name : {"/lost+found", "/a/c"}) ASSERT_EQ(mkdir((root_ + name).c_str(), 0), 0);
  {
    const AsNobody nobody;
    ASSERT_TRUE(nobody.ok());
    std::vector<ObjectInfo> objects;
    EXPECT_TRUE(Fails(List(&store_, "a/", "", 10, &objects), StatusCode::kDenied));
    ASSERT_OK(List(&store_, "", "", 10, &objects));
    EXPECT_EQ(objects.size(), 1u);
  }
  ASSERT_EQ(rmdir((root_ + "/a/c").c_str()), 0);
  {
    const AsNobody nobody;
    std::vector<ObjectInfo> objects;
    ASSERT_OK(List(&store_, "a/", "", 10, &objects));
    EXPECT_EQ(objects.size(), 1u);
  }
  ASSERT_EQ(rmdir((root_ + "/lost+found").c_str()), 0);
}

TEST_F(FileStoreTest, NoSpace) {
  std::unique_ptr<Upload> upload;
  ASSERT_OK(store_.Create("a/b", &upload));
  {
    const FileSizeLimit limit(4096);
    EXPECT_OK(upload->Append(AsBytes(std::string(4000, 'x'))));
    EXPECT_TRUE(Fails(upload->Append(AsBytes(std::string(4000, 'x'))), StatusCode::kNoSpace, {"a/b"}));
  }
  upload.reset();
  EXPECT_EQ(Files(), Strings{});
}

TEST_F(FileStoreTest, TwoStoresOfOneRoot) {
  FileStore other(root_);
  ASSERT_OK(Put(&store_, "a/b", "hello"));
  EXPECT_TRUE(Fails(Put(&other, "a/b", "x"), StatusCode::kAlreadyExists));
  std::string text;
  ASSERT_OK(Get(&other, "a/b", 0, 5, &text));
  EXPECT_EQ(text, "hello");
}

TEST_F(FileStoreTest, ObjectThatShrinksWhileItIsRead) {
  ASSERT_OK(Put(&store_, "a/b", std::string(4 << 20, 'x')));
  std::unique_ptr<RangeWave> wave;
  ASSERT_OK(store_.GetRanges({{"a/b", 0, 4 << 20}}, 1, &wave));
  std::vector<RangeCompletion> completions;
  ASSERT_OK(wave->Step(Past(), &completions));
  ASSERT_TRUE(completions.empty()) << "a step read it all past its deadline";
  fs::resize_file(root_ + "/a/b", 1 << 20);
  while (completions.empty()) ASSERT_OK(wave->Step(Later(), &completions));
  EXPECT_TRUE(Fails(completions[0].status, StatusCode::kCorrupt, {"a/b", "1048576 bytes"}));
}

// An abandoned wave, upload or failed read must not keep files open: a backend lives long.
TEST_F(FileStoreTest, NoFileStaysOpen) {
  const auto open_files = [] {
    return std::distance(fs::directory_iterator("/proc/self/fd"), fs::directory_iterator());
  };
  ASSERT_OK(Put(&store_, "a/b", std::string(4 << 20, 'x')));
  const auto before = open_files();
  for (int i = 0; i < 3; ++i) {
    std::unique_ptr<RangeWave> wave;
    ASSERT_OK(store_.GetRanges({{"a/b", 0, 4 << 20}}, 1, &wave));
    std::vector<RangeCompletion> completions;
    ASSERT_OK(wave->Step(Past(), &completions));
    wave.reset();
    std::unique_ptr<Upload> upload;
    ASSERT_OK(store_.Create("a/c", &upload));
    upload.reset();
    std::string text;
    EXPECT_FALSE(Get(&store_, "a/b", 4 << 20, 1, &text).ok());
    ASSERT_OK(Put(&store_, "c/" + std::to_string(i), "x"));
    EXPECT_FALSE(Put(&store_, "c/0", "x").ok());
    Keys(&store_);
  }
  EXPECT_EQ(open_files(), before);
}

}  // namespace
}  // namespace ivfremote

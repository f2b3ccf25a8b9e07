// Reads the file of an index without Postgres, as src/pg does with buffers: for golden files, and for the fuzzer.
#pragma once

#include <span>
#include <vector>

#include "core/little_endian.h"
#include "core/page_format.h"

namespace ivfremote {

class IndexFile {
 public:
  struct Pending {
    PendingRow row;
    std::vector<std::byte> code;
  };

  // `file` must outlive this.
  explicit IndexFile(Bytes file) : file_(file) {}

  uint32_t blocks() const { return static_cast<uint32_t>(file_.size() / kPageBytes); }
  Bytes Payload(uint32_t block) const { return file_.subspan(block * kPageBytes + kPageHeaderBytes, kPayloadBytes); }
  PageSpecial Special(uint32_t block) const {
    return Load<PageSpecial>(file_.data() + (block + size_t{1}) * kPageBytes - sizeof(PageSpecial));
  }

  Status Check(uint32_t block, PageKind kind, uint64_t owner) const {
    if (block >= blocks()) return Status::Corrupt("a page is missing");
    return CheckPage(Special(block), kind, owner);
  }

  Status ReadMeta(MetaPage* meta) const {
    IVFREMOTE_RETURN_IF_ERROR(Check(0, PageKind::kMeta, 0));
    return DecodeMetaPage(Payload(0), meta);
  }

  // The leaves of a tree, in order.
  Status FindLeaves(uint64_t owner, const StreamRef& ref, std::vector<uint32_t>* leaves) const {
    if (ref.root == kNoBlock) return Status::Ok();
    if (leaves->size() > blocks()) return Status::Corrupt("more leaves than pages");
    if (ref.depth == 0) {
      leaves->push_back(ref.root);
      return Status::Ok();
    }
    IVFREMOTE_RETURN_IF_ERROR(Check(ref.root, PageKind::kTree, owner));
    const PageSpecial special = Special(ref.root);
    if (special.position != ref.depth || special.used == 0) return Status::Corrupt("inner page is out of place");
    for (uint32_t i = 0; i < special.used; ++i) {
      const auto entry = Load<TreeEntry>(Payload(ref.root).data() + i * sizeof(TreeEntry));
      IVFREMOTE_RETURN_IF_ERROR(FindLeaves(owner, {entry.block, ref.depth - 1, ref.bytes}, leaves));
    }
    return Status::Ok();
  }

  Status ReadStream(uint64_t owner, const StreamRef& ref, std::vector<std::byte>* bytes) const {
    std::vector<uint32_t> leaves;
    IVFREMOTE_RETURN_IF_ERROR(FindLeaves(owner, ref, &leaves));
    for (uint32_t i = 0; i < leaves.size(); ++i) {
      IVFREMOTE_RETURN_IF_ERROR(Check(leaves[i], PageKind::kStream, owner));
      const PageSpecial special = Special(leaves[i]);
      if (special.position != i || (i + 1 < leaves.size() && special.used != kPayloadBytes))
        return Status::Corrupt("page of a stream is out of place");
      const Bytes payload = Payload(leaves[i]).first(special.used);
      bytes->insert(bytes->end(), payload.begin(), payload.end());
    }
    return bytes->size() == ref.bytes ? Status::Ok() : Status::Corrupt("a stream ends too early");
  }

  // Live TIDs, in order.
  Status ReadTidMap(uint64_t owner, const StreamRef& ref, std::vector<Tid>* tids) const {
    std::vector<uint32_t> leaves;
    IVFREMOTE_RETURN_IF_ERROR(FindLeaves(owner, ref, &leaves));
    for (uint32_t block : leaves) {
      IVFREMOTE_RETURN_IF_ERROR(Check(block, PageKind::kTidMap, owner));
      std::vector<std::byte> payload(Payload(block).begin(), Payload(block).end());
      IVFREMOTE_RETURN_IF_ERROR(CheckTidMapPage(payload, Special(block).used));
      VisitTidMap(payload, Special(block).used, [tids](Tid tid) {
        tids->push_back(tid);
        return false;
      });
    }
    return Status::Ok();
  }

  // Chain by chain, dead rows included.
  Status ReadPending(const MetaPage& meta, const PendingGeneration& generation, std::vector<Pending>* rows) const {
    if (generation.id == 0 || meta.dimensions == 0) return Status::Ok();
    std::vector<uint32_t> directory;
    IVFREMOTE_RETURN_IF_ERROR(
        FindLeaves(generation.id, {generation.directory_root, generation.directory_depth, 1}, &directory));
    const PendingLayout layout = PendingLayoutFor(meta.FormatOf(generation), generation.row_bytes);
    uint32_t groups = 0;
    for (uint32_t leaf : directory) {
      IVFREMOTE_RETURN_IF_ERROR(Check(leaf, PageKind::kPendingDirectory, generation.id));
      for (uint32_t i = 0; i < Special(leaf).used; ++i, ++groups)
        if (groups < generation.group_count)  // then comes the chain of the sample
          IVFREMOTE_RETURN_IF_ERROR(ReadChain(generation.id, layout,
                                              Load<PendingChain>(Payload(leaf).data() + i * sizeof(PendingChain)), rows));
    }
    return groups == generation.group_count + (generation.sampled() ? 1 : 0) ? Status::Ok() : Status::Corrupt("a pending chain has no directory");
  }

 private:
  Status ReadChain(uint64_t owner, const PendingLayout& layout, const PendingChain& chain,
                   std::vector<Pending>* rows) const {
    uint32_t block = chain.head;
    for (uint32_t position = 0; block != kNoBlock; block = Special(block).next) {
      IVFREMOTE_RETURN_IF_ERROR(Check(block, PageKind::kPending, owner));
      IVFREMOTE_RETURN_IF_ERROR(CheckPendingPage(layout, Special(block), &position));
      for (uint32_t i = 0; i < Special(block).used; ++i) {
        const std::byte* at = Payload(block).data() + layout.RowOffset(i);
        Pending pending{Load<PendingRow>(at), {}};
        const std::byte* code = at + sizeof(PendingRow);
        if ((pending.row.flags & PendingRow::kDead) != 0) {
          // Its stream may be gone.
        } else if (layout.wide) {
          const auto ref = Load<StreamRef>(code);
          if (ref.bytes != layout.code_bytes || ref.depth > 4) return Status::Corrupt("a pending row has no code");
          IVFREMOTE_RETURN_IF_ERROR(ReadStream(owner, ref, &pending.code));
        } else {
          pending.code.assign(code, code + layout.code_bytes);
        }
        rows->push_back(std::move(pending));
      }
    }
    return Status::Ok();
  }

  Bytes file_;
};

}  // namespace ivfremote

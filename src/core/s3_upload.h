// Writing an object to an S3 store. Used by s3_store.cpp only.
#pragma once

#include <memory>
#include <string>

#include "core/object_store.h"
#include "core/s3_store.h"

namespace ivfremote {

// A single PUT for what fits one part of 8 MiB, else a multipart upload with up to 4 parts in flight, each a call of its
// own: what was stored is not sent again. Holds at most 6 parts: those in flight, one that waits, one being filled.
std::unique_ptr<Upload> MakeS3Upload(std::shared_ptr<S3Store::Connection> connection, std::string key);

}  // namespace ivfremote

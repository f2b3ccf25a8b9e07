#include "pg/server.h"

#include <cstring>
#include <random>

#include "core/fault_store.h"
#include "core/file_store.h"
#include "core/s3_store.h"
#include "core/sigv4.h"
#include "pg/compat.h"
#include "pg/server_options.h"
#include "pg/settings.h"

extern "C" {
#include "access/htup_details.h"
#include "access/reloptions.h"
#include "catalog/pg_foreign_data_wrapper.h"
#include "catalog/pg_foreign_server.h"
#include "catalog/pg_user_mapping.h"
#include "common/pg_prng.h"
#include "foreign/foreign.h"
#include "utils/acl.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/syscache.h"
}

namespace ivfremote {
namespace {

constexpr char kWrapper[] = "ivfremote";

ForeignServer* GetOurServer(const char* name) {
  ForeignServer* server = GetForeignServerByName(name, true);
  if (server == nullptr)
    ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("server \"%s\" does not exist", name),
                    errhint("If it was renamed, use ALTER INDEX ... SET (server = 'new_name').")));
  if (std::strcmp(GetForeignDataWrapper(server->fdwid)->fdwname, kWrapper) != 0)
    ereport(ERROR, (errcode(ERRCODE_WRONG_OBJECT_TYPE),
                    errmsg("server \"%s\" does not use foreign-data wrapper \"%s\"", name, kWrapper)));
  return server;
}

// The role's mapping, else PUBLIC's; false if there is neither.
bool FindUserMapping(Oid server, Oid role, UserMappingOptions* options) {
  HeapTuple tuple = SearchSysCache2(USERMAPPINGUSERSERVER, ObjectIdGetDatum(role), ObjectIdGetDatum(server));
  if (!HeapTupleIsValid(tuple))
    tuple = SearchSysCache2(USERMAPPINGUSERSERVER, ObjectIdGetDatum(InvalidOid), ObjectIdGetDatum(server));
  if (!HeapTupleIsValid(tuple)) return false;
  bool isnull;
  const Datum datum = SysCacheGetAttr(USERMAPPINGUSERSERVER, tuple, Anum_pg_user_mapping_umoptions, &isnull);
  *options = ParseUserMappingOptions(isnull ? NIL : untransformRelOptions(datum));
  ReleaseSysCache(tuple);
  return true;
}

UserMappingOptions LookUpUserMapping(const ForeignServer* server, Oid role) {
  UserMappingOptions options{};
  if (!FindUserMapping(server->serverid, role, &options)) {
    const char* name = GetUserNameFromId(role, false);
    ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT),
                    errmsg("no user mapping on server \"%s\" for role \"%s\"", server->servername, name),
                    errdetail("Objects are read and written with the user mapping of the index's owner, else of PUBLIC."),
                    errhint("Use CREATE USER MAPPING FOR %s SERVER %s OPTIONS (access_key_id '...', secret_access_key "
                            "'...').",
                            quote_identifier(name), quote_identifier(server->servername))));
  }
  return options;
}

AwsCredentials CredentialsOf(const UserMappingOptions& user) {
  return {user.access_key_id, user.secret_access_key, user.session_token};
}

ObjectStore* NewS3Store(const ServerOptions& options, const UserMappingOptions& user, RetryPolicy retry, uint32 seed) {
  S3Location location;
  if (!ParseS3Url(options.url, &location).ok()) return nullptr;  // checked before
  location.region = options.region;
  location.endpoint = options.endpoint;
  location.virtual_host = options.virtual_host;
  HttpOptions http;
  http.connect_timeout = std::chrono::milliseconds(settings.connect_timeout_ms);
  http.request_timeout = std::chrono::milliseconds(settings.request_timeout_ms);
  http.ca_file = options.ca_file;
  S3Environment environment;
  environment.random = [engine = std::minstd_rand(seed)]() mutable {
    return std::uniform_real_distribution<double>()(engine);
  };
  return new S3Store(std::move(location), CredentialsOf(user), std::move(http), retry, std::move(environment));
}

// What a store is made of, looked up before any C++ object exists.
struct StoreSpec {
  ServerOptions options;
  UserMappingOptions user;
  RetryPolicy retry;
  uint32 seed;  // of retries' delays
};

StoreSpec LookUpStore(const ForeignServer* server, Oid role) {
  StoreSpec spec{};
  spec.seed = pg_prng_uint32(&pg_global_prng_state);
  spec.options = ParseServerOptions(server->options, server->owner);
  if (spec.options.kind == StoreKind::kS3) spec.user = LookUpUserMapping(server, role);
  return spec;
}

ObjectStore* NewStore(const StoreSpec& spec) {
  std::unique_ptr<ObjectStore> store;
  switch (spec.options.kind) {
    case StoreKind::kFile:
      store = std::make_unique<FileStore>(spec.options.directory);
      break;
    case StoreKind::kS3:
      store.reset(NewS3Store(spec.options, spec.user, spec.retry, spec.seed));
      break;
  }
#ifdef IVFREMOTE_TEST_FAULTS
  const Fault fault = ParseFault(settings.test_fault).value_or(Fault::kNone);
  if (fault != Fault::kNone) store = MakeFaultStore(std::move(store), fault);
#endif
  return store.release();
}

// ---------------------------------------------------------------------------------------------------------------------
// The session's stores.

struct StoreKey {
  Oid server;
  Oid role;
};

struct StoreCacheEntry {
  StoreKey key;
  bool valid;
  // The settings it was made with.
  int connect_timeout_ms;
  int request_timeout_ms;
  Held<ObjectStore>* store;  // in a context of its own below TopMemoryContext
  MemoryContext context;
};

HTAB* store_cache;
// Grows with every change that may concern a store.
uint64 store_generation;

// Server and user mapping changes are rare: forget all. Only marks; a store may be in use.
void InvalidateStores(Datum, int, uint32) {
  ++store_generation;
  HASH_SEQ_STATUS sequence;
  hash_seq_init(&sequence, store_cache);
  while (auto* entry = static_cast<StoreCacheEntry*>(hash_seq_search(&sequence))) entry->valid = false;
}

StoreCacheEntry* FindCachedStore(Oid server, Oid role) {
  if (store_cache == nullptr) {
    HASHCTL control{};
    control.keysize = sizeof(StoreKey);
    control.entrysize = sizeof(StoreCacheEntry);
    store_cache = hash_create("ivfremote stores", 8, &control, HASH_ELEM | HASH_BLOBS);
    CacheRegisterSyscacheCallback(FOREIGNSERVEROID, InvalidateStores, Datum{0});
    CacheRegisterSyscacheCallback(USERMAPPINGOID, InvalidateStores, Datum{0});
  }
  const StoreKey key{server, role};
  bool found;
  auto* entry = static_cast<StoreCacheEntry*>(hash_search(store_cache, &key, HASH_ENTER, &found));
  if (!found) {
    entry->valid = false;
    entry->store = nullptr;
    entry->context = nullptr;
  }
  return entry;
}

bool FaultsInjected() {
#ifdef IVFREMOTE_TEST_FAULTS
  return settings.test_fault != nullptr && settings.test_fault[0] != '\0';
#else
  return false;
#endif
}

bool Usable(const StoreCacheEntry& entry) {
  return entry.valid && entry.connect_timeout_ms == settings.connect_timeout_ms &&
         entry.request_timeout_ms == settings.request_timeout_ms && !FaultsInjected();
}

}  // namespace

const char* UserMappingOwner(const char* server_name, Oid role) {
  const ForeignServer* server = GetForeignServerByName(server_name, /*missing_ok=*/true);
  const auto exists = [server](Oid user) {
    return SearchSysCacheExists2(USERMAPPINGUSERSERVER, ObjectIdGetDatum(user), ObjectIdGetDatum(server->serverid));
  };
  if (server != nullptr && !exists(role) && exists(InvalidOid)) return "PUBLIC";
  return quote_identifier(GetUserNameFromId(role, false));
}

void ReportNotice(const char* server_name, ObjectStore* store) {
  char notice[256] = "";
  CallCore([&] {
    strlcpy(notice, store->TakeNotice().c_str(), sizeof notice);
    return Status::Ok();
  });
  if (notice[0] != '\0') ereport(NOTICE, (errmsg("server \"%s\": %s", server_name, notice)));
}

const char* ServerNameOf(Relation index, const MetaPage& meta) {
  if (index->rd_rel->relpersistence == RELPERSISTENCE_TEMP) return "";
  const char* option = GetIndexOptions(index)->server();
  // The option lives in the relcache, which any catalog access may rebuild.
  return pstrdup(option[0] != '\0' ? option : meta.server);
}

Oid LookUpServer(const char* name) { return GetOurServer(name)->serverid; }

const char* ServerProblem(const char* name, Oid role, int* sqlstate) {
  const ForeignServer* server = GetForeignServerByName(name, true);
  if (server == nullptr) {
    *sqlstate = ERRCODE_UNDEFINED_OBJECT;
    return psprintf("server \"%s\" does not exist", name);
  }
  if (std::strcmp(GetForeignDataWrapper(server->fdwid)->fdwname, kWrapper) != 0) {
    *sqlstate = ERRCODE_WRONG_OBJECT_TYPE;
    return psprintf("server \"%s\" does not use foreign-data wrapper \"%s\"", name, kWrapper);
  }
  if (!MayUseDirectory(server->options, server->owner)) {
    *sqlstate = ERRCODE_INSUFFICIENT_PRIVILEGE;
    return psprintf("the directory of server \"%s\" is not below ivfremote.local_roots", name);
  }
  UserMappingOptions options{};
  if (ParseServerOptions(server->options, server->owner).kind == StoreKind::kS3 &&
      !FindUserMapping(server->serverid, role, &options)) {
    *sqlstate = ERRCODE_UNDEFINED_OBJECT;
    return psprintf("no user mapping on server \"%s\" for role \"%s\"", name, GetUserNameFromId(role, false));
  }
  return nullptr;
}

Oid CheckServerOwner(const char* name) {
  const ForeignServer* server = GetOurServer(name);
#if PG_VERSION_NUM >= 160000
  const bool owner = object_ownercheck(ForeignServerRelationId, server->serverid, GetUserId());
#else
  const bool owner = pg_foreign_server_ownercheck(server->serverid, GetUserId());
#endif
  if (!owner) aclcheck_error(ACLCHECK_NOT_OWNER, OBJECT_FOREIGN_SERVER, name);
  return server->owner;
}

void NamePlace(const char* server_name, char place[kPlaceDigits + 1]) {
  const ForeignServer* server = GetOurServer(server_name);
  const ServerOptions options = ParseServerOptions(server->options, server->owner);
  CallCore([&] {
    const std::string text = std::string(options.url) + "\n" + (options.endpoint == nullptr ? "" : options.endpoint);
    strlcpy(place, Sha256Hex(std::as_bytes(std::span(text))).c_str(), kPlaceDigits + 1);
    return Status::Ok();
  });
}

int64 ServerRetention(const char* name) { return RetentionUs(GetOurServer(name)->options); }

void CheckServerUsage(Oid server) {
#if PG_VERSION_NUM >= 160000
  const AclResult result = object_aclcheck(ForeignServerRelationId, server, GetUserId(), ACL_USAGE);
#else
  const AclResult result = pg_foreign_server_aclcheck(server, GetUserId(), ACL_USAGE);
#endif
  if (result != ACLCHECK_OK) aclcheck_error(result, OBJECT_FOREIGN_SERVER, GetForeignServer(server)->servername);
}

Held<ObjectStore>* OpenStore(const char* server_name, Oid role) {
  const StoreSpec spec = LookUpStore(GetOurServer(server_name), role);
  return Hold<ObjectStore>(CurrentMemoryContext, [&] { return NewStore(spec); });
}

Held<ObjectStore>* OpenPatientStore(const char* server_name, Oid role, bool keys_worked) {
  constexpr std::chrono::hours kForever{24 * 365 * 10};
  StoreSpec spec = LookUpStore(GetOurServer(server_name), role);
  spec.retry.patience = kForever;
  spec.retry.credentials_worked = keys_worked;
  if (settings.write_timeout_ms > 0) spec.retry.patience = std::chrono::milliseconds(settings.write_timeout_ms);
  return Hold<ObjectStore>(CurrentMemoryContext, [&] { return NewStore(spec); });
}

void RefreshCredentials(const char* server_name, Oid role, ObjectStore* store) {
  AcceptInvalidationMessages();
  MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "ivfremote credentials", ALLOCSET_SMALL_SIZES);
  MemoryContext old = MemoryContextSwitchTo(context);
  // Whoever replaces a mapping may drop it first; and its server may have another name by now.
  UserMappingOptions user{};
  const ForeignServer* server = GetForeignServerByName(server_name, true);
  const bool found = server != nullptr && FindUserMapping(server->serverid, role, &user);
  CallCore([&] {
    if (found) store->SetCredentials(CredentialsOf(user));
    else store->KeepCredentials();
    return Status::Ok();
  });
  MemoryContextSwitchTo(old);
  MemoryContextDelete(context);
}

ObjectStore* SessionStore(const char* server_name, Oid role) {
  StoreCacheEntry* entry = FindCachedStore(LookUpServer(server_name), role);
  if (Usable(*entry)) {
    ReportNotice(server_name, entry->store->object);
    return entry->store->object;
  }
  // Before anything is read: a change that comes in between makes what was read old.
  const uint64 generation = store_generation;
  const StoreSpec spec = LookUpStore(GetOurServer(server_name), role);
  MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "ivfremote store", ALLOCSET_SMALL_SIZES);
  Held<ObjectStore>* store = Hold<ObjectStore>(context, [&] { return NewStore(spec); });
  MemoryContextSetParent(context, TopMemoryContext);
  if (entry->context != nullptr) MemoryContextDelete(entry->context);
  entry->context = context;
  entry->store = store;
  entry->connect_timeout_ms = settings.connect_timeout_ms;
  entry->request_timeout_ms = settings.request_timeout_ms;
  entry->valid = generation == store_generation && !FaultsInjected();
  return store->object;
}

void ForgetSessionStore(const char* server_name, Oid role) {
  // Another session's change may have committed since this statement started.
  AcceptInvalidationMessages();
  FindCachedStore(LookUpServer(server_name), role)->valid = false;
}

double ServerRequestLatencyMs(const char* server_name) {
  ForeignServer* server = GetForeignServerByName(server_name, true);
  return server == nullptr ? 0 : RequestLatencyMs(server->options);
}

uint64_t ServerGapBytes(const char* server_name) {
  ForeignServer* server = GetForeignServerByName(server_name, true);
  return server == nullptr ? 0 : GapBytes(server->options);
}

}  // namespace ivfremote

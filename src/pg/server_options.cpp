#include "pg/server_options.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "core/s3_store.h"
#include "pg/settings.h"
#include "pg/wall.h"

extern "C" {
#include "access/reloptions.h"
#include "catalog/pg_foreign_server.h"
#include "catalog/pg_user_mapping.h"
#include "commands/defrem.h"
#include "utils/fmgrprotos.h"
#include "utils/timestamp.h"
#include "utils/varlena.h"
}

namespace ivfremote {
namespace {

// What a server can be told. Secrets belong to user mappings: server options are readable by everyone.
constexpr const char* kServerOptions[] = {"url", "region", "endpoint", "addressing", "ca_file", "request_latency",
                                          "bandwidth", "retention"};
constexpr const char* kUserMappingOptions[] = {"access_key_id", "secret_access_key", "session_token"};

template <size_t N>
bool Contains(const char* const (&names)[N], const char* name) {
  for (const char* candidate : names)
    if (std::strcmp(candidate, name) == 0) return true;
  return false;
}

template <size_t N>
[[noreturn]] void ThrowInvalidOption(const char* name, const char* const (&valid)[N]) {
  StringInfoData list;
  initStringInfo(&list);
  for (const char* candidate : valid) appendStringInfo(&list, "%s%s", list.len > 0 ? ", " : "", candidate);
  ereport(ERROR, (errcode(ERRCODE_FDW_INVALID_OPTION_NAME), errmsg("invalid option \"%s\"", name),
                  errhint("Valid options in this context are: %s.", list.data)));
  pg_unreachable();
}

bool BelowLocalRoots(const char* path) {
  if (settings.local_roots == nullptr || settings.local_roots[0] == '\0') return false;
  List* roots = NIL;
  SplitDirectoriesString(pstrdup(settings.local_roots), ',', &roots);
  ListCell* cell;
  foreach (cell, roots) {
    const char* root = static_cast<char*>(lfirst(cell));
    if (path_is_prefix_of_path(root, path)) return true;
  }
  return false;
}

bool MayUsePath(const char* path, Oid owner) { return superuser_arg(owner) || BelowLocalRoots(path); }

[[noreturn]] void ThrowInvalidValue(const char* option, const char* value, const char* hint) {
  ereport(ERROR, (errcode(ERRCODE_FDW_INVALID_ATTRIBUTE_VALUE),
                  errmsg("invalid value for option \"%s\": \"%s\"", option, value), errhint("%s", hint)));
  pg_unreachable();
}

bool HasScheme(const char* url, const char* scheme) { return std::strncmp(url, scheme, std::strlen(scheme)) == 0; }

bool HasSuffix(const char* text, const char* suffix) {
  const size_t length = std::strlen(text);
  return length >= std::strlen(suffix) && std::strcmp(text + length - std::strlen(suffix), suffix) == 0;
}

constexpr char kFileScheme[] = "file://";
constexpr char kS3Scheme[] = "s3://";

const char* DirectoryOfUrl(const char* url, Oid owner) {
  char* path = pstrdup(url + std::strlen(kFileScheme));
  // Before canonicalize_path resolves it.
  const bool climbs = std::strstr(path, "/../") != nullptr || HasSuffix(path, "/..");
  canonicalize_path(path);
  if (!is_absolute_path(path) || climbs || std::strcmp(path, "/") == 0)
    ereport(ERROR, (errcode(ERRCODE_FDW_INVALID_ATTRIBUTE_VALUE), errmsg("invalid url \"%s\"", url),
                    errhint("A file url is file:// and an absolute path without \"..\".")));
  if (!MayUsePath(path, owner))
    ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE), errmsg("permission denied for url \"%s\"", url),
                    errdetail("Only superusers may use directories that are not below ivfremote.local_roots.")));
  return path;
}

constexpr double kLargestNumber = 1e9;

void CheckNumber(const char* option, const char* text, const char* hint) {
  if (text == nullptr) return;
  char* end;
  const double value = strtod(text, &end);
  if (end == text || *end != '\0' || !(value >= 0 && value <= kLargestNumber)) ThrowInvalidValue(option, text, hint);
}

const char* FindOption(List* options, const char* name) {
  ListCell* cell;
  foreach (cell, options) {
    auto* option = static_cast<DefElem*>(lfirst(cell));
    if (std::strcmp(option->defname, name) == 0) return defGetString(option);
  }
  return nullptr;
}

const char* FindOptionOr(List* options, const char* name, const char* otherwise) {
  const char* value = FindOption(options, name);
  return value == nullptr ? otherwise : value;
}

void CheckServerOptionNames(List* options) {
  ListCell* cell;
  foreach (cell, options) {
    auto* option = static_cast<DefElem*>(lfirst(cell));
    if (Contains(kUserMappingOptions, option->defname))
      ereport(ERROR, (errcode(ERRCODE_FDW_INVALID_OPTION_NAME),
                      errmsg("option \"%s\" belongs to a user mapping", option->defname),
                      errdetail("Server options are readable by everyone."),
                      errhint("Use CREATE USER MAPPING FOR owner_of_the_index SERVER server OPTIONS (%s '...').",
                              option->defname)));
    if (!Contains(kServerOptions, option->defname)) ThrowInvalidOption(option->defname, kServerOptions);
  }
}

// Nothing after the host and port but perhaps a slash.
bool IsBareEndpoint(const char* endpoint) {
  const char* host = std::strstr(endpoint, "://") + 3;
  const size_t length = std::strcspn(host, "/?#@ ");
  return length > 0 && (host[length] == '\0' || std::strcmp(host + length, "/") == 0);
}

void ParseS3Options(List* options, ServerOptions* parsed) {
  CallCore([&] {
    S3Location location;
    return ParseS3Url(parsed->url, &location);
  });
  parsed->region = FindOptionOr(options, "region", "");
  parsed->endpoint = FindOptionOr(options, "endpoint", "");
  if (parsed->endpoint[0] != '\0' && !HasScheme(parsed->endpoint, "http://") &&
      !HasScheme(parsed->endpoint, "https://"))
    ThrowInvalidValue("endpoint", parsed->endpoint, "It is http:// or https://, a host and perhaps a port.");
  if (parsed->endpoint[0] != '\0' && !IsBareEndpoint(parsed->endpoint))
    ereport(ERROR, (errcode(ERRCODE_FDW_INVALID_ATTRIBUTE_VALUE), errmsg("invalid value for option \"endpoint\""),
                    errhint("It is http:// or https://, a host and perhaps a port; keys belong to a user mapping.")));
  if (parsed->endpoint[0] == '\0' && parsed->region[0] == '\0')
    ereport(ERROR, (errcode(ERRCODE_FDW_OPTION_NAME_NOT_FOUND), errmsg("option \"region\" is required"),
                    errdetail("The url \"%s\" is of a bucket in Amazon S3 unless \"endpoint\" says otherwise.",
                              parsed->url)));
  if (parsed->region[0] == '\0') parsed->region = "us-east-1";
  // Stores other than AWS seldom have names for their buckets.
  const char* addressing = FindOptionOr(options, "addressing", parsed->endpoint[0] == '\0' ? "virtual" : "path");
  parsed->virtual_host = std::strcmp(addressing, "virtual") == 0;
  if (!parsed->virtual_host && std::strcmp(addressing, "path") != 0)
    ThrowInvalidValue("addressing", addressing, "Valid values are \"path\" and \"virtual\".");
}

}  // namespace

ServerOptions ParseServerOptions(List* options, Oid owner) {
  CheckServerOptionNames(options);
  ServerOptions parsed{};
  parsed.url = FindOption(options, "url");
  if (parsed.url == nullptr)
    ereport(ERROR, (errcode(ERRCODE_FDW_OPTION_NAME_NOT_FOUND), errmsg("option \"url\" is required")));
  parsed.ca_file = FindOptionOr(options, "ca_file", "");
  CheckNumber("request_latency", FindOption(options, "request_latency"), "It is a number of milliseconds.");
  CheckNumber("bandwidth", FindOption(options, "bandwidth"),
              "It is a number of megabytes (10^6 bytes) a second, of one request.");
  RetentionUs(options);
  if (HasScheme(parsed.url, kFileScheme)) {
    parsed.kind = StoreKind::kFile;
    parsed.directory = DirectoryOfUrl(parsed.url, owner);
  } else if (HasScheme(parsed.url, kS3Scheme)) {
    parsed.kind = StoreKind::kS3;
    ParseS3Options(options, &parsed);
  } else {
    ereport(ERROR, (errcode(ERRCODE_FDW_INVALID_ATTRIBUTE_VALUE), errmsg("unsupported scheme in option \"url\""),
                    errhint("Supported are s3://bucket/prefix and file:///absolute/path.")));
  }
  return parsed;
}

bool MayUseDirectory(List* options, Oid owner) {
  const char* url = FindOption(options, "url");
  if (url == nullptr || !HasScheme(url, kFileScheme)) return true;
  char* path = pstrdup(url + std::strlen(kFileScheme));
  canonicalize_path(path);
  return MayUsePath(path, owner);
}

double RequestLatencyMs(List* options) {
  constexpr double kS3LatencyMs = 30;
  if (const char* latency = FindOption(options, "request_latency"); latency != nullptr) return strtod(latency, nullptr);
  return HasScheme(FindOptionOr(options, "url", ""), kS3Scheme) ? kS3LatencyMs : 0;
}

uint64_t GapBytes(List* options) {
  constexpr double kBandwidth = 50;  // MB/s
  // Ranges are read side by side, so extra bytes in one cost less than their time: at a sixteenth of a request's
  // latency, 94 kB with the defaults for S3, a query needs half of the requests for half more bytes.
  constexpr double kShareOfLatency = 1.0 / 16;
  // Of a local file system: a read costs about 1 us, in which 8 kB are copied.
  constexpr double kMinBytes = 8 << 10;
  constexpr double kMaxBytes = 512 << 10;
  const char* bandwidth = FindOption(options, "bandwidth");
  const double bytes_per_ms = (bandwidth == nullptr ? kBandwidth : strtod(bandwidth, nullptr)) * 1000;
  return static_cast<uint64_t>(
      std::clamp(RequestLatencyMs(options) * kShareOfLatency * bytes_per_ms, kMinBytes, kMaxBytes));
}

int64 IntervalUs(const Interval* interval) {
  const double days = interval->month * 30.0 + interval->day;
  const double us = days * static_cast<double>(USECS_PER_DAY) + static_cast<double>(interval->time);
  constexpr double kForever = 1e18;  // 30,000 years, and a sum with any time of ours fits
  return static_cast<int64>(std::clamp(us, -kForever, kForever));
}

int64 RetentionUs(List* options) {
  const char* text = FindOption(options, "retention");
  if (text == nullptr) return 7 * USECS_PER_DAY;
  const Datum interval =
      DirectFunctionCall3(interval_in, CStringGetDatum(text), ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1));
  const int64 us = IntervalUs(DatumGetIntervalP(interval));
  if (us < 0) ThrowInvalidValue("retention", text, "It is an interval of at least 0.");
  return us;
}

UserMappingOptions ParseUserMappingOptions(List* options) {
  ListCell* cell;
  foreach (cell, options) {
    auto* option = static_cast<DefElem*>(lfirst(cell));
    if (!Contains(kUserMappingOptions, option->defname)) ThrowInvalidOption(option->defname, kUserMappingOptions);
    // The value is a secret: not in the message.
    if (defGetString(option)[0] == '\0')
      ereport(ERROR, (errcode(ERRCODE_FDW_INVALID_ATTRIBUTE_VALUE),
                      errmsg("option \"%s\" must not be empty", option->defname)));
  }
  const UserMappingOptions parsed{FindOptionOr(options, "access_key_id", ""),
                                  FindOptionOr(options, "secret_access_key", ""),
                                  FindOptionOr(options, "session_token", "")};
  if ((parsed.access_key_id[0] == '\0') != (parsed.secret_access_key[0] == '\0'))
    ereport(ERROR, (errcode(ERRCODE_FDW_OPTION_NAME_NOT_FOUND),
                    errmsg("options \"access_key_id\" and \"secret_access_key\" belong together")));
  return parsed;
}

}  // namespace ivfremote

using namespace ivfremote;

extern "C" {

PG_FUNCTION_INFO_V1(ivfremote_fdw_validator);
Datum ivfremote_fdw_validator(PG_FUNCTION_ARGS) {
  List* options = untransformRelOptions(PG_GETARG_DATUM(0));
  const Oid catalog = PG_GETARG_OID(1);
  if (catalog == ForeignServerRelationId) {
    ParseServerOptions(options, GetUserId());
  } else if (catalog == UserMappingRelationId) {
    ParseUserMappingOptions(options);
  } else if (options != NIL) {
    ereport(ERROR, (errcode(ERRCODE_FDW_INVALID_OPTION_NAME),
                    errmsg("invalid option \"%s\"", static_cast<DefElem*>(linitial(options))->defname),
                    errhint("Options belong to servers and user mappings.")));
  }
  PG_RETURN_VOID();
}

}  // extern "C"

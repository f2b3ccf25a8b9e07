#include "pg/last_scan.h"

#include <algorithm>
#include <cstring>

extern "C" {
#include "access/xact.h"
#include "utils/timestamp.h"
}

namespace ivfremote {
namespace {

constexpr int kMaxIndexes = 64;
constexpr int kMaxRequests = 4096;

struct RequestRecord {
  Oid index;
  uint32 wave;
  uint64 offset;
  uint32 bytes;
  double start_ms;
  double end_ms;
};

// Of the last top-level statement that scanned one of our indexes. In TopMemoryContext, grown on demand.
TimestampTz statement;
ScanRecord* scans;
int scan_count;
RequestRecord* requests;
int request_count;
int request_capacity;

void StartStatement() {
  const TimestampTz now = GetCurrentStatementStartTimestamp();
  if (now == statement) return;
  statement = now;
  scan_count = 0;
  request_count = 0;
}

double Milliseconds(Clock::duration duration) {
  return std::chrono::duration<double, std::milli>(duration).count();
}

// The record of `index` in the running statement, zeroed if it is the first.
ScanRecord* FindRecord(Oid index) {
  StartStatement();
  if (scans == nullptr)
    scans = static_cast<ScanRecord*>(MemoryContextAllocZero(TopMemoryContext, kMaxIndexes * sizeof(ScanRecord)));
  for (int i = 0; i < scan_count; ++i)
    if (scans[i].index == index) return &scans[i];
  // A statement over more indexes than this overwrites its last record.
  ScanRecord* record = &scans[scan_count < kMaxIndexes ? scan_count++ : kMaxIndexes - 1];
  std::memset(record, 0, sizeof *record);
  record->index = index;
  return record;
}

}  // namespace

void AddToStatement(const ScanRecord& scan) {
  ScanRecord* sum = FindRecord(scan.index);
  sum->scans += scan.scans;
  sum->lists = std::max(sum->lists, scan.lists);
  sum->lists_probed += scan.lists_probed;
  sum->waves += scan.waves;
  sum->requests += scan.requests;
  sum->blocks += scan.blocks;
  sum->bytes_fetched += scan.bytes_fetched;
  sum->bytes_used += scan.bytes_used;
  sum->rows_scored += scan.rows_scored;
  sum->pending_rows_scored += scan.pending_rows_scored;
  sum->quantizer_ms += scan.quantizer_ms;
  sum->fetch_ms += scan.fetch_ms;
  sum->score_ms += scan.score_ms;
}

ScanRecord StatementSoFar(Oid index) { return *FindRecord(index); }

void CountTableRows(Oid index, uint64 rows) { FindRecord(index)->table_rows_read += rows; }

void CountLeftOutRows(Oid index, uint64 rows) { FindRecord(index)->rows_left_out += rows; }

void RecordEnd(Oid index, const char* by) { FindRecord(index)->ended_by = by; }

void CountReturnedRow(Oid index) { ++FindRecord(index)->rows_returned; }

void RecordRequest(Oid index, const RequestTrace& request, Clock::time_point scan_start) {
  StartStatement();
  if (request_count == kMaxRequests) return;
  if (request_count == request_capacity) {
    const int capacity = request_capacity == 0 ? 64 : 2 * request_capacity;
    const size_t bytes = static_cast<size_t>(capacity) * sizeof(RequestRecord);
    requests = static_cast<RequestRecord*>(requests == nullptr ? MemoryContextAlloc(TopMemoryContext, bytes)
                                                               : repalloc(requests, bytes));
    request_capacity = capacity;
  }
  requests[request_count++] = {index,
                               request.wave,
                               request.offset,
                               request.bytes,
                               Milliseconds(request.started - scan_start),
                               Milliseconds(request.finished - scan_start)};
}

}  // namespace ivfremote

using namespace ivfremote;

extern "C" {

PG_FUNCTION_INFO_V1(ivfremote_last_scan);
Datum ivfremote_last_scan(PG_FUNCTION_ARGS) {
  InitMaterializedSRF(fcinfo, 0);
  auto* result = reinterpret_cast<ReturnSetInfo*>(fcinfo->resultinfo);
  for (int i = 0; i < scan_count; ++i) {
    const ScanRecord& scan = scans[i];
    Datum values[18] = {ObjectIdGetDatum(scan.index),         UInt64GetDatum(scan.scans),
                        UInt64GetDatum(scan.lists),           UInt64GetDatum(scan.lists_probed),
                        UInt64GetDatum(scan.waves),           UInt64GetDatum(scan.requests),
                        UInt64GetDatum(scan.blocks),          UInt64GetDatum(scan.bytes_fetched),
                        UInt64GetDatum(scan.bytes_used),      UInt64GetDatum(scan.rows_scored),
                        UInt64GetDatum(scan.pending_rows_scored), UInt64GetDatum(scan.table_rows_read),
                        UInt64GetDatum(scan.rows_returned),       UInt64GetDatum(scan.rows_left_out),
                        scan.ended_by == nullptr ? Datum{0} : CStringGetTextDatum(scan.ended_by),
                        Float8GetDatum(scan.quantizer_ms),    Float8GetDatum(scan.fetch_ms),
                        Float8GetDatum(scan.score_ms)};
    bool nulls[18] = {};
    nulls[14] = scan.ended_by == nullptr;
    tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
  }
  return Datum{0};
}

PG_FUNCTION_INFO_V1(ivfremote_last_scan_requests);
Datum ivfremote_last_scan_requests(PG_FUNCTION_ARGS) {
  InitMaterializedSRF(fcinfo, 0);
  auto* result = reinterpret_cast<ReturnSetInfo*>(fcinfo->resultinfo);
  for (int i = 0; i < request_count; ++i) {
    const RequestRecord& request = requests[i];
    Datum values[7] = {ObjectIdGetDatum(request.index),
                       Int32GetDatum(i + 1),
                       Int64GetDatum(request.wave),
                       UInt64GetDatum(request.offset),
                       Int64GetDatum(request.bytes),
                       Float8GetDatum(request.start_ms),
                       Float8GetDatum(request.end_ms)};
    bool nulls[7] = {};
    tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
  }
  return Datum{0};
}

}  // extern "C"

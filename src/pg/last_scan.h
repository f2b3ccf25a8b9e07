// What the last statement's scans did: ivfremote_last_scan() and ivfremote_last_scan_requests().
#pragma once

#include "core/search.h"
#include "pg/postgres_c.h"

namespace ivfremote {

// One index's scans in one statement, summed over rescans. Times in milliseconds.
struct ScanRecord {
  Oid index;
  uint64 scans;
  uint64 lists;         // of the index
  uint64 lists_probed;
  uint64 waves;
  uint64 requests;
  uint64 blocks;
  uint64 bytes_fetched;
  uint64 bytes_used;
  uint64 rows_scored;
  uint64 pending_rows_scored;
  uint64 table_rows_read;  // for their exact distances
  uint64 rows_returned;
  uint64 rows_left_out;    // nearer than one returned before
  const char* ended_by;    // of the last scan that came to its end; a constant, or null
  double quantizer_ms;
  double fetch_ms;  // waiting for and reading blocks, without scoring them
  double score_ms;
};

// Adds one scan to its index's record in the running statement.
void AddToStatement(const ScanRecord& scan);

// The index's record in the running statement, so far.
ScanRecord StatementSoFar(Oid index);

void CountReturnedRow(Oid index);
void CountTableRows(Oid index, uint64 rows);
void CountLeftOutRows(Oid index, uint64 rows);
// A scan has no more rows; `by` is a constant.
void RecordEnd(Oid index, const char* by);

// Keeps one request of the running statement; times are since the scan's start.
void RecordRequest(Oid index, const RequestTrace& request, Clock::time_point scan_start);

}  // namespace ivfremote

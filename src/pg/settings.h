// Settings (GUCs) and index options (reloptions).
#pragma once

#include "pg/postgres_c.h"

namespace ivfremote {

struct Settings {
  int probes;                   // -1: unset
  double recall_target;         // -1: unset
  int recall_k;
  double epsilon;               // -1: automatic
  bool rerank;
  bool enable_scan;
  int iterative_scan;           // IterativeScan
  int max_probes;               // -1: automatic
  int max_scan_requests;        // 0: no limit
  char* default_server;
  char* local_roots;
  int max_concurrent_requests;
  int scan_timeout_ms;          // 0: none
  int connect_timeout_ms;
  int request_timeout_ms;
  int write_timeout_ms;         // 0: none
#ifdef IVFREMOTE_TEST_FAULTS
  char* test_fault;
  char* test_point;             // test_point.h
  int test_part_bytes;          // 0: the usual
  bool test_hypothetical;       // the planner must do without the metapage
  bool test_stream_routing;     // no routing is small enough to keep
#endif
};

extern Settings settings;

// What a scan does that has given all it may of the first wave's lists.
enum class IterativeScan { kOff, kRelaxedOrder, kStrictOrder };

enum class Quantization { kAutomatic, kRabitq, kNone };  // automatic: rabitq, but for bits

// The parsed reloptions of an index.
struct IndexOptions {
  int32 vl_len_;
  int server_offset;
  int lists;            // 0: automatic
  int probes;           // -1: unset
  double recall_target; // -1: unset
  int quantization;
  int bits;             // 0: automatic
  bool spill;
  int flush_threshold;  // rows; -1: automatic

  const char* server() const {
    return server_offset == 0 ? "" : reinterpret_cast<const char*>(this) + server_offset;
  }
};

// Never null: the defaults, if the index has no options.
const IndexOptions* GetIndexOptions(Relation index);

// How many pending rows are worth a segment, and how many rows a training: the index's option, or by the rows it has.
double FlushThreshold(Relation index, double rows);

bytea* ParseIndexOptions(Datum reloptions, bool validate);

// From _PG_init.
void DefineSettings();
void DefineIndexOptions();

}  // namespace ivfremote

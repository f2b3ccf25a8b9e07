// The little of libpq that the benchmarks need. Errors are exceptions; the PG* environment variables say where to
// connect.
#pragma once

#include <libpq-fe.h>

#include <memory>
#include <string>
#include <vector>

#include "lib/dataset.h"

namespace ivfremote::bench {

// real[], or pgvector's type.
enum class VectorType { kRealArray, kVector };

// The operator of a metric, the same for both types.
const char* OperatorOf(Metric metric);

class Connection {
 public:
  Connection();

  using Row = std::vector<std::string>;
  // Runs statements; the rows of the last one, nulls as empty strings.
  std::vector<Row> Query(const std::string& sql);
  // The first column of its first row.
  std::string Value(const std::string& sql);
  double Number(const std::string& sql) { return std::stod(Value(sql)); }

  // Names of the columns of the last Query.
  const std::vector<std::string>& columns() const { return columns_; }

  // COPY ... (FORMAT binary) into a table of (id integer, embedding real[] or vector); ids from `first_id` on.
  void CopyVectors(const std::string& table, const Vectors& rows, VectorType type = VectorType::kRealArray,
                   size_t first_id = 0);

  // Prepares `SELECT id FROM <table> [WHERE <filter>] ORDER BY embedding <-> $1 LIMIT 10` once for all plans.
  void PrepareSearch(const std::string& table, Metric metric = Metric::kL2, VectorType type = VectorType::kRealArray,
                     const std::string& filter = "");
  // Runs it: parameter and result are binary.
  std::vector<int32_t> Search(const float* query, size_t dimensions);

 private:
  struct Finish {
    void operator()(PGconn* connection) const { PQfinish(connection); }
  };
  struct Clear {
    void operator()(PGresult* result) const { PQclear(result); }
  };
  using Result = std::unique_ptr<PGresult, Clear>;

  Result Check(PGresult* result);
  [[noreturn]] void ThrowError();

  std::unique_ptr<PGconn, Finish> connection_;
  VectorType search_type_ = VectorType::kRealArray;
  std::vector<std::string> columns_;
};

inline constexpr size_t kNeighbours = 10;  // the LIMIT

}  // namespace ivfremote::bench

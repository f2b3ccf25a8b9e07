#include "lib/postgres.h"

#include <endian.h>

#include <bit>
#include <cstring>
#include <stdexcept>

namespace ivfremote::bench {
namespace {

constexpr Oid kRealOid = 700;
constexpr Oid kRealArrayOid = 1021;

void Put16(std::string* to, uint16_t value) {
  value = htobe16(value);
  to->append(reinterpret_cast<const char*>(&value), sizeof value);
}

void Put32(std::string* to, uint32_t value) {
  value = htobe32(value);
  to->append(reinterpret_cast<const char*>(&value), sizeof value);
}

// The binary form of a vector.
void PutVector(std::string* to, const float* values, size_t dimensions, VectorType type) {
  if (type == VectorType::kVector) {
    Put16(to, static_cast<uint16_t>(dimensions));
    Put16(to, 0);  // unused
    for (size_t i = 0; i < dimensions; ++i) Put32(to, std::bit_cast<uint32_t>(values[i]));
    return;
  }
  Put32(to, 1);  // dimensions of the array
  Put32(to, 0);  // no nulls
  Put32(to, kRealOid);
  Put32(to, static_cast<uint32_t>(dimensions));
  Put32(to, 1);  // lower bound
  for (size_t i = 0; i < dimensions; ++i) {
    Put32(to, sizeof(float));
    Put32(to, std::bit_cast<uint32_t>(values[i]));
  }
}

}  // namespace

const char* OperatorOf(Metric metric) {
  switch (metric) {
    case Metric::kL2:
      return "<->";
    case Metric::kInnerProduct:
      return "<#>";
    case Metric::kCosine:
      return "<=>";
    case Metric::kHamming:
      return "<~>";
  }
  return "";
}

Connection::Connection() : connection_(PQconnectdb("")) {
  if (PQstatus(connection_.get()) != CONNECTION_OK) ThrowError();
}

void Connection::ThrowError() { throw std::runtime_error(PQerrorMessage(connection_.get())); }

Connection::Result Connection::Check(PGresult* result) {
  Result owned(result);
  const ExecStatusType status = PQresultStatus(result);
  if (status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK && status != PGRES_COPY_IN) ThrowError();
  return owned;
}

std::vector<Connection::Row> Connection::Query(const std::string& sql) {
  const Result result = Check(PQexec(connection_.get(), sql.c_str()));
  columns_.clear();
  for (int column = 0; column < PQnfields(result.get()); ++column)
    columns_.emplace_back(PQfname(result.get(), column));
  std::vector<Row> rows(static_cast<size_t>(PQntuples(result.get())));
  for (size_t row = 0; row < rows.size(); ++row)
    for (int column = 0; column < PQnfields(result.get()); ++column)
      rows[row].emplace_back(PQgetvalue(result.get(), static_cast<int>(row), column));
  return rows;
}

std::string Connection::Value(const std::string& sql) {
  const std::vector<Row> rows = Query(sql);
  if (rows.empty() || rows[0].empty()) throw std::runtime_error("no result: " + sql);
  return rows[0][0];
}

void Connection::CopyVectors(const std::string& table, const Vectors& rows, VectorType type, size_t first_id) {
  Check(PQexec(connection_.get(), ("COPY " + table + " (id, embedding) FROM STDIN (FORMAT binary)").c_str()));
  const auto send = [this](const std::string& bytes) {
    if (PQputCopyData(connection_.get(), bytes.data(), static_cast<int>(bytes.size())) != 1) ThrowError();
  };
  send(std::string("PGCOPY\n\377\r\n\0", 11) + std::string(8, '\0'));
  std::string line;
  std::string vector;
  for (size_t i = 0; i < rows.count(); ++i) {
    line.clear();
    vector.clear();
    PutVector(&vector, rows[i], rows.dimensions, type);
    Put16(&line, 2);
    Put32(&line, sizeof(uint32_t));
    Put32(&line, static_cast<uint32_t>(first_id + i));
    Put32(&line, static_cast<uint32_t>(vector.size()));
    send(line + vector);
  }
  send("\377\377");
  if (PQputCopyEnd(connection_.get(), nullptr) != 1) ThrowError();
  while (PGresult* result = PQgetResult(connection_.get())) Check(result);
}

void Connection::PrepareSearch(const std::string& table, Metric metric, VectorType type, const std::string& filter) {
  Query("SET plan_cache_mode = force_generic_plan; DEALLOCATE ALL");
  const std::string sql = "SELECT id FROM " + table + (filter.empty() ? "" : " WHERE " + filter) + " ORDER BY embedding " +
                          OperatorOf(metric) + " $1 LIMIT " + std::to_string(kNeighbours);
  search_type_ = type;
  const Oid oid = type == VectorType::kRealArray ? kRealArrayOid
                                                 : static_cast<Oid>(Number("SELECT 'vector'::regtype::oid"));
  Check(PQprepare(connection_.get(), "search", sql.c_str(), 1, &oid));
}

std::vector<int32_t> Connection::Search(const float* query, size_t dimensions) {
  std::string parameter;
  PutVector(&parameter, query, dimensions, search_type_);
  const char* value = parameter.data();
  const int length = static_cast<int>(parameter.size());
  const int binary = 1;
  const Result result =
      Check(PQexecPrepared(connection_.get(), "search", 1, &value, &length, &binary, /*resultFormat=*/binary));
  std::vector<int32_t> ids(static_cast<size_t>(PQntuples(result.get())));
  for (size_t i = 0; i < ids.size(); ++i) {
    uint32_t id;
    std::memcpy(&id, PQgetvalue(result.get(), static_cast<int>(i), 0), sizeof id);
    ids[i] = static_cast<int32_t>(be32toh(id));
  }
  return ids;
}

}  // namespace ivfremote::bench

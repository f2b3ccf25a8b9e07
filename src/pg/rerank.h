// The exact order of rows that an index knows by codes: candidates are taken in the order of their lower bounds, looked up
// in the table, and returned once no later one can come before them. Bounds are statistical: a row that its bound put
// behind one that is returned by then is lost, as ivfremote.epsilon says, and so is one of a list read after that; the order of
// those returned is exact. In relaxed order both are returned late.
//
// The executor cannot do this (xs_recheckorderby): a statistical bound may be violated, which it takes for a bug of the
// index. So the access method fetches the visible rows itself and evaluates the operator's own function on them; the
// executor fetches the few that are returned once more.
#pragma once

#include "core/search.h"
#include "pg/postgres_c.h"

namespace ivfremote {

struct Rerank;

// Gives candidates in the order of their bounds, those known to be dead left out; false at the end.
using NextCandidate = bool (*)(void* argument, Candidate* candidate);

// Allocated in the current context; EndRerank releases what it holds of the table. The scan's order-by key is the query.
// `strict`: a row nearer than one returned before it is left out.
Rerank* StartRerank(IndexScanDesc scan, bool strict, NextCandidate next, void* argument);

// Before candidates come that may be nearer than the last one was, or after the last.
void AwaitCandidates(Rerank* rerank);

// The next row in exact order, by the TID the index has of it; false at the end. Holds no pin when it returns.
bool RerankNext(Rerank* rerank, Tid* tid);

uint64 RowsFetched(const Rerank* rerank);
uint64 RowsLeftOut(const Rerank* rerank);

void EndRerank(Rerank* rerank);

}  // namespace ivfremote

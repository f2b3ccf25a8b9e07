// The wall between Postgres and the core: the only code that knows both worlds.
//
// Postgres calls the core, never the other way. ereport jumps over C++ frames without running destructors, and an
// exception that reaches a C frame ends the server, so
// - C++ objects with destructors live only inside RunCore/CallCore, or are held by a memory context (Hold), and
// - nothing called inside may call Postgres.
#pragma once

#include <type_traits>

#include "core/status.h"
#include "pg/postgres_c.h"

namespace ivfremote {

// How a call into the core ended. Plain data, so it may sit on a frame that ereport jumps over.
struct CoreError {
  int sqlstate;  // 0: no error
  StatusCode code;
  char message[1024];
};

// Translates a Status; an error's text is cut to fit.
void FillCoreError(const Status& status, CoreError* error) noexcept;
// Translates the exception being handled.
void FillCoreErrorFromException(CoreError* error) noexcept;

// Runs `function`, which returns a Status; nothing escapes.
template <typename Function>
CoreError RunCore(Function function) noexcept {
  static_assert(std::is_trivially_destructible_v<Function>, "capture by reference: ereport jumps over the caller");
  CoreError error;
  error.sqlstate = 0;
  try {
    FillCoreError(function(), &error);
  } catch (...) {
    FillCoreErrorFromException(&error);
  }
  return error;
}

[[noreturn]] void ThrowCoreError(const CoreError& error);

// The same, and an error becomes a Postgres error.
template <typename Function>
void CallCore(Function function) {
  const CoreError error = RunCore(function);
  if (error.sqlstate != 0) ThrowCoreError(error);
}

// A C++ object owned by a memory context: destroyed when the context is reset or deleted, or by Drop.
template <typename T>
struct Held {
  T* object;
  MemoryContextCallback callback;

  T* operator->() const { return object; }
  T& operator*() const { return *object; }
};

template <typename T>
void Drop(Held<T>* held) {
  T* object = held->object;
  held->object = nullptr;
  delete object;
}

// `make` returns the object from `new`, or throws.
template <typename T, typename Make>
Held<T>* Hold(MemoryContext context, Make make) {
  static_assert(std::is_nothrow_destructible_v<T>);
  auto* held = static_cast<Held<T>*>(MemoryContextAllocZero(context, sizeof(Held<T>)));
  held->callback.func = [](void* argument) { Drop(static_cast<Held<T>*>(argument)); };
  held->callback.arg = held;
  MemoryContextRegisterResetCallback(context, &held->callback);
  CallCore([&] {
    held->object = make();
    return Status::Ok();
  });
  return held;
}

// Whether the user wants the running statement to end; for the core's callbacks. InterruptPending alone would not do: it
// is also set for barriers.
bool StatementCancelled();

}  // namespace ivfremote

// One set of worker threads for every primitive of the process.
//
// run(n, f) calls f(i) once for each i in [0, n) and returns when all are done. The calling thread
// works too. Who takes which piece is decided as it goes, so a piece must write only what is its own
// and must not depend on its neighbours: then the result is the same, bit for bit, for any number of
// threads. f must not throw. A second caller at the same time (another MLX stream) does its pieces
// alone. Workers wait a moment for the next call and then sleep; nothing spins when idle.
#pragma once

#include <cstddef>
#include <cstdint>

namespace pool {

using Piece = void (*)(void* context, uint32_t index);

void run_raw(uint32_t pieces, Piece piece, void* context);

template <class F>
void run(uint32_t pieces, F&& f) {
  run_raw(pieces, [](void* context, uint32_t i) { (*static_cast<F*>(context))(i); }, &f);
}

// Threads that work on a call, the caller included.
int threads();

// Takes effect at the next call; 0 means the number that `default_threads` gives.
void set_threads(int count);

// MLXRUN_THREADS, or the number of physical cores this process may use.
int default_threads();

}  // namespace pool

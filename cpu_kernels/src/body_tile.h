// Products of a few rows with columns that lie 16 side by side. Included once by each instruction set's file, after
// body_rows.h.
//
// Every sum goes in the order of its terms, one after the other, whatever the number of rows and columns that are taken
// together: so a row has the same bits beside others as alone.
#pragma once

#include "kernels.h"

namespace {

using namespace kernels;

// y (M, 16 N) (+)= a (M, n) . b, where b(k, j) are the columns [16 j, 16 j + 16) of term k.
template <int M, int N, bool more, class Columns>
inline void tile(const float* a, size_t lda, const Columns& b, int n, float* y, size_t ldy) {
  F acc[M][N];
  for (int m = 0; m < M; m++)
    for (int j = 0; j < N; j++) acc[m][j] = more ? load(y + m * ldy + 16 * j) : zero();
  for (int k = 0; k < n; k++) {
    b.ahead(k);
    F v[N];
    for (int j = 0; j < N; j++) v[j] = b(k, j);
    for (int m = 0; m < M; m++) {
      const F x = set1(a[m * lda + k]);
      for (int j = 0; j < N; j++) acc[m][j] = fma(x, v[j], acc[m][j]);
    }
  }
  for (int m = 0; m < M; m++)
    for (int j = 0; j < N; j++) store(y + m * ldy + 16 * j, acc[m][j]);
}

// The same for any number of rows: as many at a time as registers allow.
template <int N, bool more, int M = kTileRows, class Columns>
void tiles(int rows, const float* a, size_t lda, const Columns& b, int n, float* y, size_t ldy) {
  for (; rows >= M; rows -= M, a += M * lda, y += M * ldy) tile<M, N, more>(a, lda, b, n, y, ldy);
  if constexpr (M > 1)
    if (rows) tiles<N, more, M - 1>(rows, a, lda, b, n, y, ldy);
}

// b as floats, row k `ld` floats after the one before it.
struct Floats {
  const float* at;
  size_t ld;
  F operator()(int k, int j) const { return load(at + k * ld + 16 * j); }
  void ahead(int) const {}
};

// y (rows, columns) (+)= a (rows, n) . b; columns are a multiple of 16.
template <bool more>
void product(int rows, const float* a, size_t lda, const float* b, size_t ldb, int n, int columns, float* y, size_t ldy) {
  int c = 0;
  for (; c + 16 * kTileColumns <= columns; c += 16 * kTileColumns)
    tiles<kTileColumns, more>(rows, a, lda, Floats{b + c, ldb}, n, y + c, ldy);
  if constexpr (kTileColumns > 1)
    for (; c < columns; c += 16) tiles<1, more>(rows, a, lda, Floats{b + c, ldb}, n, y + c, ldy);
}

}  // namespace

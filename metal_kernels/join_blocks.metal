// y (T, H, DV) from the blocks of an attention: parts (T, H, BLOCKS, DV), and marks (T, H, BLOCKS, 2) with the
// largest score and the sum of exponentials of each. A simdgroup serves a head.
const int lane = thread_index_in_simdgroup;
const ulong head = ulong(threadgroup_position_in_grid.y) * H + threadgroup_position_in_grid.x;
float top = -INFINITY;
for (int b = lane; b < BLOCKS; b += 32) {  // the largest of all
  const float other = marks[2 * (head * BLOCKS + b)];
  top = other > top ? other : top;
}
top = simd_max(top);
float whole = 0;
for (int b = lane; b < BLOCKS; b += 32) {
  whole += marks[2 * (head * BLOCKS + b) + 1] * metal::exp(marks[2 * (head * BLOCKS + b)] - top);
}
whole = simd_sum(whole);
for (int i = lane; i < DV; i += 32) {
  float value = 0;
  for (int b = 0; b < BLOCKS; b++) {
    const float weight = marks[2 * (head * BLOCKS + b) + 1] * metal::exp(marks[2 * (head * BLOCKS + b)] - top);
    value += weight / whole * parts[(head * BLOCKS + b) * DV + i];
  }
  y[head * DV + i] = static_cast<T>(value);
}

// id (M): of each row of values (M, count) the ids (M, count) of the largest; of equals the lowest id. Where one of
// them is not a number, NONE.
const int thread_id = thread_index_in_threadgroup;
const int lane = thread_index_in_simdgroup;
const int row = threadgroup_position_in_grid.x;
const int count = values_shape[1];
const uint NONE = 0xffffffffu;
float value = -INFINITY;
uint place = NONE;
uint broken = 0;
for (int i = thread_id; i < count; i += SIMDGROUPS * 32) {
  const float other = values[ulong(row) * count + i];
  broken |= uint(isnan(other));
  if (other > value || place == NONE) {  // ids rise along a row
    value = other;
    place = ids[ulong(row) * count + i];
  }
}
const float top = simd_max(value);
place = simd_min(value == top ? place : NONE);
broken = simd_max(broken);

threadgroup float tops[SIMDGROUPS];
threadgroup uint places[SIMDGROUPS];
threadgroup uint all_broken[SIMDGROUPS];
if (lane == 0) {
  tops[simdgroup_index_in_threadgroup] = top;
  places[simdgroup_index_in_threadgroup] = place;
  all_broken[simdgroup_index_in_threadgroup] = broken;
}
threadgroup_barrier(mem_flags::mem_threadgroup);
if (thread_id == 0) {
  float most = tops[0];
  uint winner = places[0];
  for (int s = 1; s < SIMDGROUPS; s++) {
    broken |= all_broken[s];
    if (tops[s] > most || (tops[s] == most && places[s] < winner)) {
      most = tops[s];
      winner = places[s];
    }
  }
  id[row] = broken != 0 ? NONE : winner;
}

// total (T, D) = x + y, normed (T, D) = RMSNorm(total) * weight. A threadgroup serves a row.
const int D = x_shape[1];
const ulong start = ulong(threadgroup_position_in_grid.x) * D;
const int thread_id = thread_index_in_threadgroup;
float squares = 0;
for (int i = thread_id; i < D; i += SIMDGROUPS * 32) {
  const T sum = static_cast<T>(float(x[start + i]) + float(y[start + i]));
  total[start + i] = sum;
  squares += float(sum) * float(sum);
}
threadgroup float parts[SIMDGROUPS];
squares = simd_sum(squares);
if (thread_index_in_simdgroup == 0) parts[simdgroup_index_in_threadgroup] = squares;
threadgroup_barrier(mem_flags::mem_threadgroup);
float sum = 0;
for (int i = 0; i < SIMDGROUPS; i++) sum += parts[i];
const float factor = metal::precise::rsqrt(sum / D + eps[0]);
for (int i = thread_id; i < D; i += SIMDGROUPS * 32) {  // a thread reads what it wrote itself
  normed[start + i] = static_cast<T>(float(weight[i]) * (float(total[start + i]) * factor));
}

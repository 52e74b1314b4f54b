// What every primitive shares: how it reads its inputs and how it runs.
//
// eval_cpu is called on the thread that evaluates the graph, before the inputs are computed; the work
// happens later on the stream's thread. MLX holds the inputs until then, so the work keeps plain
// pointers. Shapes and types were checked when the primitive was made.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "linear.h"
#include "mlx/allocator.h"
#include "mlx/array.h"
#include "mlx/backend/cpu/encoder.h"
#include "mlx/primitives.h"
#include "packed.h"

namespace mx = mlx::core;

class CpuPrimitive : public mx::Primitive {
 public:
  CpuPrimitive() : Primitive(mx::default_stream(mx::Device::cpu)) {}
  void eval_gpu(const std::vector<mx::array>&, std::vector<mx::array>&) override {
    throw std::runtime_error(std::string(name()) + " runs on the CPU only");
  }

 protected:
  static uint8_t* allocate(mx::array& out) {
    out.set_data(mx::allocator::malloc(out.nbytes()));
    return out.data<uint8_t>();
  }
  template <class F>
  void dispatch(F&& f) {
    mx::cpu::get_command_encoder(stream()).dispatch(std::forward<F>(f));
  }
};

// An input as memory: any strides.
struct View {
  const uint8_t* data;
  mx::Shape shape;
  mx::Strides strides;
  size_t item;
  bool plain;  // row-contiguous

  explicit View(const mx::array& a)
      : data(a.size() ? a.data<uint8_t>() : nullptr),
        shape(a.shape()),
        strides(a.strides()),
        item(a.itemsize()),
        plain(a.flags().row_contiguous) {}

  size_t size() const {
    size_t n = 1;
    for (auto s : shape) n *= s;
    return n;
  }
  // The values in order: the data itself, or a copy in scratch memory.
  const uint8_t* ordered(linear::Scratch& scratch) const {
    if (plain || size() == 0) return data;
    uint8_t* out = scratch.take<uint8_t>(size() * item);
    copy(0, data, out);
    return out;
  }

 private:
  uint8_t* copy(size_t axis, const uint8_t* from, uint8_t* to) const {
    if (axis == shape.size()) {
      std::memcpy(to, from, item);
      return to + item;
    }
    if (axis + 1 == shape.size() && strides[axis] == 1) {
      std::memcpy(to, from, shape[axis] * item);
      return to + shape[axis] * item;
    }
    for (int i = 0; i < shape[axis]; i++) to = copy(axis + 1, from + i * strides[axis] * (int64_t)item, to);
    return to;
  }
};

// Rows of floats: leading axes laid one after the other.
struct RowsOf {
  View view;
  kernels::Type type;
  int count, cols;

  explicit RowsOf(const mx::array& a)
      : view(a), type(type_of(a.dtype(), "x")), count(a.shape(-1) ? (int)(a.size() / a.shape(-1)) : 0), cols(a.shape(-1)) {}

  linear::Source source(linear::Scratch& scratch) const {
    if (view.plain || !even()) return {type, view.ordered(scratch), (size_t)cols};
    return {type, view.data, (size_t)row_stride()};
  }

 private:
  int64_t row_stride() const {
    for (int i = (int)view.shape.size() - 2; i >= 0; i--)
      if (view.shape[i] != 1) return view.strides[i];
    return cols;
  }
  // Whether a single stride leads from each row to the next.
  bool even() const {
    if (view.strides.back() != 1 && cols != 1) return false;
    int64_t next = -1;
    for (int i = (int)view.shape.size() - 2; i >= 0; i--) {
      if (view.shape[i] == 1) continue;
      if (next >= 0 && view.strides[i] != next) return false;
      if (view.strides[i] < 0) return false;
      next = view.strides[i] * view.shape[i];
    }
    return true;
  }
};

// A vector of any float type as float32 in scratch memory.
inline const float* floats_of(const View& v, kernels::Type type, linear::Scratch& scratch) {
  const uint8_t* data = v.ordered(scratch);
  if (type == kernels::F32) return reinterpret_cast<const float*>(data);
  float* out = scratch.take<float>(v.size());
  kernels::best().widen(type, data, out, v.size());
  return out;
}

// An optional vector input, read as float32 when the work runs.
struct Vector {
  std::optional<View> view;
  kernels::Type type = kernels::F32;

  Vector(const std::vector<mx::array>& in, int at) {
    if (at < 0) return;
    view.emplace(in[at]);
    type = type_of(in[at].dtype(), "vector");
  }
  const float* floats(linear::Scratch& scratch) const { return view ? floats_of(*view, type, scratch) : nullptr; }
};

inline linear::Source normed(linear::Source x, const float* weight, float eps) {
  if (weight) x.normed = true, x.norm = weight, x.eps = eps;
  return x;
}

// Rows of (B, heads, L, size) whose last axis lies in order: B * L of them, `row` elements from one to the next.
struct RowsOfHeads {
  const uint8_t* data;
  int64_t row, head;

  RowsOfHeads(linear::Scratch& scratch, const View& v) {
    const int64_t b = v.shape[0], h = v.shape[1], l = v.shape[2], d = v.shape[3];
    const bool lined = (v.strides[3] == 1 || d == 1) && (b == 1 || l == 1);
    data = lined ? v.data : v.ordered(scratch);
    const int64_t steps[3] = {lined ? v.strides[0] : h * l * d, lined ? v.strides[1] : l * d, lined ? v.strides[2] : d};
    row = b == 1 ? steps[2] : steps[0], head = steps[1];
  }
};

// How many rows these are.
inline int rows_of(const mx::array& a, const char* name) {
  if (a.ndim() != 4) throw std::invalid_argument(std::string(name) + " must have 4 axes (batch, heads, positions, size)");
  if (a.shape(0) != 1 && a.shape(2) != 1)
    throw std::invalid_argument(std::string(name) + " must be rows: one of several sequences, or those of one");
  return a.shape(0) * a.shape(2);
}

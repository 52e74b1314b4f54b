// The line between the primitives, compiled once, and the kernels, compiled once for each instruction
// set with that set's own flags. Everything here is plain data: files of one instruction set must not
// share inline functions with others, or the linker could keep the copy that an older CPU cannot run.
//
// A packed weight is cut into panels of 16 output rows. A panel holds, for each group of inputs, 16
// scales (and 16 biases), rounded up to whole cache lines, and then its codes, in blocks of 32 inputs.
// A block has 8 steps of 4 inputs; a step is 64 bytes, row r in bytes 4r..4r+3, when unpacked:
//   8 bits   8 vectors: step j
//   4 bits   4 vectors: low nibbles step 2j, high nibbles step 2j + 1
//   2 bits   2 vectors: bits 2t of vector i are step 4i + t
//   1 bit    1 vector: bit t is step t
// 3, 5 and 6 bits are a plane of 2 or 4 bits, then the plane of their upper bits.
#pragma once

#include <cstddef>
#include <cstdint>

namespace kernels {

constexpr int kRows = 16;    // output rows of a panel
constexpr int kBlock = 32;   // inputs of a block
constexpr int kShift = 7;    // activations of the fast path are hi * 2^7 + lo
constexpr int kSlots = 8;    // rows that lie side by side in them

enum Type : uint8_t { F32, F16, BF16, E8M0, E4M3, S8 };  // S8: signed bytes of keys, whose scales lie apart

enum Codes : uint8_t { U2, U3, U4, U5, U6, U8, FP4, FP8, D32, D16, DB16 };  // D*: plain floats, no scales

struct Weight {
  const uint8_t* data;
  int rows;
  int cols;           // inputs, a whole number of groups
  int group;          // 0 for plain floats
  Codes codes;
  Type scale_type;
  bool has_bias;      // else the code `zero` stands for 0
  int zero;
  size_t scale_bytes; // of a panel, in whole cache lines
  size_t panel_bytes;
};

enum Activation : uint8_t { Silu, Gelu, GeluTanh, Relu, Relu2, ClampedSwiglu, Identity, Sigmoid };

// Rows of activations, in whichever forms the kernels of a call need.
struct Rows {
  const float* x;       // (M, x_stride)
  size_t x_stride;
  // Integers hi * 2^7 + lo, by tiles of kSlots rows: (tile, block, slot, hi and lo, 32)
  const int8_t* q;
  const float* scale;   // (tile, block, slot) what one unit of the integer stands for
  const float* sum;     // as scale: the sum of the block, as the integers tell it
  const float* low;     // as scale: the same of its first half
  const int32_t* whole; // as sum, in units
  const int32_t* first; // as low, in units
};

struct Attention;  // attention.h
struct Paged;
struct Conv;  // scan.h
struct Pacing;
struct Selective;
struct StateSpace;
struct Delta;
struct Linear;

struct Table {
  const char* name;
  bool integer;  // has the integer kernels

  // y (M, 16) = rows . panel of w
  void (*panel_float)(const Weight& w, size_t panel, const Rows& rows, int m, float* y);
  // the same for one or two neighbouring panels; `ldy` floats lie between their results
  void (*panels_integer)(const Weight& w, size_t panel, int panels, const Rows& rows, int m, size_t ldy, float* y);
  // Row `row` of x (wide, a whole number of blocks) into its slots of `to`. False where a value is not
  // finite, or too large or small for this.
  bool (*quantize)(const float* x, int wide, int row, const Rows& to);

  void (*widen)(Type type, const void* src, float* dst, size_t n);
  void (*narrow)(Type type, const float* src, void* dst, size_t n);
  // One row of a packed weight, as float32.
  void (*unpack_row)(const Weight& w, size_t row, float* dst);
  void (*rms_norm)(const float* x, const float* weight, float eps, int n, float* y);
  void (*layer_norm)(const float* x, const float* weight, const float* bias, float eps, int n, float* y);
  void (*activate)(Activation act, const float* gate, const float* up, int n, float* y);
  // The parts of one key range: see attention.h. `parts` has (rows, 2 + v_dim) floats.
  void (*attend)(const Attention& a, int batch, int kv_head, int first_row, int rows, int first_key, int keys,
                 float* parts, float* scratch);
  void (*finish)(const float* parts, size_t stride, int count, int v_dim, const float* sink, Type type, void* out);
  // One part of the keys, for rows whose tables name the same pages there; `parts` has (rows * heads / kv_heads,
  // 2 + v_dim) floats.
  void (*attend_part)(const Paged& a, int kv_head, const int32_t* table, int part, const int32_t* rows, int count,
                      float* parts, float* scratch);
  // `sum` is joined with the part that comes after it, `n` values each.
  void (*join)(float* sum, const float* part, int n);
  void (*put_sum)(const float* sum, int v_dim, Type type, void* out);
  // A row of keys or values as bytes, with the scales of each kScaled numbers in float16.
  void (*encode)(Type type, const void* from, int n, int8_t* codes, uint16_t* scales);
  // Passes over a row of scores: see body_sample.h.
  float (*top_of)(const float* x, int n);
  float (*weigh)(const float* x, int n, float top, float scale, float* w, float* peaks);
  int (*pick)(const float* w, const int32_t* ids, int n, uint32_t key, uint32_t other);
  // The rows of one sequence through a recurrence: channels from one on to another, the sixteen of a block, or a head.
  void (*conv)(const Conv& c, int first, int end);
  void (*pace)(const Pacing& p, const float* x, int n, float* y);
  void (*selective)(const Selective& x, int block, float* scratch);
  void (*state_space)(const StateSpace& x, int head, float* scratch);
  void (*delta)(const Delta& x, int head, float* scratch);
  void (*linear_scan)(const Linear& x, int first, int end);
};

// In a file of one instruction set, after the bodies.
#define MLXRUN_TABLE(name)                                                                     \
  {name,       kHasDot,  panel_float, panels_integer, quantize, widen, narrow, unpack_row, \
   rms_norm,   layer_norm, activate, attend,      finish,         attend_part, join,  put_sum, encode, \
   top_of,     weigh,    pick, conv, pace, selective, state_space, delta, linear_scan}

// The best set that this CPU can run, or the one that MLXRUN_ISA names if it can.
const Table& best();
// All that this CPU can run, best first; null ends the list.
const Table* const* usable();
// Use the set of that name from now on; false if this CPU cannot.
bool choose(const char* name);

}  // namespace kernels

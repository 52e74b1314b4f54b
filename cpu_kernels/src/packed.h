// A weight as the kernels want it (kernels.h), made once from what MLX or a file holds.
#pragma once

#include <optional>
#include <string>

#include "kernels.h"
#include "mlx/array.h"

namespace mx = mlx::core;

struct Packed {
  mx::array data;          // all panels of all experts, uint8, on a cache line
  kernels::Weight layout;  // of one expert; its data pointer is null
  int experts;             // 0: not a stack
  std::string mode;
  int bits;

  size_t panels() const { return (layout.rows + kernels::kRows - 1) / kernels::kRows; }
  size_t expert_bytes() const { return panels() * layout.panel_bytes; }
};

// From MLX's own layout: codes (..., rows, words) uint32, scales and biases (..., rows, groups).
// Arguments are checked here; std::invalid_argument names the one at fault.
Packed pack_quantized(const mx::array& codes, const mx::array& scales, const std::optional<mx::array>& biases,
                      const std::string& mode, int bits, int group);

// The memory that packed weights share is kept for them alone; later ones get other memory.
void put_no_more();

// From plain floats (..., rows, cols).
Packed pack_plain(const mx::array& weight);

// That a layout from elsewhere is one that the functions above make, so that no kernel reads beyond its panels.
void check_layout(const kernels::Weight& layout, const std::string& mode, int bits);

kernels::Type type_of(mx::Dtype dtype, const char* name);

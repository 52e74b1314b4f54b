// Products with packed weights as graph nodes. All check their arguments and throw
// std::invalid_argument naming the one at fault. `wish` is a
// precision: 0 exact, 1 fast, -1 what the setting says.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "linear.h"
#include "packed.h"

// -1 means the setting, which starts as fast.
linear::Precision precision_of(int wish);
void set_default_precision(int wish);

// y_i = rms_norm(x) . w_i^T + b_i (+ residual); one node for all weights.
std::vector<mx::array> project(const mx::array& x, const std::vector<const Packed*>& weights,
                               const std::vector<std::optional<mx::array>>& biases, const std::optional<mx::array>& norm,
                               float eps, const std::optional<mx::array>& residual, int wish);

// (x +) down(act(gate(n)) * up(n)) with n = rms_norm(x), or x where there is no norm.
mx::array feed_forward(const mx::array& x, const Packed* gate, const Packed& up, const Packed& down, const std::string& act,
                       const std::optional<mx::array>& norm, float eps, bool residual, int wish);

// Rows of a packed table. An id outside it gives NaN: ids are data, and a node cannot raise.
mx::array table_rows(const mx::array& ids, const Packed& table, mx::Dtype dtype);

kernels::Activation activation_of(const std::string& name);

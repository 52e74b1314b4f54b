"""Matrices quantized and packed in NumPy as other people's tools do, each with the values that it stands for.

Written from the formats' descriptions; nothing of mlxrun or MLX is used. A maker takes the module's name and a
matrix (out, in) and gives (the module's tensors, the values, float32).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tests.golden.dequantize import e4m3

Tensors = dict[str, np.ndarray]
Made = tuple[Tensors, np.ndarray]
Maker = Callable[[str, np.ndarray], Made]
E2M1 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6], np.float32)
E2M1 = np.concatenate([E2M1, -E2M1])
FP8 = e4m3(np.arange(256))
FP8[[127, 255]] = np.nan


def stream(codes: np.ndarray, bits: int) -> np.ndarray:
    """Codes along the last axis as one stream of bits, low first, in int32 words."""
    fields = ((codes[..., None].astype(np.int64) >> np.arange(bits)) & 1).astype(np.uint8)
    flat = fields.reshape(*codes.shape[:-1], codes.shape[-1] * bits)
    return np.packbits(flat, axis=-1, bitorder="little").view("<i4")


def grid(w: np.ndarray, bits: int, group: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(codes (out, in), float16 scales and integer zeros (out, groups)) that come near w."""
    shaped = w.reshape(w.shape[0], -1, group)
    low, high = np.minimum(shaped.min(-1), 0), np.maximum(shaped.max(-1), 0)
    scales = ((high - low) / (2**bits - 1)).astype(np.float16)
    wide = scales.astype(np.float32)
    zeros = np.clip(np.round(-low / wide), 0, 2**bits - 1)
    codes = np.clip(np.round(shaped / wide[..., None]) + zeros[..., None], 0, 2**bits - 1)
    return codes.reshape(w.shape).astype(np.uint8), scales, zeros.astype(np.uint8)


def affine_values(codes: np.ndarray, scales: np.ndarray, zeros: np.ndarray) -> np.ndarray:
    group = codes.shape[1] // scales.shape[1]
    wide = np.repeat(scales.astype(np.float32), group, axis=1)
    return wide * (codes.astype(np.float32) - np.repeat(zeros.astype(np.float32), group, axis=1))


def gptq(bits: int, group: int = 32, *, second: bool = False, act_order: bool = False) -> Maker:
    def make(name: str, w: np.ndarray) -> Made:
        width = w.shape[1]
        order = np.random.default_rng(5).permutation(width) if act_order else np.arange(width)
        codes, scales, zeros = grid(w[:, order], bits, group)
        values = affine_values(codes, scales, zeros)
        back = np.argsort(order)
        stored = (zeros.astype(int) - (0 if second else 1)) % 2**bits
        parts = {
            "qweight": np.ascontiguousarray(stream(codes[:, back], bits).T),
            "qzeros": stream(np.ascontiguousarray(stored.T), bits),
            "scales": np.ascontiguousarray(scales.T),
            "g_idx": (np.arange(width) // group)[back].astype(np.int32),
        }
        return {f"{name}.{part}": array for part, array in parts.items()}, values[:, back]

    return make


def awq(name: str, w: np.ndarray) -> Made:
    codes, scales, zeros = grid(w, 4, 32)

    def packed(rows: np.ndarray) -> np.ndarray:  # (n, out) -> (n, out / 8)
        eight = rows.reshape(rows.shape[0], -1, 8)[..., [0, 2, 4, 6, 1, 3, 5, 7]]
        return stream(eight.reshape(rows.shape), 4)

    parts = {"qweight": packed(codes.T), "qzeros": packed(zeros.T), "scales": np.ascontiguousarray(scales.T)}
    return {f"{name}.{part}": array for part, array in parts.items()}, affine_values(codes, scales, zeros)


def packed_integers(bits: int, group: int | None = 32, *, symmetric: bool = True, act_order: bool = False) -> Maker:
    def make(name: str, w: np.ndarray) -> Made:
        width = w.shape[1]
        order = np.random.default_rng(6).permutation(width) if act_order else np.arange(width)
        codes, scales, zeros = grid(w[:, order], bits, group or width)
        if symmetric:
            zeros = np.full_like(zeros, 2 ** (bits - 1))
        back = np.argsort(order)
        values = affine_values(codes, scales, zeros)[:, back]
        parts = {
            "weight_packed": stream(codes[:, back], bits),
            "weight_scale": scales,
            "weight_shape": np.array(w.shape, np.int64),
        }
        if not symmetric:
            parts["weight_zero_point"] = np.ascontiguousarray(stream(np.ascontiguousarray(zeros.T), bits).T)
        if act_order:
            parts["weight_g_idx"] = (np.arange(width) // (group or width))[back].astype(np.int32)
        return {f"{name}.{part}": array for part, array in parts.items()}, values

    return make


def plain_integers(name: str, w: np.ndarray) -> Made:
    scale = (np.abs(w).max(1, keepdims=True) / 127).astype(np.float16).astype(np.float32)
    codes = np.clip(np.round(w / scale), -127, 127).astype(np.int8)
    return {f"{name}.weight": codes, f"{name}.weight_scale": scale}, codes * scale


def nearest(values: np.ndarray, table: np.ndarray) -> np.ndarray:
    good = np.where(np.isnan(table), np.inf, table)
    return np.abs(values[..., None] - good).argmin(-1).astype(np.uint8)


def float8(part: str, block: tuple[int, int] | None) -> Maker:
    """With one scale, one a row ((1, 0)), or one a block."""

    def make(name: str, w: np.ndarray) -> Made:
        rows, columns = (
            (w.shape[0] if block is None else block[0]),
            (w.shape[1] if not block or not block[1] else block[1]),
        )
        counts = -(-w.shape[0] // rows), -(-w.shape[1] // columns)
        scale = np.empty(counts, np.float32)
        for i, j in np.ndindex(*counts):
            scale[i, j] = np.abs(w[i * rows : (i + 1) * rows, j * columns : (j + 1) * columns]).max() / 448
        spread = scale.repeat(rows, 0)[: w.shape[0]].repeat(columns, 1)[:, : w.shape[1]]
        codes = nearest(w / spread, FP8)
        stored = scale.reshape(()) if block is None else scale
        return {f"{name}.weight": codes, f"{name}.{part}": np.atleast_1d(stored)}, FP8[codes] * spread

    return make


def nv_four(packed: str, factor: str, *, divides: bool) -> Maker:
    def make(name: str, w: np.ndarray) -> Made:
        one = np.float32(np.abs(w).max() / (6 * 448))
        groups = w.reshape(w.shape[0], -1, 16)
        scales = nearest(np.abs(groups).max(-1) / 6 / one, FP8[:127])
        spread = (FP8[scales] * one)[..., None]
        codes = nearest(groups / np.where(spread == 0, 1, spread), E2M1).reshape(w.shape)
        values = (E2M1[codes].reshape(groups.shape) * spread).reshape(w.shape)
        parts = {packed: codes[:, 0::2] | codes[:, 1::2] << 4, "weight_scale": scales}
        parts[factor] = np.array([1 / one if divides else one], np.float32)
        return {f"{name}.{part}": array for part, array in parts.items()}, values.astype(np.float32)

    return make


def mx_four(name: str, w: np.ndarray) -> Made:
    groups = w.reshape(w.shape[0], -1, 32)
    exponent = np.ceil(np.log2(np.abs(groups).max(-1) / 6)).astype(int)
    scale = np.exp2(exponent).astype(np.float32)[..., None]
    codes = nearest(groups / scale, E2M1).reshape(w.shape)
    parts = {"weight_packed": codes[:, 0::2] | codes[:, 1::2] << 4, "weight_scale": (exponent + 127).astype(np.uint8)}
    return (
        {f"{name}.{part}": array for part, array in parts.items()},
        (E2M1[codes].reshape(groups.shape) * scale).reshape(w.shape),
    )


def bitnet(*, divides: bool) -> Maker:
    def make(name: str, w: np.ndarray) -> Made:
        size = np.float32(np.abs(w).mean())
        ternary = np.clip(np.round(w / size), -1, 1)
        quarters = (ternary + 1).astype(np.uint8).reshape(4, w.shape[0] // 4, w.shape[1])
        packed = quarters[0] | quarters[1] << 2 | quarters[2] << 4 | quarters[3] << 6
        scale = np.array([1 / size if divides else size], np.float32)
        values = ternary * (1 / scale[0] if divides else scale[0])
        return {f"{name}.weight": packed, f"{name}.weight_scale": scale}, values.astype(np.float32)

    return make


def compressed(form: str, **weights: Any) -> dict[str, Any]:
    groups = {"group_0": {"targets": ["Linear"], "weights": weights}}
    return {"quant_method": "compressed-tensors", "format": form, "config_groups": groups, "ignore": ["lm_head"]}


# name: (what config.json says, maker)
EXACT: dict[str, tuple[dict[str, Any], Maker]] = {
    **{f"gptq {b}": ({"quant_method": "gptq", "bits": b, "group_size": 32}, gptq(b)) for b in (2, 3, 4, 8)},
    "gptq second": ({"quant_method": "gptq", "bits": 4, "checkpoint_format": "gptq_v2"}, gptq(4, second=True)),
    "awq": ({"quant_method": "awq", "bits": 4, "group_size": 32, "version": "gemm"}, awq),
    "ct int4": (compressed("pack-quantized", num_bits=4, type="int"), packed_integers(4)),
    "ct int4 rows": (compressed("pack-quantized", num_bits=4, type="int"), packed_integers(4, None)),
    "ct int8": (compressed("pack-quantized", num_bits=8, type="int"), packed_integers(8)),
    "ct int4 zeros": (compressed("pack-quantized", num_bits=4, type="int"), packed_integers(4, symmetric=False)),
    "ct plain int8": (compressed("int-quantized", num_bits=8, type="int"), plain_integers),
    "ct mxfp4": (compressed("mxfp4-pack-quantized", num_bits=4, type="float"), mx_four),
    "bitnet": ({"quant_method": "bitnet"}, bitnet(divides=True)),
    "bitnet multiplied": ({"quant_method": "bitnet", "linear_class": "autobitlinear"}, bitnet(divides=False)),
}
BLOCK = {"quant_method": "fp8", "weight_block_size": [32, 64]}
LOSSY: dict[str, tuple[dict[str, Any], Maker]] = {
    "gptq act-order": ({"quant_method": "gptq", "bits": 4, "desc_act": True}, gptq(4, act_order=True)),
    "ct act-order": (compressed("pack-quantized", num_bits=4, type="int"), packed_integers(4, act_order=True)),
    "ct fp8": (compressed("float-quantized", num_bits=8, type="float"), float8("weight_scale", None)),
    "ct fp8 rows": (compressed("float-quantized", num_bits=8, type="float"), float8("weight_scale", (1, 0))),
    "ct fp8 blocks": (
        compressed("float-quantized", num_bits=8, type="float", block_structure=[32, 32]),
        float8("weight_scale", (32, 32)),
    ),
    "ct nvfp4": (
        compressed("nvfp4-pack-quantized", num_bits=4, type="float"),
        nv_four("weight_packed", "weight_global_scale", divides=True),
    ),
    "fp8 blocks": (BLOCK, float8("weight_scale_inv", (32, 64))),
    "fp8 one": ({"quant_method": "fp8"}, float8("weight_scale_inv", None)),
    "modelopt fp8": ({"quant_method": "modelopt", "quant_algo": "FP8"}, float8("weight_scale", None)),
    "modelopt nvfp4": (
        {"quant_method": "modelopt", "quant_algo": "NVFP4"},
        nv_four("weight", "weight_scale_2", divides=False),
    ),
}

"""Samples at one rate -> the same sound at another: a windowed sinc, one set of taps for each phase."""

from __future__ import annotations

import math

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

CROSSINGS = 32  # of the sinc's zeros to each side
BETA = 8.0  # of the Kaiser window: what lies above the new rate's half is 80 dB lower
ROLL = 0.95  # of the band that is kept whole

Samples = NDArray[np.float32]


def resampled(samples: Samples, old: int, new: int) -> Samples:
    """(n,) -> (about n * new / old,): each phase of the output is one product with every so-many-th window."""
    if old == new or not len(samples):
        return samples
    step = math.gcd(old, new)
    up, down = new // step, old // step
    taps = taps_of(up, down)  # (up, width)
    width, count = taps.shape[1], -(-len(samples) * up // down)
    padded = np.concatenate([np.zeros(width // 2, np.float32), samples, np.zeros(width + down, np.float32)])
    out = np.empty(count, np.float32)
    for phase in range(min(up, count)):
        rows = -(-(count - phase) // up)
        first = phase * down // up
        windows = as_strided(padded[first:], (rows, width), (down * padded.strides[0], padded.strides[0]))
        out[phase::up] = windows @ taps[phase]
    return out


def taps_of(up: int, down: int) -> Samples:
    """(up, width): output i * up + phase stands at (i * up + phase) * down / up among the inputs."""
    cut = ROLL * min(1.0, up / down)  # of the old rate's half
    half = math.ceil(CROSSINGS / cut)
    where = np.arange(-half, half + 1) - (np.arange(up) * down % up / up)[:, None]  # of inputs, from each output
    window = np.i0(BETA * np.sqrt(np.clip(1 - (where / (half + 1)) ** 2, 0, 1))) / np.i0(BETA)
    taps = cut * np.sinc(cut * where) * window
    return (taps / taps.sum(axis=1, keepdims=True)).astype(np.float32)

"""Samples -> what a model hears of them: the logarithm of the power in bands that follow the ear (mel).

As transformers' WhisperFeatureExtractor has it, to 1e-6: Hann window, reflected ends, Slaney's bands of equal area,
what is 80 dB below the loudest cut off.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from ..spec_sound import SoundSpec

LEAST = 1e-10  # of a band's power
LINEAR, STEP = 1000.0, math.log(6.4) / 27.0  # Hz up to which mels are linear (15 of them), and a mel's ratio above
Mels = NDArray[np.float32]


class Clip:
    """Samples of one sound, looked at a window at a time."""

    def __init__(self, samples: NDArray[np.float32], sound: SoundSpec) -> None:
        self.samples, self.sound = samples, sound

    @property
    def seconds(self) -> float:
        return len(self.samples) / self.sound.rate

    @property
    def frames(self) -> int:
        return -(-len(self.samples) // self.sound.hop)

    def window(self, first: int) -> Mels:
        """(frames of a window, mels) from that frame on; silence behind the end."""
        size, start = self.sound.rate * self.sound.seconds, first * self.sound.hop
        part = self.samples[start : start + size]
        return mels_of(np.pad(part, (0, size - len(part))), self.sound)


def mels_of(samples: NDArray[np.float32], sound: SoundSpec) -> Mels:
    """(n,) -> (n / hop, mels)."""
    half = sound.fft // 2
    padded = np.pad(samples.astype(np.float64), half, mode="reflect")
    frames = sliding_window_view(padded, sound.fft)[:: sound.hop][:-1]  # the last is dropped, as there
    power = np.abs(np.fft.rfft(frames * hann(sound.fft)).astype(np.complex64)).astype(np.float64) ** 2
    bands = np.log10(np.maximum(power @ filters(sound), LEAST)).astype(np.float32)
    return (np.maximum(bands, bands.max() - np.float32(8)) + np.float32(4)) / np.float32(4)


@lru_cache(maxsize=8)
def hann(size: int) -> NDArray[np.float64]:
    """Periodic."""
    return np.hanning(size + 1)[:-1]


@lru_cache(maxsize=8)
def filters(sound: SoundSpec) -> NDArray[np.float64]:
    """(bins, mels): triangles between neighbours on the scale of mels, each of area 2 / its width in Hz."""
    bins = np.linspace(0, sound.rate // 2, 1 + sound.fft // 2)
    edges = hertz(np.linspace(0, mel_of(sound.rate / 2), sound.mels + 2))
    slopes = edges[None, :] - bins[:, None]
    widths = np.diff(edges)
    rising, falling = -slopes[:, :-2] / widths[:-1], slopes[:, 2:] / widths[1:]
    triangles: NDArray[np.float64] = np.maximum(0, np.minimum(rising, falling))
    return triangles * (2.0 / (edges[2:] - edges[:-2]))


def mel_of(hz: float) -> float:
    return 3.0 * hz / 200.0 if hz < LINEAR else 15.0 + math.log(hz / LINEAR) / STEP


def hertz(mels: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(mels < 15.0, 200.0 * mels / 3.0, LINEAR * np.exp(STEP * (mels - 15.0)))

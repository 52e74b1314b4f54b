"""What listens beside a decoder: frozen data, as `spec` is for the decoder itself.

A listener makes rows of a window of sound: two convolutions over frames, then layers that see both ways. The layers of
a decoder that have a `cross` look at these rows. Does nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

from .spec import Activation, Layer, Norm


@dataclass(frozen=True, slots=True)
class SoundSpec:
    """How samples become frames."""

    mels: int  # bands of a frame
    rate: int = 16_000  # samples a second
    fft: int = 400  # samples that a frame looks at
    hop: int = 160  # samples from a frame to the next
    seconds: int = 30  # of a window

    @property
    def frames(self) -> int:
        """Of a window."""
        return self.rate * self.seconds // self.hop


@dataclass(frozen=True, slots=True)
class Listener:
    family: str  # for messages and display only
    sound: SoundSpec
    dim: int
    rows: int  # of a window, one for two frames
    act: Activation  # behind each convolution
    layers: tuple[Layer, ...]
    norm: Norm

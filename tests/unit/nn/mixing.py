"""What the tests of mixers share: drawn weights, and passes over several sequences by a timetable."""

from collections.abc import Callable, Sequence

import mlx.core as mx
import numpy as np

from mlxrun.nn.batch import Pass
from mlxrun.nn.params import Params
from mlxrun.ops.device import this_device

CONTEXT = 4096
LENGTHS = (70, 9, 1)  # more than a chunk of a scan, less, and a single row

# how many rows of each sequence every pass takes
TIMETABLES = {
    "each alone": [[70, 0, 0], [0, 9, 0], [0, 0, 1]],
    "together": [[70, 9, 1]],
    "uneven chunks": [[3, 0, 0], [33, 5, 0], [1, 0, 1], [30, 1, 0], [1, 1, 0], [1, 1, 0], [1, 1, 0]],
    "single steps": [[67, 6, 0], [1, 1, 1], [1, 1, 0], [1, 1, 0]],
}


class Draw:
    """Weights by name, float32 values held as float64, so that both sides see the same numbers."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.weights: dict[str, np.ndarray] = {}

    def values(self, *shape: int, scale: float = 1.0, shift: float = 0.0) -> np.ndarray:
        return (self.rng.standard_normal(shape) * scale + shift).astype(np.float32).astype(np.float64)

    def __call__(self, **shapes: tuple[int, ...]) -> None:
        """Matrices get a spread that keeps their products near one; vectors lie around zero."""
        for name, shape in shapes.items():
            scale = shape[-1] ** -0.5 if len(shape) > 1 else 0.5
            self.weights[name.replace("__", ".")] = self.values(*shape, scale=scale)

    def around_one(self, **shapes: tuple[int, ...]) -> None:
        for name, shape in shapes.items():
            self.weights[name.replace("__", ".")] = self.values(*shape, scale=0.2, shift=1.0)

    def params(self) -> Params:
        return Params({name: mx.array(value.astype(np.float32)) for name, value in self.weights.items()}, this_device())

    def sequences(self, dim: int) -> list[np.ndarray]:
        return [self.values(length, dim) for length in LENGTHS]


def run(
    block: Callable, memory: Callable, sequences: Sequence[np.ndarray], timetable: Sequence[Sequence[int]]
) -> list[np.ndarray]:
    """Each sequence's rows through the block as the timetable says; every row exactly once."""
    memories = [memory() for _ in sequences]
    done: list[list[np.ndarray]] = [[] for _ in sequences]
    at = [0] * len(sequences)
    for counts in timetable:
        there = [i for i, count in enumerate(counts) if count]
        rows = [sequences[i][at[i] : at[i] + counts[i]] for i in there]
        x = mx.array(np.concatenate(rows).astype(np.float32))
        p = Pass([(counts[i], at[i], CONTEXT) for i in there])
        y = np.array(block(x, p, [memories[i] for i in there]))
        for i, segment in zip(there, p.segments, strict=True):
            done[i].append(y[segment.rows])
            at[i] += counts[i]
    assert at == [len(s) for s in sequences]
    return [np.concatenate(parts) for parts in done]


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def silu(x: np.ndarray) -> np.ndarray:
    return x * sigmoid(x)


def softplus(x: np.ndarray) -> np.ndarray:
    return np.logaddexp(x, 0)


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def rms(x: np.ndarray, weight: np.ndarray | float = 1.0, eps: float = 1e-6) -> np.ndarray:
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + eps) * weight


def causal_conv_silu(x: np.ndarray, weight: np.ndarray, bias: np.ndarray | float = 0.0) -> np.ndarray:
    return silu(causal_conv(x, weight) + bias)


def causal_conv(x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """x (T, C), weight (C, K)."""
    taps = weight.shape[1]
    padded = np.concatenate([np.zeros((taps - 1, x.shape[1])), x])
    return np.stack([(padded[t : t + taps] * weight.T).sum(0) for t in range(len(x))])

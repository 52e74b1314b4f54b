"""What a model needs on a machine, and what would make it fit. Computed from headers and the spec; nothing is run.

Weights are exact. A sequence's memory is what the caches will allocate. Activations and the process's own share are
estimates (`activations`, `RUNTIME`). Quantized keys and values, and requests side by side, are planned for here
before the engine has them; `Advice` says so.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from . import activations, sequence
from .forecast import Forecast, decode_speed
from .machine import Machine
from .need import Need
from .profiles import machines
from .streaming import EDGES, SPARE, Streaming
from .towers import picture_bytes
from .weights import EXPERTS, Weights

MIB = 2**20
RUNTIME = 150 * MIB  # Python, MLX, a tokenizer: 130 MB measured on Linux with SmolLM2
CHUNKS = (2048, 1024, 512, 256, 128)
BITS = (8, 6, 5, 4, 3, 2)
SCALES = 0.5  # bits a weight: a 16-bit scale and bias for each 64
KEEP = 16  # bits of what a quantizer leaves alone
KV_BITS = (8, 4)
CONTEXTS = (32768, 8192, 4096)  # offered in place of one that is too long
SPARED = 8 * 2**30  # what the system keeps of a Mac when the GPU's limit is raised


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    machine: Machine
    need: Need
    weights: int
    cache: int  # of all sequences at the full context
    activations: int  # of what takes most while it is read, a prompt or a picture
    runtime: int
    seeing: int = 0  # of a picture

    @property
    def total(self) -> int:
        return self.arrays + self.runtime

    @property
    def arrays(self) -> int:
        """What MLX will report as its peak."""
        return self.weights + self.cache + self.activations

    @property
    def free(self) -> int:
        """Negative: so much is missing."""
        return self.machine.usable - self.total

    @property
    def array_too_large(self) -> bool:
        return self.machine.max_buffer is not None and self.need.weights.largest > self.machine.max_buffer

    @property
    def fits(self) -> bool:
        return self.free >= 0 and not self.array_too_large


@dataclass(frozen=True, slots=True)
class Advice:
    """What could be changed. None or empty: that would not help, or is not needed."""

    context: int  # the longest that fits; 0: none does
    parallel: int  # as many sequences of the asked context
    chunk: int | None  # the largest prefill chunk
    kv_bits: int | None  # keys and values of so many bits would do for the asked context
    bits: int | None  # the most bits a weight of this model that would fit
    bits_context: int | None  # with this context: the asked one, or less where that fits with no number of bits
    bits_weights: int | None  # its weights in bytes, estimated
    machine: Machine | None  # the smallest Mac that would hold it
    wired_limit: int | None  # MiB; the GPU's limit raised so far would do, and leave the system enough
    speed: Forecast | None
    disk: Streaming | None = None  # it would fit with a share of its experts on disk


def plan(need: Need, machine: Machine) -> MemoryPlan:
    decoder, rows = need.decoder, min(need.chunk, need.context)
    one, seen = sequence.sequence_bytes(decoder, need.context, need.width, rows, need.keys), 0
    if need.towers is not None:  # pictures and prompts are read in turns
        seen = picture_bytes(need.towers, need.width, gpu=machine.gpu, native=need.keys is not None)
    return MemoryPlan(
        machine=machine,
        need=need,
        weights=need.weights.total - need.on_disk,
        cache=one * need.parallel,
        activations=max(activations.prefill_bytes(decoder, rows, need.context, need.width, machine.gpu), seen),
        runtime=RUNTIME,
        seeing=seen,
    )


def advise(need: Need, machine: Machine) -> Advice:
    made = plan(need, machine)
    bits, bits_context = (None, None) if made.fits else _bits_that_fit(need, machine)
    return Advice(
        context=_largest(lambda n: plan(replace(need, context=n), machine).fits, need.decoder.context),
        parallel=_parallel(made),
        chunk=next((c for c in CHUNKS if plan(replace(need, chunk=c), machine).fits), None),
        kv_bits=None if made.fits else next((b for b in KV_BITS if _fits_with_kv(made, b)), None),
        bits=bits,
        bits_context=bits_context,
        bits_weights=None if bits is None else weights_at(need.weights, bits),
        machine=None if made.fits else next((m for m in machines() if plan(need, m).fits), None),
        wired_limit=_wired_limit(made),
        speed=decode_speed(machine, need.decoder, need.weights, need.context, need.width, need.keys),
        disk=None if made.fits else streaming(need, machine),
    )


def streaming(need: Need, machine: Machine) -> Streaming | None:
    """None: it has no experts, too little memory even so, or a GPU, whose memory does not come from a file by pages."""
    experts = need.weights.kinds.get(EXPERTS, 0)
    if machine.gpu or not experts:
        return None
    hot = min(experts, plan(replace(need, hot=0), machine).free - SPARE)
    if hot < min(experts, need.weights.experts_layer + EDGES):
        return None
    return Streaming(replace(need, hot=hot), experts)


def weights_at(weights: Weights, bits: int) -> int:
    """The same model quantized by groups of 64: an estimate from its parameters."""
    return round((weights.matrices * (bits + SCALES) + weights.others * KEEP) / 8)


def _bits_that_fit(need: Need, machine: Machine) -> tuple[int, int] | tuple[None, None]:
    """(bits, context): fewer bits than it has now, of course."""
    fewer = [bits for bits in BITS if weights_at(need.weights, bits) < need.weights.total]
    for context in (need.context, *(less for less in CONTEXTS if less < need.context)):
        made = plan(replace(need, context=context), machine)
        for bits in fewer:
            if made.free + made.weights - weights_at(need.weights, bits) >= 0:
                return bits, context
    return None, None


def _fits_with_kv(made: MemoryPlan, bits: int) -> bool:
    """Keys and values quantized by groups of 64, scales and biases included."""
    smaller = round(made.cache * (bits + SCALES) / (8 * (made.need.keys or made.need.width)))
    return not made.array_too_large and made.free + made.cache - smaller >= 0


def _wired_limit(made: MemoryPlan) -> int | None:
    machine = made.machine
    possible = machine.gpu and not machine.card and not machine.held and not made.fits and not made.array_too_large
    possible = possible and made.total <= machine.total - SPARED
    return -(-made.total // MIB) if possible else None


def _parallel(made: MemoryPlan) -> int:
    one = made.cache // made.need.parallel
    room = made.free + made.cache
    if room < one or made.array_too_large:
        return 0
    return room // one if one else made.need.parallel


def _largest(fits: Callable[[int], bool], high: int) -> int:
    """The largest n from 1 to `high` that fits; what fits does so for everything smaller."""
    if not fits(1):
        return 0
    low = 1
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    return low

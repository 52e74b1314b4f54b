"""A plan as a picture: one bar for the machine's memory, what every part is, and what to change."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from rich import box
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from ..loading.dry_run import DryRun
from ..loading.fit import describe_offload
from ..memory.need import Need
from ..memory.plan import Advice, MemoryPlan
from ..memory.sequence import fixed_bytes, token_bytes
from ..memory.towers import largest
from ..spec import LatentAttention, one_line
from .show import count

WIDEST = 100
MISSING = "missing"
SIGNS = {"free": "─", "reserved": "░", MISSING: "▚"}  # with colours; all else is solid
KINDS = 4  # parts of the weights that are named


@dataclass(frozen=True, slots=True)
class MemoryPart:
    name: str
    bytes: int
    told: str
    style: str
    sign: str  # of the bar where there are no colours


def show(model: str, made: MemoryPlan, advice: Advice, seen: DryRun, console: Console | None = None) -> None:
    console = console or Console(highlight=False)
    console.print(picture(model, made, advice, seen, min(console.width, WIDEST), console.color_system is not None))


def picture(model: str, made: MemoryPlan, advice: Advice, seen: DryRun, width: int, coloured: bool) -> Panel:
    parts = parts_of(made, seen)
    inner = width - 6
    body: list[RenderableType] = [
        bar(made, parts, inner, coloured),
        ruler(made, inner),
        Padding(table(parts, coloured), (1, 0)),
        Padding(verdict(made), (0, 0, 1, 0)),
        hints(made, advice),
    ]
    title = Text.assemble((one_line(model), "bold"), " on ", (made.machine.name, "bold"))
    border = "green" if made.fits else "red"
    return Panel(
        Group(*body), title=title, title_align="left", border_style=border, box=box.ROUNDED, padding=(1, 2), width=width
    )


def parts_of(made: MemoryPlan, seen: DryRun) -> list[MemoryPart]:
    need = made.need
    kinds = list(need.weights.kinds.items())
    named = [f"{name} {size(taken)}" for name, taken in kinds[:KINDS]]
    rest = sum(taken for _, taken in kinds[KINDS:])
    if rest:
        named.append(f"rest {size(rest)}")
    form = f", {seen.form}" if seen.form else ""
    form += f", {size(need.on_disk)} of experts on disk" if need.on_disk else ""
    each = token_bytes(need.decoder, need.width, need.keys)
    fixed = fixed_bytes(need.decoder, need.width)
    state = f", {size(fixed)} of states" if fixed else ""
    many = f"{need.parallel} × " if need.parallel > 1 else ""
    others = "the system's share" if made.machine.gpu else "in use by others"
    parameters = count(need.weights.matrices + need.weights.others)
    return [
        MemoryPart(
            "weights",
            made.weights,
            f"{parameters} at {need.weights.bits:.1f} bits{form}\n{', '.join(named)}",
            "dodger_blue2",
            "█",
        ),
        MemoryPart(
            "KV cache",
            made.cache,
            f"{many}{need.context:,} tokens, {size(each)} a token, {8 * (need.keys or need.width)} bits a value{state}",
            "green3",
            "▓",
        ),
        MemoryPart("activations", made.activations, f"{read_at_once(made)}, estimated", "gold3", "▒"),
        MemoryPart("runtime", made.runtime, "Python, MLX and the tokenizer, estimated", "medium_purple1", "#"),
        MemoryPart("free", made.free, "", "grey35", "·")
        if made.free >= 0
        else MemoryPart(MISSING, -made.free, "", "red", "!"),
        MemoryPart("reserved", made.machine.reserved, others, "grey58", "/"),
    ]


def read_at_once(made: MemoryPlan) -> str:
    """What takes most while it is read."""
    towers, prompts = made.need.towers, f"prompts in chunks of {made.need.chunk}"
    if towers is None or made.seeing < made.activations:
        return prompts
    return f"a picture of {largest(towers):,} patches, more than {prompts}"


def bar(made: MemoryPlan, parts: list[MemoryPart], cells: int, coloured: bool) -> Text:
    """Cell by cell, so that whatever there is takes at least one; what is beyond the limit is red."""
    shown, limit = drawn(made, parts), mark(made, cells)
    line = Text()
    for part, share in zip(shown, spread([part.bytes for part in shown], cells), strict=True):
        for _ in range(share):
            over = len(line) >= limit and part.name != "reserved" and made.free < 0
            line.append(*(sign_of(parts[4], coloured) if over else sign_of(part, coloured)))
    return line


def sign_of(part: MemoryPart, coloured: bool) -> tuple[str, str]:
    return SIGNS.get(part.name, "█") if coloured else part.sign, part.style


def drawn(made: MemoryPlan, parts: list[MemoryPart]) -> list[MemoryPart]:
    """Of the share that is not for a model only what is not overrun."""
    if made.free >= 0:
        return parts
    left = max(0, made.machine.total - made.total)
    return [*parts[:4], MemoryPart("reserved", left, "", parts[-1].style, parts[-1].sign)]


def spread(amounts: list[int], cells: int) -> list[int]:
    """Whole cells that add up; something that is there has one."""
    whole = sum(amounts) or 1
    shares = [max(1, round(cells * amount / whole)) if amount else 0 for amount in amounts]
    while sum(shares) != cells:
        largest = shares.index(max(shares))
        shares[largest] += 1 if sum(shares) < cells else -1
    return shares


def mark(made: MemoryPlan, cells: int) -> int:
    scale = max(made.machine.total, made.total)
    return min(cells, round(cells * made.machine.usable / scale))


def ruler(made: MemoryPlan, cells: int) -> Text:
    """Where the limit is, under the bar, and where the bar ends."""
    machine, at = made.machine, mark(made, cells)
    label = f"{size(machine.usable)} for a model"
    text = f"{label} ╵".rjust(at) if len(label) + 2 <= at else "╵ ".rjust(at + 1) + label
    end = f"{size(machine.total)} in all" if machine.total >= made.total else f"{size(made.total)} needed"
    room = cells - len(text)
    return Text(text + (end.rjust(room) if room > len(end) else ""), style="dim", no_wrap=True)


def table(parts: list[MemoryPart], coloured: bool) -> Table:
    grid = Table.grid(padding=(0, 2))
    grid.add_column()
    grid.add_column(justify="right")
    grid.add_column(style="dim")
    for part in parts:
        sign, style = sign_of(part, coloured)
        grid.add_row(Text.assemble((sign * 2, style), " ", part.name), size(part.bytes), part.told)
    return grid


def verdict(made: MemoryPlan) -> Text:
    tokens = f"{made.need.context:,} tokens"
    if made.fits:
        return Text.assemble(("✓ It fits", "bold green"), f" with {tokens} of context, and {size(made.free)} are left.")
    if made.array_too_large:
        return Text.assemble(
            ("✗ It does not fit", "bold red"),
            f": an array of {size(made.need.weights.largest)} is larger than "
            f"this GPU's largest buffer, {size(made.machine.max_buffer or 0)}.",
        )
    return Text.assemble(
        ("✗ It does not fit", "bold red"), f" with {tokens} of context: {size(-made.free)} are missing."
    )


def hints(made: MemoryPlan, advice: Advice) -> Table:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column()
    for name, told in possible(made, advice) if made.fits else changes(made, advice):
        grid.add_row(name, told)
    return grid


def possible(made: MemoryPlan, advice: Advice) -> Iterator[tuple[str, str]]:
    need = made.need
    whole = ", all that the model takes" if advice.context == need.decoder.context else ""
    yield "context", f"up to {advice.context:,} tokens{whole}"
    yield "parallel", f"up to {advice.parallel:,} sequences of {need.context:,} tokens"
    if advice.speed is not None:
        yield "speed", speed(advice)
    if advice.disk is not None:
        yield "on disk", describe_offload(advice.disk)


def speed(advice: Advice) -> str:
    found = advice.speed
    assert found is not None
    return (
        f"about {found.likely:.0f} tokens/s, between {found.low:.0f} and {found.high:.0f}, "
        f"at {found.context:,} tokens: a forecast, not a measurement"
    )


def changes(made: MemoryPlan, advice: Advice) -> Iterator[tuple[str, str]]:
    """What would make it fit, the easiest first."""
    need = made.need
    told = list(changes_here(made, advice))
    if advice.machine is not None:
        told.append(("another Mac", f"the smallest that holds it: {advice.machine.name}"))
    if not told:
        told.append(
            ("", f"Nothing of this makes it fit: less context than {need.context:,}, fewer bits, a larger Mac.")
        )
    yield from told


def changes_here(made: MemoryPlan, advice: Advice) -> Iterator[tuple[str, str]]:
    need = made.need
    if advice.context >= 2:
        each = " each" if need.parallel > 1 else ""
        yield "--context", f"{advice.context:,} tokens{each} fit"
    if 0 < advice.parallel < need.parallel:
        yield "--parallel", f"{advice.parallel:,} sequences fit"
    if advice.bits is not None and advice.bits_weights is not None:
        less = "" if advice.bits_context == need.context else f" with {advice.bits_context:,} tokens"
        yield "fewer bits", f"{advice.bits}-bit weights would fit{less}: about {size(advice.bits_weights)}, estimated"
    if advice.disk is not None:
        yield "--experts-on-disk", f"runs, slowly: {describe_offload(advice.disk)}"
    if advice.kv_bits is not None:
        yield smaller_keys(need, advice.kv_bits)
    if advice.chunk is not None and advice.chunk < need.chunk:
        yield "smaller chunks", f"prompts in chunks of {advice.chunk} would do, but the engine takes {need.chunk}"
    if advice.wired_limit is not None:
        yield (
            "raise the limit",
            f"sudo sysctl iogpu.wired_limit_mb={advice.wired_limit} gives the GPU more until the next start; "
            "close other programs first",
        )


def smaller_keys(need: Need, bits: int) -> tuple[str, str]:
    latents = any(isinstance(layer.mixer, LatentAttention) for layer in need.decoder.layers)
    if bits == 8 and need.keys is not None and not latents:
        return "--kv-bits 8", "keys and values in 8 bits would do"
    return "smaller keys", f"{bits}-bit keys and values would do, but mlxrun does not keep these so here"


def size(number: int) -> str:
    for unit, name in ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
        if number >= unit:
            value = number / unit
            return f"{value:.0f} {name}" if value >= 100 or value == int(value) else f"{value:.1f} {name}"
    return f"{number} B"

"""Which of a repository's GGUF files is meant, told from their names and sizes alone.

A file's label is the piece of its name that says how it is quantized; what remains of the name is the model. Parts
of one file go together. Vision towers (mmproj) and importance matrices are no models.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from ..spec import ModelError
from ..weights.gguf import MAX_PARTS, PART
from .names import believable

LABEL = re.compile(
    r"(?:^|[-._/])(?P<label>(?:UD-)?(?:I?Q\d(?:_\w+)?|TQ\d_\w+|BF16|FP?16|FP?32|MXFP4(?:_\w+)?|NVFP4(?:_\w+)?))(?=$|[-./])",
    re.IGNORECASE | re.ASCII,
)
NO_MODEL = re.compile(r"(?:^|[-._])(?:mmproj|imatrix)(?:$|[-._])", re.IGNORECASE)
RETIRED = re.compile(r"Q4_0_\d_\d", re.IGNORECASE)  # layouts for some processors that nobody reads any more
BITS = {"BF16": 16, "F16": 16, "FP16": 16, "F32": 32, "FP32": 32}
# of labels with as many bits, those that people take first
ENDINGS = ("K_M", "K", "K_L", "K_S", "0", "K_XL", "NL", "XS", "1", "M", "S", "XXS")
USUAL, LARGE = 4, 8  # bits: what loses little, and what loses next to nothing
SHARE = 0.5  # of the memory, for the weights
GIB = 2**30


@dataclass(frozen=True, slots=True)
class Offer:
    """One file, or all parts of one."""

    label: str | None
    model: str  # its name without label and part
    files: tuple[str, ...]  # the first part first
    size: int  # bytes; 0: nobody says
    missing: int = 0  # parts that are not there

    @property
    def bits(self) -> int:
        """A weight, roughly."""
        label = (self.label or "").upper().removeprefix("UD-")
        digit = re.search(r"\d", label)
        return BITS.get(label) or (int(digit[0]) if digit else 0)

    @property
    def rank(self) -> tuple[int, bool, str]:
        """Among those with as many bits; the least is taken first."""
        label = (self.label or "").upper()
        tail = label.removeprefix("UD-").partition("_")[2]
        return ENDINGS.index(tail) if tail in ENDINGS else len(ENDINGS), label.startswith("UD-"), self.files[0]

    @property
    def told(self) -> str:
        return self.label or self.files[0]


@dataclass(frozen=True, slots=True)
class Choice:
    offer: Offer
    why: str  # empty: there was nothing to choose


def offers(sizes: Mapping[str, int | None]) -> list[Offer]:
    """Of files by their path in the repository."""
    parts: dict[tuple[str, int], dict[int, str]] = {}
    for file in sorted(sizes):
        if not believable(file) or NO_MODEL.search(file.rpartition("/")[2].removesuffix(".gguf")):
            continue
        part = PART.search(file)
        stem, number, count = (file[: part.start()], int(part[1]), int(part[2])) if part else (file[:-5], 1, 1)
        if 1 <= number <= count <= MAX_PARTS:
            parts.setdefault((stem, count), {})[number] = file
    return [_offer(stem, count, found, sizes) for (stem, count), found in parts.items()]


def _offer(stem: str, count: int, found: Mapping[int, str], sizes: Mapping[str, int | None]) -> Offer:
    name = stem.rpartition("/")[2]
    labels = list(LABEL.finditer(name)) or list(LABEL.finditer(stem))  # of a folder, where the file has none
    label = labels[-1]["label"] if labels else None
    model = name if label is None else LABEL.sub("", name)
    files = tuple(found[number] for number in sorted(found))
    known = [size for file in files if (size := sizes[file]) is not None]
    total = sum(known) if len(known) == len(files) else 0
    return Offer(label, model.lower().strip("-._"), files, total, count - len(found))


def found_by(found: Iterable[Offer], file: str) -> Offer | None:
    """The one that this file belongs to."""
    return next((offer for offer in found if file in offer.files), None)


def named(where: str, found: Sequence[Offer], file: str) -> Offer:
    offer = found_by(found, file)
    if offer is None:
        raise ModelError(f"{where} has no file {file}{_has(found)}.")
    return complete(where, offer)


def tagged(where: str, found: Sequence[Offer], tag: str) -> Offer:
    """The one whose name has the tag as a whole piece."""
    piece = re.compile(rf"(?:^|[-./]){re.escape(tag)}(?=$|[-./])", re.IGNORECASE)
    wanted = tag.upper()
    same = [offer for offer in found if (offer.label or "").upper() == wanted]
    like = [offer for offer in found if (offer.label or "").upper() == f"UD-{wanted}"]
    pieces = [offer for offer in found if piece.search(PART.sub("", offer.files[0]).removesuffix(".gguf"))]
    matching = same or like or pieces
    if not matching:
        raise ModelError(f"{where} has no {tag}{_has(found)}.")
    if len(matching) > 1:
        raise ModelError(_several(where, matching))
    return complete(where, matching[0])


def complete(where: str, offer: Offer) -> Offer:
    if offer.missing:
        raise ModelError(f"{where} lacks {offer.missing} of the parts of {offer.files[0]}.")
    return offer


def _has(found: Iterable[Offer]) -> str:
    told = list(dict.fromkeys(offer.told for offer in sorted(found, key=lambda o: (o.bits, o.files))))
    return f"; it has {', '.join(told)}" if told else ", and no GGUF model at all"


def _several(where: str, found: Sequence[Offer]) -> str:
    files = [offer.files[0] for offer in found]
    some = ", ".join(files[:6]) + (" ..." if len(files) > 6 else "")
    return f"{where} holds several models; name one, as {where}/{files[0]}: {some}."


def choose_file(where: str, found: Sequence[Offer], usable: int, fits: Callable[[Offer], bool]) -> Choice:
    """The best for a machine that has so many bytes for a model; `fits` says what the plan says, and may cost time."""
    whole = [offer for offer in found if not offer.missing]
    if not whole:
        complete(where, found[0]) if found else None
        raise ModelError(f"{where} holds no model that is read: neither safetensors nor a .gguf file.")
    if len(whole) == 1:
        return Choice(whole[0], "")
    if len({offer.model for offer in whole}) > 1 or any(offer.label is None for offer in whole):
        raise ModelError(_several(where, whole))
    room = f"the {usable / GIB:.1f} GiB that a model can have here"
    half = (o for o in whole if USUAL <= o.bits <= LARGE and o.size <= SHARE * usable)
    for candidates, why in (
        (in_order(half), f"the most bits up to {LARGE} whose weights leave half of {room} for all else"),
        (in_order(o for o in whole if o.bits <= USUAL), f"the most bits up to {USUAL} that fit {room}"),
        (in_order((o for o in whole if o.bits > USUAL), least=True), f"the fewest bits, and they fit {room}"),
    ):
        for offer in candidates:
            if offer.size <= usable and fits(offer):
                return Choice(offer, why)
    least = min(whole, key=lambda offer: offer.size)
    raise ModelError(
        f"{where} takes {least.size / GIB:.1f} GiB with the fewest bits that it comes with ({least.told}), which does "
        f"not fit {room}: choose a smaller model, or name a file, as {where}:{least.told}."
    )


def in_order(found: Iterable[Offer], *, least: bool = False) -> list[Offer]:
    """Most bits first, or fewest; of those with as many the one that people take first."""
    readable = [offer for offer in found if not RETIRED.fullmatch(offer.label or "")]
    return sorted(readable, key=lambda offer: (offer.bits if least else -offer.bits, offer.rank))

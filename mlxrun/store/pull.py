"""A model of the hub by its name: what is on this machine already, or fetched.

Safetensors win where a repository has both and nothing else is said. Of GGUF files one is fetched: that of the tag, or
the best for this machine by the plan that `mlxrun fit` makes, told from its header before the rest is fetched.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..memory.disk import free_in
from ..settings import Settings
from ..spec import ModelError, one_line
from . import blob, far, ggufs, hub
from .arriving import Coming, Told, tell_nobody
from .ggufs import Choice, Offer
from .names import Name

if TYPE_CHECKING:
    from ..memory.machine import Machine

GIB = 2**30
GOES_ON = "What has arrived is kept, and the next try goes on from there."
SPARE = 1 << 30  # bytes of the disk that are left to others


def pull_model(name: Name, settings: Settings, told: Told = tell_nobody) -> Path:
    """A folder or a .gguf file. `told`: what comes, before it does."""
    place = here(name, settings)
    if place is not None:
        return place
    listing = _listing(name)
    if name.whole and listing.has_safetensors:
        _expect(name, listing, listing.wanted, told)
        return hub.snapshot(name.base)
    choice = wanted(name, listing, machine_of(settings))
    return _fetched(name, listing, choice.offer, told)


@contextmanager
def outline_remote(name: Name, machine: Machine) -> Iterator[Path]:
    """Its headers where they can be read, of a model that is not here; of several the best for that machine."""
    listing = _listing(name)
    if name.whole and listing.has_safetensors:
        lent = far.outline_of_folder(listing)
    else:
        lent = far.outline_of_gguf(listing, wanted(name, listing, machine).offer)
    with lent as place:
        yield place


def _listing(name: Name) -> hub.Listing:
    try:
        return hub.listing(name.base)
    except ModelError:
        raise
    except hub.broken() as error:
        raise ModelError(hub.reason(str(name), error, kept="")) from error


def here(name: Name, settings: Settings, machine: Machine | None = None) -> Path | None:
    """Where it is on this machine, whole; the network is not asked."""
    folder = hub.cached(name.base)
    if folder is None:
        return None
    if name.whole and hub.is_whole(folder):
        return folder
    found = [offer for offer in offers_in(folder) if not offer.missing]
    try:
        if name.file is not None:
            return folder / ggufs.named(name.base, found, name.file).files[0]
        if name.tag is not None:
            return folder / ggufs.tagged(name.base, found, name.tag).files[0]
    except ModelError:  # another file than those that are here; the hub may have it
        return None
    if len(found) < 2:
        return folder / found[0].files[0] if found else None
    machine = machine or machine_of(settings)
    choice = ggufs.choose_file(name.base, found, machine.usable, lambda offer: fits(folder / offer.files[0], machine))
    _tell(name, choice, found, "is taken of those that are here")
    return folder / choice.offer.files[0]


def wanted(name: Name, listing: hub.Listing, machine: Machine) -> Choice:
    """Which of the hub's GGUF files; says which where it was not the person who chose."""
    found = ggufs.offers(listing.sizes)
    if name.file is not None:
        return Choice(ggufs.named(name.base, found, name.file), "")
    if name.tag is not None:
        return Choice(ggufs.tagged(name.base, found, name.tag), "")
    choice = ggufs.choose_file(name.base, found, machine.usable, lambda offer: _fits_from_afar(listing, offer, machine))
    _tell(name, choice, found, "is taken")
    return choice


def _tell(name: Name, choice: Choice, found: list[Offer], what: str) -> None:
    if choice.why:
        others = [offer.told for offer in ggufs.in_order(found) if offer is not choice.offer]
        size = f" ({choice.offer.size / 1e9:.1f} GB)" if choice.offer.size else ""
        told = f"{name}: {choice.offer.told}{size} {what}: {choice.why}. Others: {', '.join(others)}."
        print(one_line(told), file=sys.stderr, flush=True)


def _fits_from_afar(listing: hub.Listing, offer: Offer, machine: Machine) -> bool:
    with far.outline_of_gguf(listing, offer) as place:
        return fits(place, machine)


def fits(place: Path, machine: Machine) -> bool:
    """What `mlxrun fit` answers, where no context is asked for. Reads headers only."""
    from ..core import USUAL_CONTEXT
    from ..loading.dry_run import dry_run
    from ..loading.open import open_model
    from ..memory.need import Need
    from ..memory.plan import plan
    from ..ops.device import a_mac, this_device

    device = this_device() if machine.here else a_mac()
    opened = open_model(place, device=device)
    decoder = opened.recipe.decoder
    seen = dry_run(opened.checkpoint, opened.recipe, device)
    context = min(USUAL_CONTEXT, decoder.context)
    return plan(Need(decoder, seen.weights, seen.width, context, keys=seen.keys), machine).fits


def machine_of(settings: Settings) -> Machine:
    """This one, with what a person grants of it."""
    from ..memory.here import this_machine

    machine = this_machine()
    return machine if settings.memory is None else replace(machine, usable=min(machine.usable, settings.memory))


def _fetched(name: Name, listing: hub.Listing, offer: Offer, say: Told) -> Path:
    from huggingface_hub import constants, snapshot_download

    coming = blob.remaining(listing, offer.files)
    size = f" ({coming / 1e9:.2f} GB to come)" if coming else ""
    told = f"Fetching {offer.files[0]} of {name.base}{size} from the Hugging Face hub ..."
    print(one_line(told), file=sys.stderr, flush=True)
    try:
        _expect(name, listing, offer.files, say)
        for file in offer.files:
            blob.arrive(listing, file)
        folder = Path(
            snapshot_download(
                name.repository,
                revision=name.revision,
                allow_patterns=list(offer.files),
                cache_dir=constants.HF_HUB_CACHE,
            )
        )
    except ModelError:
        raise
    except hub.broken() as error:
        raise ModelError(hub.reason(str(name), error, kept=GOES_ON)) from error
    if not all((folder / file).exists() for file in offer.files):
        raise ModelError(f"{name} has changed on the hub meanwhile; fetch it again.")
    return folder / offer.files[0]


def _expect(name: Name, listing: hub.Listing, files: tuple[str, ...], told: Told) -> None:
    """Raises where there is no room for what comes."""
    from huggingface_hub import constants

    coming = blob.remaining(listing, files)
    room = free_in(hub.held(name.base))
    if coming + SPARE > room:
        raise ModelError(
            f"{name} takes {coming / GIB:.1f} GiB more, and {room / GIB:.1f} GiB of the disk are free: free some "
            f"room in {constants.HF_HUB_CACHE}, then fetch it again."
        )
    largest = max(files, key=lambda file: listing.sizes[file] or 0, default="")
    told(Coming(hub.held(name.base) / "blobs", coming, listing.digests.get(largest)))


# ---- what is here ---------------------------------------------------------------------------------


def offers_in(folder: Path) -> list[Offer]:
    """The GGUF files of a snapshot that are there and not links to nothing."""
    files = (file for file in folder.rglob("*.gguf") if file.is_file())
    return ggufs.offers({file.relative_to(folder).as_posix(): file.stat().st_size for file in files})


def on_disk() -> Iterator[tuple[str, Path]]:
    """(name, place) of every whole model in the hub's cache; each name leads there again."""
    for name, folder in hub.on_disk():
        if hub.is_whole(folder):
            yield name, folder
        found = [offer for offer in offers_in(folder) if not offer.missing]
        labels = [(offer.label or "").upper() for offer in found]
        for offer in sorted(found, key=lambda offer: offer.files):
            alone = offer.label is not None and labels.count(offer.label.upper()) == 1
            yield f"{name}:{offer.label}" if alone else f"{name}/{offer.files[0]}", folder / offer.files[0]


def place_of(name: Name) -> Path | None:
    """What is here of that name, whole or not."""
    folder = hub.cached(name.base)
    if folder is None:
        repository = hub.held(name.base)  # nothing arrived whole yet
        return repository if name.whole and name.revision is None and repository.is_dir() else None
    if name.whole:
        return folder
    found = offers_in(folder)
    offer = (
        ggufs.found_by(found, name.file) if name.file is not None else ggufs.tagged(name.base, found, name.tag or "")
    )
    return folder / offer.files[0] if offer is not None else None


def parts_of(place: Path) -> tuple[Path, list[str]] | None:
    """(snapshot, the files of the model by their names in it) of a GGUF file in the hub's cache."""
    folder = hub.snapshot_of(place)
    if folder is None or folder == place:
        return None
    name = place.relative_to(folder).as_posix()
    for offer in ggufs.offers({file.relative_to(folder).as_posix(): None for file in folder.rglob("*.gguf")}):
        if name in offer.files:
            return folder, list(offer.files)
    return folder, [name]

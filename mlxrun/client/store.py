"""The models on this machine and those that are known by name, as a client lists them; of one its details and copies.

Listing opens none of them, and imports no MLX.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from ..settings import Settings, from_environment
from ..store.pull import parts_of
from ..store.resolve import list_installed
from .types import FoundModel, ModelDetails, ModelInfo


def on_this_machine(settings: Settings | None = None, *, loaded: str | None = None) -> list[ModelInfo]:
    """Every model of the store; `loaded` names the one that runs, wherever it lies."""
    found = [
        ModelInfo(name, None if place is None else str(place), None if place is None else weight_bytes(place))
        for name, place in list_installed(settings or from_environment())
    ]
    if loaded is not None and loaded not in {model.name for model in found}:
        place = Path(os.path.expanduser(loaded))
        found.append(ModelInfo(loaded, *((str(place), weight_bytes(place)) if place.exists() else ())))
    return [replace(model, loaded=model.name == loaded) for model in found]


def is_here(name: str, settings: Settings | None = None) -> bool:
    """Whether a model need not be fetched. A ModelError: it can be no model's name."""
    from ..store.resolve import here

    return here(name, settings or from_environment()) is not None


def search_hub(words: str) -> list[FoundModel]:
    """Models of the Hugging Face hub whose names have these words, the most fetched ones first."""
    from ..store.hub import search

    return [FoundModel(name, fetched) for name, fetched in search(words)]


def by_name(settings: Settings | None = None) -> list[ModelInfo]:
    """Short names of models that can be fetched; their bytes are those of the form that suits this machine, about."""
    from ..store.catalogue import CATALOGUE, SHARE, whole
    from ..store.pull import machine_of

    usable = machine_of(settings or from_environment()).usable
    found = []
    for name, listed in CATALOGUE.items():
        fitting = [bits for bits in listed.bits if listed.bytes(bits) <= SHARE * usable]
        bits = fitting[0] if fitting else listed.bits[-1]
        if not any(whole(listed.of(each)) for each in listed.bits):
            found.append(ModelInfo(name, None, int(listed.bytes(bits))))
    return found


def room_for_models(settings: Settings | None = None) -> int:
    """Bytes that this machine has for a model and what it remembers."""
    from ..store.pull import machine_of

    return machine_of(settings or from_environment()).usable


def details(name: str, settings: Settings | None = None) -> ModelDetails:
    """Of a model that is here or on the hub, from its headers, as `mlxrun fit` plans it."""
    from ..core import USUAL_CONTEXT
    from ..loading.dry_run import dry_run
    from ..loading.open import open_model
    from ..memory.need import Need
    from ..memory.plan import advise, plan
    from ..ops.device import this_device
    from ..store.made import everything, of_model
    from ..store.pull import machine_of
    from ..store.resolve import headers_of

    settings = settings or from_environment()
    machine = machine_of(settings)
    with headers_of(name, settings, machine) as (place, downloaded):
        opened = open_model(place, device=this_device())
        decoder, seen = opened.recipe.decoder, dry_run(opened.checkpoint, opened.recipe, this_device())
        need = Need(decoder, seen.weights, seen.width, min(USUAL_CONTEXT, decoder.context), keys=seen.keys)
        made, advice = plan(need, machine), advise(need, machine)
        mine = set(of_model(place, settings)) if downloaded else set()
        known, stored = opened.checkpoint, (weight_bytes(place) or 0) if downloaded else 0
    return ModelDetails(
        name=name,
        family=str(known.config.get("model_type") or known.metadata.get("general.architecture") or ""),
        layers=len(decoder.layers),
        bits=round(8 * stored / max(1, need.weights.matrices + need.weights.others), 1) if stored else 0.0,
        bytes=made.total,
        fits=made.fits,
        context=advice.context if made.fits else 0,
        longest=decoder.context,
        speed=None if advice.speed is None else advice.speed.likely,
        copies=sum(one.size for one in everything(settings) if one.path in mine),
    )


def free_copies(name: str, settings: Settings | None = None) -> int:
    """Bytes that are free now: what was made of that model goes, and is made again when it is wanted."""
    from ..store.made import forget, of_model
    from ..store.resolve import headers_of

    settings = settings or from_environment()
    with headers_of(name, settings) as (place, downloaded):
        return forget(of_model(place, settings)) if downloaded else 0


def weight_bytes(place: Path) -> int | None:
    """None: it cannot be looked at."""
    try:
        if place.is_file():
            folder, files = parts_of(place) or (place.parent, [place.name])
            return sum((folder / file).stat().st_size for file in files)
        return sum(file.stat().st_size for kind in ("*.safetensors", "*.gguf") for file in place.glob(kind))
    except OSError:
        return None

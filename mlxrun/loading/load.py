"""A model whose headers were read -> a model that runs: plan, weights, blocks. All of it or nothing.

What does not fit is refused before a weight is read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlx.core as mx

from .. import gpu
from ..cache.paged_disk import PrefixFolder
from ..descriptors import raise_limit
from ..families import UnknownFamily
from ..families.config import Dialect
from ..memory.headroom import footprint, let_large_blocks_go
from ..nn.decoder import DecoderModel
from ..nn.forms import slow_note
from ..nn.params import AS_STORED, Forms
from ..ops.device import Device
from ..ops.native import release, status, why_slow
from ..ops.paged import LAYOUT
from ..spec import ModelError
from ..weights import read_weights
from ..weights.files import digest
from ..weights.mapped import Mapped, believed
from .adapters import why_apart, with_adapter_bytes, with_adapters
from .dry_run import DryRun, build_blocks, dry_run, dry_run_of, with_key_bits
from .evaluate import evaluate_weights
from .expert_offload import offload_experts
from .fallback import FallbackModel, load_fallback
from .fit import LoadPlan, ModelShare, Overcommit, plan_load
from .forms import packs, plain_forms
from .model import Holdings, Model
from .open import OpenedModel, open_model
from .options import LoadOptions
from .pack import Formed, map_or_pack, source_of
from .provenance import name_of
from .used import Used


def load_model(
    path: str | Path,
    *,
    dtype: mx.Dtype | None = None,
    dialect: Dialect | None = None,
    waive: frozenset[str] = frozenset(),
    options: LoadOptions | None = None,
) -> Model | FallbackModel:
    """`dtype` None: as stored where the device computes it well (see `forms`), float32 on a CPU."""
    options = options or LoadOptions()
    opened = open_model(path, dtype=dtype, dialect=dialect, waive=waive, mapped=options.mapped, device=options.device)
    return load_opened(opened, options)


def load_opened(opened: OpenedModel, options: LoadOptions) -> Model | FallbackModel:
    """On the device that it was opened for."""
    if (why := gpu.no_arrays()) is not None:
        raise ModelError(why)
    raise_limit()
    let_large_blocks_go()
    before = footprint()
    if isinstance(opened.found, UnknownFamily):
        if options.adaptable:
            raise ModelError("Adapters are not there through mlx-lm: this model's type has no recipe here.")
        if options.kv_bits != 16:
            raise ModelError(
                "Keys and values of 8 bits (--kv-bits, MLXRUN_KV_BITS) are not there through mlx-lm; take 16."
            )
        fallback = load_fallback(
            opened.path,
            opened.checkpoint.config,
            opened.found,
            opened.dtype,
            unchecked=options.unchecked,
            progress=options.progress,
        )
        lost = why_not_kept(options, False)
        return replace(fallback, device=opened.device, notes=(*fallback.notes, *([lost] if lost else [])))
    return (
        _load_packed(opened, options, before)
        if packs(opened.device, opened.dtype)
        else _load_plain(opened, options, before)
    )


def _load_packed(opened: OpenedModel, options: LoadOptions, before: int) -> Model:
    """Planned from headers, then packed or mapped, then built."""
    seen = dry_run(opened.checkpoint, opened.recipe, opened.device)
    dry = with_key_bits(seen, opened.recipe.decoder, options.kv_bits)
    beside, adapters = with_adapter_bytes(dry, opened, options.adapters)
    planned = plan_opened(opened, beside, options)
    with believed():
        formed = map_or_pack(opened, dry, options)
        release()
        if planned.hot is not None and not formed.files:
            raise ModelError(why_not_on_disk(formed, options))
        decoder = build_decoder(opened, formed.weights, formed.forms, adaptable=options.adaptable)
    offload = None
    if planned.hot is not None:
        offload = offload_experts(decoder, formed.files[0], formed.places, planned.hot)
    weights = planned.made.weights - adapters
    budget = replace(planned.budget, mapped=weights if formed.files else 0, wire=options.wire)
    used = Used(
        kernels=kernels_of(opened.device),
        mapped=budget.mapped,
        files=len(formed.files),
        own=weights - budget.mapped,
        why_not_mapped=None if formed.note is None else "what was packed could not be kept on disk",
        key_bits=None if dry.keys is None else 8 * dry.keys,
    )
    sources = sources_of(opened)
    holdings = Holdings(budget, before, formed.files, offload=offload, blocks=formed.blocks, sources=sources, used=used)
    holdings = with_adapters(holdings, decoder, opened, options)
    folder = prefix_folder(opened, options)
    return finish_model(decoder, opened, dry, planned, (formed.note,), holdings, folder)


def _load_plain(opened: OpenedModel, options: LoadOptions, before: int) -> Model:
    """Built of weights that nobody has read yet, then planned from these, then read."""
    heard: list[Mapped] = []
    with believed():
        stored = read_weights(opened.checkpoint, opened.recipe, lambda mapped: heard.append(mapped.without_views()))
        weights, note = plain_forms(stored, opened.checkpoint, opened.recipe, opened.device, opened.dtype)
        decoder = build_decoder(opened, dict(weights), adaptable=options.adaptable)
    dry = dry_run_of(decoder, weights, before=sum(weight.nbytes for weight in stored.values()))
    dry = with_key_bits(dry, decoder.spec, options.kv_bits)
    planned = plan_opened(opened, with_adapter_bytes(dry, opened, options.adapters)[0], options)
    del stored  # what is widened or cast takes its place
    with believed():
        held = evaluate_weights(weights, heard, options.progress)
    kept = [heard[place] for place in sorted(held)]  # a file that nothing is a view of any more may change
    mapped, viewed = held.total(), sum(size for place, size in held.items() if not heard[place].adopted)
    used = Used(
        kernels=kernels_of(opened.device),
        mapped=mapped,
        files=len(kept),
        own=dry.weights.total - mapped,
        why_not_mapped=None if dry.form else why_not_mapped(heard, held),
    )
    holdings = Holdings(
        replace(planned.budget, wire=options.wire, mapped=mapped),
        before,
        files=tuple(file.pages for file in kept if file.pages is not None and not file.adopted),
        adopted=tuple(file.pages for file in kept if file.pages is not None and file.adopted),
        viewed=viewed,
        sources=sources_of(opened),
        used=used,
    )
    holdings = with_adapters(holdings, decoder, opened, options)
    told = (note, *used.fallbacks, why_not_kept(options, opened.device.native))
    return finish_model(decoder, opened, dry, planned, told, holdings, prefix_folder(opened, options))


def why_not_mapped(files: Sequence[Mapped], held: Mapping[int, int]) -> str | None:
    """`held`: by a file's place, how many bytes of it are in use. What is taken apart or cast is of this
    process's own wherever it came from."""
    reasons = [file.reason for place, file in enumerate(files) if file.pages is None or held.get(place)]
    return next((reason for reason in reasons if reason is not None), None)


def sources_of(opened: OpenedModel) -> frozenset[str]:
    return frozenset(map(str, opened.checkpoint.files))


def finish_model(
    decoder: DecoderModel,
    opened: OpenedModel,
    dry: DryRun,
    planned: LoadPlan,
    told: Sequence[str | None],
    holdings: Holdings,
    folder: PrefixFolder | None,
) -> Model:
    left_out = opened.recipe.left_out
    notes = [f"{left_out} of this checkpoint is left out."] if left_out else []
    notes += [
        note
        for note in (
            *told,
            planned.note,
            why_slow(opened.device),
            slow_note(decoder.spec, opened.device),
            why_apart(decoder),
        )
        if note
    ]
    holdings = replace(holdings, chooser=opened.device.chooser)
    return Model(decoder, tuple(notes), planned.context, (dry.width, dry.keys), holdings, folder)


def why_not_kept(options: LoadOptions, paged: bool) -> str | None:
    if paged or options.prefixes is None:
        return None
    return "What it reads is not kept on disk (MLXRUN_PREFIX_DISK): that is for keys in pages, which this load has not."


def prefix_folder(opened: OpenedModel, options: LoadOptions) -> PrefixFolder | None:
    """One for each model as it is computed with here: what another has read is of no use to it."""
    if options.prefixes is None:
        return None
    device = opened.device
    how = f"{opened.dtype} {device.native} {device.precision} {status().isa} {LAYOUT} {options.kv_bits}"
    fingerprint = digest(f"{name_of(source_of(opened), '')} {how}")
    return PrefixFolder(options.prefixes / fingerprint, fingerprint, options.prefix_bytes)


def plan_opened(opened: OpenedModel, dry: DryRun, options: LoadOptions) -> LoadPlan:
    """Or a refusal."""
    how = Overcommit(options.anyway, options.experts_on_disk)
    room = ModelShare(options.memory, options.others, options.least)
    return plan_load(opened.recipe, dry, options.context, how, room)


def kernels_of(device: Device) -> str:
    if device.native:
        return f"native, for this processor ({status().isa})"
    if not device.gpu:
        return "MLX's own, on the CPU"
    return f"MLX's own, on the GPU{', and ours where they were quicker' if device.chooser.possible() else ''}"


def build_decoder(
    opened: OpenedModel, weights: dict[str, Any], forms: Forms = AS_STORED, *, adaptable: bool = False
) -> DecoderModel:
    return build_blocks(opened.recipe, weights, opened.device, forms, adaptable=adaptable)


def why_not_on_disk(formed: Formed, options: LoadOptions) -> str:
    reason = formed.note or ("--no-map forbids it." if options.ready is None else "the model is too small for it.")
    return f"Experts can stay on disk only where the packed weights are kept there: {reason}"

"""mlx-lm's names and shapes for a checkpoint's tensors, and which of its modules can be quantized.

Its own model class says both, so that what is written is what it loads: `sanitize` renames and stacks, lazily.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import mlx.core as mx

from ..compat import quiet_import
from ..families.config import ALIASES, EPS
from ..loading.fallback import older_spelling
from ..spec import ModelError

CHOOSING = ("e_score_correction_bias", "expert_bias")
QUANTIZATION = ("quantization", "quantization_config")


@dataclass(frozen=True, slots=True)
class Named:
    tensors: dict[str, mx.array]
    advice: dict[str, bool | dict[str, Any]]  # module that can be quantized: what its class advises
    config: dict[str, Any]  # without quantization
    model: Any  # mlx-lm's, with no weights yet
    words: frozenset[str] = frozenset()  # modules with a row for each token: embedding and head


def other_spellings(config: Mapping[str, Any]) -> dict[str, Any]:
    """The same values under every name that they have anywhere."""
    found: dict[str, Any] = {}
    for names in (*((key, *others) for key, others in ALIASES.items()), EPS):
        value = next((config[name] for name in names if config.get(name) is not None), None)
        found |= dict.fromkeys(names, value) if value is not None else {}
    return found


def named(tensors: Mapping[str, mx.array], config: Mapping[str, Any]) -> Named:
    plain = {key: value for key, value in config.items() if key not in QUANTIZATION}
    with quiet_import():
        from mlx.nn import Module
        from mlx.utils import tree_flatten
        from mlx_lm.utils import _get_classes

        try:
            plain |= older_spelling(plain)
            model_class, args_class = _get_classes(config=plain)
            try:
                model = model_class(args_class.from_dict(plain))
            except TypeError:  # a key that it insists on has another spelling here
                plain = {**other_spellings(plain), **plain}
                model = model_class(args_class.from_dict(plain))
            made = model.sanitize(dict(tensors)) if hasattr(model, "sanitize") else dict(tensors)
        except (Exception, SystemExit) as error:  # other people's classes raise anything
            lines = str(error).strip().splitlines() or [type(error).__name__]
            kind = config.get("model_type")
            raise ModelError(
                f"mlx-lm, whose files are written, has no way with {kind}: {lines[0].rstrip('.')}."
            ) from error
    lost = [name for name in tensors if name.endswith(CHOOSING)]
    if lost and not any(name.endswith(CHOOSING) for name in made):
        raise ModelError(f"mlx-lm's files have no place for {lost[0]}, without which other experts are chosen.")
    wanted = dict(tree_flatten(model.parameters()))
    strange, missing = sorted(set(made) - set(wanted)), sorted(set(wanted) - set(made))
    if strange or missing:
        what = f"has no {missing[0]}" if missing else f"has {strange[0]}, which mlx-lm does not know"
        raise ModelError(f"The checkpoint {what}; it cannot be written in mlx-lm's names.")
    predicate = getattr(model, "quant_predicate", None)
    modules: Any = tree_flatten(model.leaf_modules(), is_leaf=Module.is_module)
    advice = {
        path: True if predicate is None else predicate(path, module)
        for path, module in modules
        if hasattr(module, "to_quantized") and f"{path}.weight" in made
    }
    return Named(made, advice, plain, model, words_of(modules, made))


def words_of(modules: Any, made: Mapping[str, mx.array]) -> frozenset[str]:
    """An embedding outside of all layers, and what has its shape there; tables that every layer reads are others."""
    from mlx.nn import Embedding

    outside = {
        path: (isinstance(module, Embedding), made[f"{path}.weight"].shape)
        for path, module in modules
        if f"{path}.weight" in made and not any(part.isdigit() for part in path.split("."))
    }
    tables = [shape for embeds, shape in outside.values() if embeds]
    found = min(tables, key=lambda shape: shape[-1], default=None)
    return frozenset(path for path, (_, shape) in outside.items() if shape == found)

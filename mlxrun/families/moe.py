"""What families with experts share: specs checked against each other, and the on-disk layouts of experts.

Experts come as one tensor each, as one stack with the gate over the up half, or (mlx) as separate
stacks. A family says where they lie and what they are called. Knows no family.
"""

from __future__ import annotations

from typing import Any, Literal

from ..spec import Dense, ModelError, MoE, Router
from .common import LAYER, activation, expert_rules, rename_in_layer
from .config import Config
from .rules import Drop, Rename, Rule, Split

WIDEST = 1 << 22  # no expert is wider


def moe(c: Config, router: Router, hidden: str = "moe_intermediate_size", **changes: Any) -> MoE:
    """Experts of the width under `hidden`; a router that asks for more than there is is an error."""
    experts = c.count("num_experts", high=1 << 16)
    groups, top_groups = router.groups, router.top_groups
    if router.top_k > experts:
        raise ModelError(f"{c.file}: num_experts_per_tok {router.top_k} is more than the {experts} experts.")
    if groups > 1 and (experts % groups or top_groups > groups or top_groups * (experts // groups) < router.top_k):
        raise ModelError(
            f"{c.file}: {experts} experts in n_group {groups}, of which topk_group {top_groups}, "
            f"cannot give num_experts_per_tok {router.top_k}."
        )
    usual: dict[str, Any] = {} if "act" in changes else {"act": activation(c)}
    return MoE(experts, c.count(hidden, high=WIDEST), router, **{**usual, **changes})


def top_k(c: Config) -> int:
    return c.count("num_experts_per_tok", high=1 << 16)


def sigmoid_router(c: Config, *, renorm: bool = True) -> Router:
    """DeepSeek's: sigmoid scores, a bias that only chooses, groups of experts, a scale at the end."""
    return Router(
        top_k(c),
        "sigmoid",
        renorm=c.flag("norm_topk_prob", renorm),
        scale=c.number("routed_scaling_factor", 1.0),
        select_bias=True,
        groups=c.count("n_group", 1),
        top_groups=c.count("topk_group", 1),
    )


def shared_experts(
    c: Config, number: str = "n_shared_experts", hidden: str = "moe_intermediate_size", *, bias: bool = False
) -> Dense | None:
    """Experts that everybody passes through are one network of their summed width."""
    count = c.count(number, 1, low=0, high=1 << 10) if number in c else 0
    return Dense(count * c.count(hidden, high=WIDEST), activation(c), bias=bias) if count else None


def sparse_kinds(c: Config, layers: int, first: int) -> tuple[bool, ...]:
    """Which layers have experts: all after the first ones, or as listed."""
    first, written = c.count("first_k_dense_replace", first, low=0), c.get("mlp_layer_types")
    if written is None:
        return tuple(i >= first for i in range(layers))
    if not isinstance(written, list) or len(written) != layers or not set(written) <= {"dense", "sparse"}:
        raise ModelError(f"{c.file}: mlp_layer_types must list dense or sparse for each of the {layers} layers.")
    return tuple(kind == "sparse" for kind in written)


def refuse(c: Config, key: str, *harmless: object) -> None:
    """A key that has always had one of these values; another one would need other mathematics."""
    value = c.get(key)
    if value is not None and value not in harmless:
        raise ModelError(f"{c.file}: {key} {value!r} is not supported for {c.family}.")


# ---- rules --------------------------------------------------------------------------------------


def stacked_rules(block: str = "mlp") -> tuple[Rule, ...]:
    """One stack a layer: gate over up (E, 2I, dim), and down (E, dim, I)."""
    halves = (r"layers.\1.ffn.experts.gate.weight", r"layers.\1.ffn.experts.up.weight")
    return (
        Split(LAYER + block + r"\.experts\.gate_up_proj(?:\.weight)?$", halves, axis=-2),
        Rename(LAYER + block + r"\.experts\.down_proj(?:\.weight)?$", r"layers.\1.ffn.experts.down.weight"),
    )


def experts_of(
    c: Config, block: str = "mlp", names: Literal["gate up down", "w1 w3 w2"] = "gate up down"
) -> tuple[Rule, ...]:
    """Every layout of gated experts under `block`."""
    return expert_rules(c, block, names) if c.dialect == "mlx" else expert_rules(c, block, names) + stacked_rules(block)


def router_rules(block: str = "mlp", name: str = "gate") -> tuple[Rule, ...]:
    return (
        Rename(LAYER + block + rf"\.{name}\.(weight|bias)$", r"layers.\1.ffn.router.\2"),
        Rename(LAYER + block + r"\.(?:gate|experts)\.e_score_correction_bias$", r"layers.\1.ffn.select_bias"),
    )


def shared_rules(block: str = "mlp") -> tuple[Rule, ...]:
    return (
        rename_in_layer(block + r"\.shared_experts?\.(gate|up|down)_proj", r"ffn.shared.\2"),
        rename_in_layer(block + r"\.shared_expert_gate", "ffn.shared_gate"),
    )


def prediction_rules(c: Config, layers: int) -> tuple[Rule, ...]:
    """Multi-token prediction hangs on as layers after the last; they guess ahead and answer nothing."""
    written = next((c.get(k) for k in ("num_nextn_predict_layers", "num_mtp_layers") if k in c), 1)
    if isinstance(written, bool) or not isinstance(written, int) or not 0 <= written <= 64:
        raise ModelError(f"{c.file}: num_nextn_predict_layers must be a whole number from 0 to 64, not {written!r}.")
    numbers = "|".join(str(layers + i) for i in range(written))
    why = "multi-token prediction"
    return (Drop(rf"^(?:model\.)?layers\.(?:{numbers})\.", why),) if numbers else ()

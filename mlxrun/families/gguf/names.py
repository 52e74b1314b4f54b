"""llama.cpp's names for tensors, as rules for reading and as tables that writing turns round."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ..common import Sizes, split_gate_up, split_qkv
from ..rules import Drop, Rename, Rule, Split, Stack

PREDICTION = "multi-token prediction"
AT = r"^blk\.(\d+)\."


@dataclass(frozen=True, slots=True)
class Fused:
    """Canonical modules of a layer whose rows follow each other in one tensor."""

    parts: tuple[str, ...]
    rule: Callable[[Sizes], Rule]


FUSED: dict[str, Fused] = {
    "attn_qkv": Fused(("mixer.q", "mixer.k", "mixer.v"), lambda s: split_qkv(s, "attn_qkv", AT)),
    "ffn_up": Fused(("ffn.gate", "ffn.up"), lambda s: split_gate_up("ffn_up", "ffn", AT)),
}

WHOLE = {
    "token_embd": "embed",
    "token_embd_norm": "embed_norm",
    "token_types": "token_types",
    "position_embd": "positions",
    "output_norm": "norm",
    "output": "head",
}
PLACES = {
    "attn_norm": "mixer_norm",
    "attn_q": "mixer.q",
    "attn_k": "mixer.k",
    "attn_v": "mixer.v",
    "attn_output": "mixer.o",
    "attn_q_norm": "mixer.q_norm",
    "attn_k_norm": "mixer.k_norm",
    "post_attention_norm": "mixer_post",
    "ffn_norm": "ffn_norm",
    "ffn_gate": "ffn.gate",
    "ffn_up": "ffn.up",
    "ffn_down": "ffn.down",
    "post_ffw_norm": "ffn_post",
    "ffn_gate_inp": "ffn.router",
    "ffn_gate_inp_shexp": "ffn.shared_gate",
    "ffn_gate_shexp": "ffn.shared.gate",
    "ffn_up_shexp": "ffn.shared.up",
    "ffn_down_shexp": "ffn.shared.down",
    "ffn_gate_exps": "ffn.experts.gate",
    "ffn_up_exps": "ffn.experts.up",
    "ffn_down_exps": "ffn.experts.down",
}


def placed(places: Mapping[str, str]) -> tuple[Rule, ...]:
    return tuple(Rename(AT + theirs + r"\.(?=weight|bias)", rf"layers.\1.{ours}.") for theirs, ours in places.items())


def predictions(blocks: range) -> tuple[Rule, ...]:
    """Blocks after the last layer predict further tokens; they guess ahead and answer nothing."""
    return (Drop(rf"^blk\.(?:{'|'.join(map(str, blocks))})\.", PREDICTION),) if blocks else ()


_EXPERTS = r"layers.\1.ffn.experts."
NAMES: tuple[Rule, ...] = (
    Drop(r"^rope_(?:freqs|factors_long|factors_short)\.weight$"),  # they are in the spec
    Drop(AT + r"attn_rot_embd\."),
    Drop(r"^cls\.", "the task head"),
    *(Rename(rf"^{theirs}\.", f"{ours}.") for theirs, ours in WHOLE.items()),
    Stack(AT + r"ffn_(?P<part>gate|up|down)\.(?P<e>\d+)\.weight$", r"layers.\1.ffn.experts.\g<part>.weight"),  # of 2023
    Rename(AT + r"attn_sinks(?:\.weight)?$", r"layers.\1.mixer.sinks"),
    Rename(AT + r"exp_probs_b(?:\.bias)?$", r"layers.\1.ffn.select_bias"),
    Split(
        AT + r"ffn_gate_up_exps\.weight$", tuple(rf"layers.\1.ffn.experts.{x}.weight" for x in ("gate", "up")), axis=-2
    ),
    *placed(PLACES),
)

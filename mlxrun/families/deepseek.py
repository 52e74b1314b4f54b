"""DeepSeek V2, V3 and their kin (R1, Kimi K2, V3.2, GLM 4.7 Flash, GLM 5, Mistral Small 4).

Latent attention and grouped experts. Keys and values are one small vector a token; kv_b is cut head by head
into what makes keys and what makes values. Layers for multi-token prediction, numbered after the last, are left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ..spec import FeedForward, Indexer, LatentAttention, ModelError, Norm, Rope, Router, Temperature
from .common import (
    LAYER,
    NAMES,
    PRE,
    Recipe,
    Sizes,
    decoder,
    gated,
    head_rules,
    layers_of,
    pre_norm_layers,
    rename_in_layer,
    rms,
    tied,
    vocab_of,
)
from .config import Config
from .moe import (
    experts_of,
    moe,
    prediction_rules,
    refuse,
    router_rules,
    shared_experts,
    shared_rules,
    sigmoid_router,
    sparse_kinds,
    top_k,
)
from .prediction import layer_after_last
from .rope import rope_of, rope_parameters, scaling_of, yarn_mscale
from .rules import Rename, Rule, Split, Unflatten

_INNER = Norm(1e-6)  # of the compressed queries and keys: the reference's own, whatever rms_norm_eps says


def deepseek_v2(c: Config) -> Recipe:
    """Softmax routing without a bias. The large ones choose among the best of each group's best, which is not known."""
    if c.count("n_group", 1) > 1:
        refuse(c, "topk_method", "greedy")
    c.get("topk_method")
    refuse(c, "scoring_func", "softmax")
    refuse(c, "moe_layer_freq", 1)
    refuse(c, "norm_topk_prob", False)
    c.ignore("aux_loss_alpha", "seq_aux", "ep_size", "topk_group")
    router = Router(top_k(c), scale=c.number("routed_scaling_factor", 1.0))
    return _sparse(c, [latent_of(c, interleaved=True)] * layers_of(c), router)


def deepseek_v3(c: Config) -> Recipe:
    _v3_keys(c)
    latent = latent_of(c, interleaved=c.flag("rope_interleave", True))
    return _sparse(c, [latent] * layers_of(c), sigmoid_router(c))


def deepseek_v32(c: Config) -> Recipe:
    """V3 whose layers look only at the keys that an indexer picks; its rope pairs halves."""
    _v3_keys(c)
    latent = _indexed(c, interleaved=c.flag("indexer_rope_interleave", False))
    return _sparse(c, [latent] * layers_of(c), sigmoid_router(c))


def glm_moe_dsa(c: Config) -> Recipe:
    """V3.2 whose indexer's rope pairs neighbours, and whose layers may share the choice of an earlier one."""
    _v3_keys(c)
    full = _indexed(c, interleaved=c.flag("indexer_rope_interleave", True))
    return _sparse(c, _share(full, _indexer_kinds(c)), sigmoid_router(c), eps=1e-5)


def glm4_moe_lite(c: Config) -> Recipe:
    """V3 in all but its defaults."""
    _v3_keys(c)
    latent = latent_of(c, interleaved=c.flag("rope_interleave", True))
    return _sparse(c, [latent] * layers_of(c), sigmoid_router(c), eps=1e-5, first=1)


def youtu(c: Config) -> Recipe:
    """V3's attention without experts."""
    refuse(c, "mlp_bias", False)
    c.ignore("embedding_initializer_range")
    mixer = latent_of(c, interleaved=c.flag("rope_interleave", True))
    return latent_dense(c, mixer, eps=1e-6, tied_head=True)


def mistral4(c: Config) -> Recipe:
    """Softmax routing without a bias; queries grow with the logarithm of their position."""
    p = rope_parameters(c)
    latent = latent_of(c, interleaved=c.flag("rope_interleave", True))
    beta, floor = p.get("llama_4_scaling_beta"), p.get("original_max_position_embeddings")
    if beta is not None:
        if not isinstance(floor, int) or floor < 1:
            raise ModelError(f"{c.file}: llama_4_scaling_beta needs original_max_position_embeddings beside it.")
        latent = replace(latent, temperature=Temperature(float(beta), float(floor)))
    router = replace(sigmoid_router(c), score="softmax", select_bias=False)
    return _sparse(c, [latent] * layers_of(c), router)


def _v3_keys(c: Config) -> None:
    """What always has one value, and what belongs to training."""
    refuse(c, "topk_method", "noaux_tc")
    refuse(c, "scoring_func", "sigmoid")
    refuse(c, "moe_layer_freq", 1)
    c.ignore("aux_loss_alpha", "seq_aux", "ep_size", "moe_router_dtype", "index_share_for_mtp_iteration")


# ---- parts --------------------------------------------------------------------------------------


def latent_attention(c: Config, rope: Rope | None, values: int | None = None) -> LatentAttention:
    """`values`: the width of a head's, where the file is silent."""
    c.ignore("head_dim", "qk_head_dim", "num_key_value_heads")  # follow from the widths below
    nope, turned = c.count("qk_nope_head_dim", high=1 << 14), c.count("qk_rope_head_dim", high=1 << 14)
    return LatentAttention(
        heads=c.count("num_attention_heads", high=1 << 14),
        q_rank=c.count("q_lora_rank", high=1 << 20) if "q_lora_rank" in c else None,
        kv_rank=c.count("kv_lora_rank", high=1 << 20),
        nope_dim=nope,
        rope_dim=turned,
        v_dim=c.count("v_head_dim", values, high=1 << 14),
        scale=(nope + turned) ** -0.5,
        rope=rope,
        norm=_INNER,
        bias=c.flag("attention_bias"),
    )


def latent_of(c: Config, *, interleaved: bool, values: int | None = None, base: float = 10000.0) -> LatentAttention:
    turned = c.count("qk_rope_head_dim", high=1 << 14)
    found = latent_attention(c, rope_of(c, turned, interleaved=interleaved, base=base, partial=None), values)
    return replace(found, scale=found.scale * _mscale(c) ** 2)


def _mscale(c: Config) -> float:
    """Yarn with mscale_all_dim sharpens the softmax too, once for queries and once for keys."""
    p = rope_parameters(c)
    if scaling_of(p) == "default" or not p.get("mscale_all_dim"):
        return 1.0
    return yarn_mscale(float(p.get("factor") or 1.0), float(p["mscale_all_dim"]))


def _indexed(c: Config, *, interleaved: bool) -> LatentAttention:
    latent = latent_of(c, interleaved=c.flag("rope_interleave", True))
    assert latent.rope is not None
    indexer = Indexer(
        heads=c.count("index_n_heads", high=1 << 14),
        dim=c.count("index_head_dim", high=1 << 14),
        top_k=c.count("index_topk"),
        rope=replace(latent.rope, interleaved=interleaved),
        norm=Norm(1e-6, "layer", bias=True),
    )
    if indexer.dim < latent.rope_dim:
        raise ModelError(f"{c.file}: index_head_dim {indexer.dim} is less than qk_rope_head_dim {latent.rope_dim}.")
    return replace(latent, indexer=indexer)


def _indexer_kinds(c: Config) -> tuple[str, ...]:
    """`full` runs its indexer, `shared` takes the choice of the full layer before it."""
    layers = layers_of(c)
    written, pattern = c.get("indexer_types"), c.get("index_topk_pattern")
    period, offset = c.count("index_topk_freq", 1, low=0), c.count("index_skip_topk_offset", 2, low=0)
    if written is None and pattern is not None:
        written = [{"F": "full", "S": "shared"}.get(x, x) for x in pattern]
    if written is None:
        return tuple("shared" if max(i - offset + 1, 0) % max(period, 1) else "full" for i in range(layers))
    if not isinstance(written, list) or len(written) != layers or not set(written) <= {"full", "shared"}:
        raise ModelError(f"{c.file}: indexer_types must list full or shared for each of the {layers} layers.")
    if written[0] == "shared":
        raise ModelError(f"{c.file}: indexer_types begins with shared; there is no earlier layer to share with.")
    return tuple(written)


def _share(full: LatentAttention, kinds: tuple[str, ...]) -> list[LatentAttention]:
    """A full layer lends its choice under its own number if the next one shares it."""
    found: list[LatentAttention] = []
    slot = 0
    for i, kind in enumerate(kinds):
        if kind == "shared":
            found.append(replace(full, indexer=None, borrows=slot))
            continue
        slot = i
        lends = i if kinds[i + 1 : i + 2] == ("shared",) else None
        found.append(replace(full, indexer=full.indexer and replace(full.indexer, lends=lends)))
    return found


def _sparse(
    c: Config, mixers: Sequence[LatentAttention], router: Router, *, eps: float = 1e-6, first: int = 0
) -> Recipe:
    c.ignore("layer_types")  # indexed_attention everywhere
    sparse = sparse_kinds(c, len(mixers), first)
    experts = moe(c, router, shared=shared_experts(c))
    dense = None if all(sparse) else gated(c, bias=c.flag("mlp_bias"))
    c.ignore("mlp_bias", "intermediate_size")
    whole = _whole(c, mixers, [experts if yes else dense for yes in sparse], rms(c, eps), tied(c))
    names = (*router_rules(), *shared_rules(), *experts_of(c))
    found = replace(whole, rules=(*prediction_rules(c, len(mixers)), *names, *whole.rules))
    return replace(found, further=layer_after_last(found, rms(c, eps)))


def latent_dense(c: Config, mixer: LatentAttention, *, eps: float, tied_head: bool) -> Recipe:
    """Without experts."""
    layers = layers_of(c)
    return _whole(c, [mixer] * layers, [gated(c, bias=c.flag("mlp_bias"))] * layers, rms(c, eps), tied(c, tied_head))


def _whole(
    c: Config, mixers: Sequence[LatentAttention], ffns: Sequence[FeedForward | None], norm: Norm, tied_head: bool
) -> Recipe:
    first = mixers[0]
    s = Sizes(c.count("hidden_size", high=1 << 20), vocab_of(c), len(mixers), first.heads, 1, first.v_dim)
    layers = pre_norm_layers(norm, mixers, ffns)
    return Recipe(decoder(c, s, layers, norm, tied_head), (*latent_rules(first), *head_rules(tied_head), *NAMES, *PRE))


def latent_rules(m: LatentAttention) -> tuple[Rule, ...]:
    """mlx files hold kv_b cut already: embed_q is its key half turned round, unembed_out its value half."""
    halves = (r"layers.\1.mixer.k_b.rows", r"layers.\1.mixer.v_b.rows")
    return (
        rename_in_layer(r"self_attn\.(q_[ab])_proj", r"mixer.\2"),
        rename_in_layer(r"self_attn\.kv_a_proj_with_mqa", "mixer.kv_a"),
        rename_in_layer(r"self_attn\.(q|kv)_a_layernorm", r"mixer.\2_a_norm"),
        Split(LAYER + r"self_attn\.kv_b_proj\.weight$", halves, (m.nope_dim, m.v_dim), groups=m.heads),
        Unflatten(r"^layers\.(\d+)\.mixer\.([kv]_b)\.rows$", r"layers.\1.mixer.\2.weight", m.heads),
        Rename(LAYER + r"self_attn\.embed_q\.weight$", r"layers.\1.mixer.k_bt.weight"),
        Rename(LAYER + r"self_attn\.unembed_out\.weight$", r"layers.\1.mixer.v_b.weight"),
        rename_in_layer(r"self_attn\.indexer\.wq_b", "mixer.index.q"),
        rename_in_layer(r"self_attn\.indexer\.wk", "mixer.index.k"),
        rename_in_layer(r"self_attn\.indexer\.weights_proj", "mixer.index.weights"),
        rename_in_layer(r"self_attn\.indexer\.k_norm", "mixer.index.k_norm"),
    )

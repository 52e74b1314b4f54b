"""BERT, RoBERTa and ModernBERT: encoders, every token sees both ways. They end at their hidden states, or, where a file
is a cross-encoder's, at the head that ranks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from ..spec import Activation, Dense, Layer, LearnedPositions, ModelError, Norm, RankingHead
from .common import (
    ACTIVATIONS,
    Recipe,
    activation,
    attention,
    context_of,
    decoder,
    gated,
    layer_norm,
    layer_types,
    rename_in_layer,
    sizes_of,
    split_gate_up,
    split_qkv,
)
from .config import Config
from .rope import rope_from, rope_parameters
from .rules import Drop, Rename, Rule

HEAD = "the task head"


def bert(c: Config) -> Recipe:
    """Norms after adding; learned positions and token types; no final norm."""
    head: tuple[Rule, ...] = (Drop(r"^(?:bert\.)?pooler\.", "the pooler"), Drop(r"^classifier\.", HEAD))
    if ranks(c):
        head = (Rename(r"^bert\.pooler\.dense\.", "rank.dense."), Rename(r"^classifier\.", "rank.score."))
    return _bert(c, "bert", head, first_position=0)


def roberta(c: Config) -> Recipe:
    """As BERT; the first position is the one behind that of padding."""
    head: tuple[Rule, ...] = (Drop(r"^classifier\.", HEAD),)
    if ranks(c):
        head = (Rename(r"^classifier\.dense\.", "rank.dense."), Rename(r"^classifier\.out_proj\.", "rank.score."))
    pooler = Drop(r"^(?:roberta\.)?pooler\.", "the pooler")
    return _bert(c, "roberta", (*head, pooler), first_position=c.count("pad_token_id", 1, low=0) + 1)


def ranks(c: Config) -> bool:
    """Whether it is a cross-encoder: what it says of a text is one number."""
    kinds, labels = c.get("architectures") or (), c.get("id2label")
    classes = c.count("num_labels", len(labels) if isinstance(labels, Mapping) and labels else 2)
    return classes == 1 and any(str(kind).endswith("ForSequenceClassification") for kind in kinds)


def _bert(c: Config, name: str, head: tuple[Rule, ...], first_position: int) -> Recipe:
    if c.get("position_embedding_type", "absolute") != "absolute":
        raise ModelError(f"{c.file}: position_embedding_type must be absolute in a {name} model.")
    c.ignore("tie_word_embeddings")  # about the masked-token head, which is left out
    s, norm, context = sizes_of(c), layer_norm(c, 1e-12), context_of(c, 512) - first_position
    mixer = attention(c, s, rope=None, causal=False, qkv_bias=True, out_bias=True)
    dense = Dense(c.count("intermediate_size"), activation(c, "gelu"), gated=False, bias=True)
    layer = Layer(mixer, dense, mixer_norm=norm, ffn_norm=norm, wiring="post")
    whole = decoder(
        c,
        s,
        [layer] * s.layers,
        None,
        True,
        context=context,
        kind="encoder",
        embed_norm=norm,
        positions=LearnedPositions(context, first_position),
        token_types=c.count("type_vocab_size", 2),
        ranking=RankingHead("first", "tanh") if ranks(c) else None,
    )
    top, at = rf"^(?:{name}\.)?embeddings\.", rf"^(?:{name}\.)?encoder\.layer\.(\d+)\."
    rules = (
        *head,
        Drop(r"^(?:cls|lm_head|qa_outputs)\.", HEAD),
        Drop(r"position_ids$"),
        Rename(r"LayerNorm\.gamma$", "LayerNorm.weight"),
        Rename(r"LayerNorm\.beta$", "LayerNorm.bias"),
        Rename(top + r"word_embeddings\.", "embed."),
        Rename(top + r"position_embeddings\.", "positions."),
        Rename(top + r"token_type_embeddings\.", "token_types."),
        Rename(top + r"LayerNorm\.", "embed_norm."),
        rename_in_layer(r"attention\.self\.([qkv])(?:uery|ey|alue)", r"mixer.\2", at),
        rename_in_layer(r"attention\.output\.dense", "mixer.o", at),
        rename_in_layer(r"attention\.output\.LayerNorm", "mixer_norm", at),
        rename_in_layer(r"intermediate\.dense", "ffn.up", at),
        rename_in_layer(r"output\.dense", "ffn.down", at),
        rename_in_layer(r"output\.LayerNorm", "ffn_norm", at),
    )
    return Recipe(whole, rules)


def modernbert(c: Config) -> Recipe:
    """Every third layer sees all, the others half of `local_attention` to each side. The embedding's norm
    stands in for the first layer's."""
    c.ignore("deterministic_flash_attn", "reference_compile", "repad_logits_with_grad", "position_embedding_type")
    c.ignore("sparse_prediction", "sparse_pred_ignore_index", "decoder_bias", "tie_word_embeddings")
    s, bias = sizes_of(c), c.flag("attention_bias")
    norm = Norm(c.eps(1e-5, "norm_eps"), "layer", bias=c.flag("norm_bias"))
    period = c.count("global_attn_every_n_layers", 3)
    kinds = layer_types(c, s.layers, lambda i: "sliding_attention" if i % period else "full_attention")
    reach = c.count("local_attention", 128, low=2) // 2
    layers = []
    for kind in kinds:
        local = kind == "sliding_attention"
        base, key = (10_000.0, "local_rope_theta") if local else (160_000.0, "global_rope_theta")
        p = rope_parameters(c, kind, base, base_key=key)
        window = reach if local else None
        rope = rope_from(c, p, s.head_dim)
        mixer = attention(c, s, rope=rope, causal=False, window=window, qkv_bias=bias, out_bias=bias)
        layers.append(Layer(mixer, gated(c, act="gelu", bias=c.flag("mlp_bias")), mixer_norm=norm, ffn_norm=norm))
    layers[0] = replace(layers[0], mixer_norm=None)
    at = r"^(?:model\.)?layers\.(\d+)\."
    head: tuple[Rule, ...] = (Drop(r"^(?:head|decoder|classifier)\.", HEAD),)
    ranking = _modern_ranking(c, norm) if ranks(c) else None
    if ranking is not None:
        head = (
            Rename(r"^head\.dense\.", "rank.dense."),
            Rename(r"^head\.norm\.", "rank.norm."),
            Rename(r"^classifier\.", "rank.score."),
        )
    rules = (
        *head,
        Rename(r"^(?:model\.)?embeddings\.tok_embeddings\.", "embed."),
        Rename(r"^(?:model\.)?embeddings\.norm\.", "embed_norm."),
        Rename(r"^(?:model\.)?final_norm\.", "norm."),
        split_qkv(s, r"attn\.Wqkv", at),
        split_gate_up(r"mlp\.Wi", "ffn", at),
        rename_in_layer(r"attn\.Wo", "mixer.o", at),
        rename_in_layer(r"mlp\.Wo", "ffn.down", at),
        rename_in_layer("attn_norm", "mixer_norm", at),
        rename_in_layer("mlp_norm", "ffn_norm", at),
    )
    whole = decoder(c, s, layers, norm, True, kind="encoder", embed_norm=norm, ranking=ranking)
    return Recipe(whole, rules)


def _modern_ranking(c: Config, norm: Norm) -> RankingHead:
    act: Activation = c.choice("classifier_activation", ACTIVATIONS, "gelu")
    rows = c.choice("classifier_pooling", {"cls": "first", "mean": "mean"}, "cls")
    return RankingHead(rows, act, c.flag("classifier_bias"), norm)

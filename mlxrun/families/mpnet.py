"""MPNet: BERT's shape without token types, and scores that grow by how far key and query are apart."""

from __future__ import annotations

from ..spec import Dense, Layer, LearnedPositions, ModelError
from .bert import HEAD
from .common import Recipe, activation, attention, context_of, decoder, layer_norm, rename_in_layer, sizes_of
from .config import Config
from .rules import Drop, Rename

BUCKETS, FURTHEST, FIRST = 32, 128, 2  # which the reference has for every model of this family


def mpnet(c: Config) -> Recipe:
    c.ignore("tie_word_embeddings")
    if c.count("relative_attention_num_buckets", BUCKETS) != BUCKETS:
        raise ModelError(f"{c.file}: relative_attention_num_buckets must be {BUCKETS} in an MPNet model.")
    s, norm, context = sizes_of(c), layer_norm(c, 1e-12), context_of(c, 512) - FIRST
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
        positions=LearnedPositions(context, FIRST),
        distances=(BUCKETS, FURTHEST, s.heads),
    )
    top, at = r"^(?:mpnet\.)?embeddings\.", r"^(?:mpnet\.)?encoder\.layer\.(\d+)\."
    rules = (
        Drop(r"^(?:mpnet\.)?pooler\.", "the pooler"),
        Drop(r"^(?:lm_head|classifier|qa_outputs)\.", HEAD),
        Drop(r"position_ids$"),
        Rename(top + r"word_embeddings\.", "embed."),
        Rename(top + r"position_embeddings\.", "positions."),
        Rename(top + r"LayerNorm\.", "embed_norm."),
        Rename(r"^(?:mpnet\.)?encoder\.relative_attention_bias\.", "distances."),
        rename_in_layer(r"attention\.attn\.([qkvo])", r"mixer.\2", at),
        rename_in_layer(r"attention\.LayerNorm", "mixer_norm", at),
        rename_in_layer(r"intermediate\.dense", "ffn.up", at),
        rename_in_layer(r"output\.dense", "ffn.down", at),
        rename_in_layer(r"output\.LayerNorm", "ffn_norm", at),
    )
    return Recipe(whole, rules)

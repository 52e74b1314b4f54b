"""Whisper: a listener that makes rows of 30 seconds of sound, and a decoder that looks at them and writes them down."""

from __future__ import annotations

from ..spec import Activation, Attention, Dense, Layer, LearnedPositions, ModelError, Norm
from ..spec_sound import Listener, SoundSpec
from .common import Recipe, activation, decoder, head_rules, rename_in_layer, sizes_of, tied, vocab_of
from .config import Config
from .rules import FlattenFilters, Rename, Rule

TEXT = r"^(?:model\.)?decoder\.layers\.(\d+)\."
QUIET = (  # of training, of other heads and of how answers are drawn, for which generation_config.json is asked
    *("dropout", "activation_dropout", "encoder_layerdrop", "decoder_layerdrop", "init_std", "num_hidden_layers"),
    *("use_weighted_layer_sum", "classifier_proj_size", "apply_spec_augment", "mask_time_prob", "mask_time_length"),
    *("mask_time_min_masks", "mask_feature_prob", "mask_feature_length", "mask_feature_min_masks", "max_length"),
    *("median_filter_width", "forced_decoder_ids", "alignment_heads"),
)


def whisper(c: Config) -> Recipe:
    """Layer norms before; queries and values have biases, keys have none; the head is the embedding."""
    c.ignore(*QUIET)
    if c.flag("scale_embedding"):
        raise ModelError(f"{c.file}: scale_embedding must be false in a whisper model.")
    norm, act = Norm(1e-5, "layer", bias=True), activation(c, "gelu")
    listener = _listener(c, norm, act)
    inner = Config(
        {
            "hidden_size": listener.dim,
            "num_attention_heads": c.count("decoder_attention_heads", 4),
            "num_hidden_layers": c.count("decoder_layers", 4, high=10_000),
            "vocab_size": vocab_of(c),
        },
        file=c.file,
    )
    s, context = sizes_of(inner), c.count("max_target_positions", 448)
    dense = Dense(c.count("decoder_ffn_dim", 1536), act, gated=False, bias=True)
    own = _attention(s.heads, s.head_dim, causal=True)
    layers = [
        Layer(
            own, dense, mixer_norm=norm, ffn_norm=norm, cross=_attention(s.heads, s.head_dim, hears=i), cross_norm=norm
        )
        for i in range(s.layers)
    ]
    tied_head = tied(c, True)
    whole = decoder(c, s, layers, norm, tied_head, context=context, positions=LearnedPositions(context))
    return Recipe(whole, (*head_rules(tied_head, "proj_out"), *_names(c)), listener=listener)


def _listener(c: Config, norm: Norm, act: Activation) -> Listener:
    dim, heads = c.count("hidden_size", 384, high=1 << 16), c.count("encoder_attention_heads", 4, high=1 << 10)
    if dim % heads:
        raise ModelError(f"{c.file}: d_model {dim} is not a multiple of encoder_attention_heads {heads}.")
    sound, rows = SoundSpec(c.count("num_mel_bins", 80, high=1 << 10)), c.count("max_source_positions", 1500)
    if sound.frames != 2 * rows:
        raise ModelError(f"{c.file}: max_source_positions must be {sound.frames // 2}, not {rows}.")
    dense = Dense(c.count("encoder_ffn_dim", 1536), act, gated=False, bias=True)
    layer = Layer(_attention(heads, dim // heads), dense, mixer_norm=norm, ffn_norm=norm)
    return Listener(c.family, sound, dim, rows, act, (layer,) * c.count("encoder_layers", 4, high=10_000), norm)


def _attention(heads: int, size: int, *, causal: bool = False, hears: int | None = None) -> Attention:
    return Attention(
        heads, heads, size, size**-0.5, causal=causal, qkv_bias=True, k_bias=False, out_bias=True, hears=hears
    )


def _names(c: Config) -> tuple[Rule, ...]:
    audio = r"^audio\.layers\.(\d+)\."
    return (
        FlattenFilters(r"^(?:model\.)?encoder\.conv([12])\.weight$", r"audio.conv\1.weight", last=c.dialect == "mlx"),
        Rename(r"^(?:model\.)?encoder\.embed_positions\.", "audio.positions."),
        Rename(r"^(?:model\.)?encoder\.layer_norm\.", "audio.norm."),
        Rename(r"^(?:model\.)?encoder\.", "audio."),
        Rename(audio + r"self_attn\.([qkv])_proj\.", r"audio.layers.\1.mixer.\2."),
        Rename(audio + r"self_attn\.out_proj\.", r"audio.layers.\1.mixer.o."),
        Rename(audio + r"self_attn_layer_norm\.", r"audio.layers.\1.mixer_norm."),
        Rename(audio + r"fc1\.", r"audio.layers.\1.ffn.up."),
        Rename(audio + r"fc2\.", r"audio.layers.\1.ffn.down."),
        Rename(audio + r"final_layer_norm\.", r"audio.layers.\1.ffn_norm."),
        Rename(r"^(?:model\.)?decoder\.embed_tokens\.", "embed."),
        Rename(r"^(?:model\.)?decoder\.embed_positions\.", "positions."),
        Rename(r"^(?:model\.)?decoder\.layer_norm\.", "norm."),
        rename_in_layer(r"self_attn\.([qkv])_proj", r"mixer.\2", TEXT),
        rename_in_layer(r"self_attn\.out_proj", "mixer.o", TEXT),
        rename_in_layer(r"self_attn_layer_norm", "mixer_norm", TEXT),
        rename_in_layer(r"encoder_attn\.([qkv])_proj", r"cross.\2", TEXT),
        rename_in_layer(r"encoder_attn\.out_proj", "cross.o", TEXT),
        rename_in_layer(r"encoder_attn_layer_norm", "cross_norm", TEXT),
        rename_in_layer(r"fc1", "ffn.up", TEXT),
        rename_in_layer(r"fc2", "ffn.down", TEXT),
        rename_in_layer(r"final_layer_norm", "ffn_norm", TEXT),
    )

"""Reading config.json: what was written, under whatever name, and what nobody read.

`Config` remembers every key that a recipe asked for. A key with a meaningful value that nobody read
is an error, because it may change the answer; the waiver list names those that cannot.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from ..spec import ModelError, shown

Dialect = Literal["hf", "mlx", "gguf"]

# canonical key: other spellings that mean the same
ALIASES: dict[str, tuple[str, ...]] = {
    "hidden_size": ("n_embd", "n_embed", "d_model"),
    "num_attention_heads": ("n_head",),
    "num_hidden_layers": ("n_layer", "num_layers"),
    "intermediate_size": ("n_inner", "ffn_dim"),
    "max_position_embeddings": ("n_positions", "n_ctx", "seq_length", "max_seq_len"),
    "num_experts": ("num_local_experts", "n_routed_experts", "moe_num_experts"),
    "num_experts_per_tok": ("top_k_experts", "experts_per_token", "moe_k", "num_experts_per_token"),
    "n_group": ("num_expert_group",),
    "norm_topk_prob": ("moe_renormalize",),
    "n_shared_experts": ("num_shared_experts",),
    "hidden_act": ("hidden_activation", "activation_function", "mlp_hidden_act"),
    "rope_theta": ("rotary_emb_base",),
    "sliding_window_pattern": ("_sliding_window_pattern",),
    "partial_rotary_factor": ("rotary_pct",),
}
# what families call the small number of their norms; each reads one of them
EPS = ("rms_norm_eps", "layer_norm_epsilon", "layer_norm_eps", "norm_eps", "norm_epsilon")

# Keys that cannot change what the model computes: training, bookkeeping, tokenizer, run-time switches.
_WAIVED = """
    _name_or_path add_cross_attention architectures attention_dropout attention_probs_dropout_prob attn_pdrop auto_map
    bad_words_ids begin_suppress_tokens bos_token_id cache_implementation chunk_size_feed_forward classifier_dropout
    classifier_activation classifier_bias classifier_pooling cls_token_id cross_attention_hidden_size
    decoder_start_token_id diversity_penalty do_sample dtype early_stopping embd_pdrop embedding_dropout
    encoder_no_repeat_ngram_size eos_token_id exponential_decay_length_penalty finetuning_task forced_bos_token_id
    forced_eos_token_id gradient_checkpointing hidden_dropout hidden_dropout_prob id2label initializer_cutoff_factor
    initializer_range is_decoder is_encoder_decoder is_llama_config is_matryoshka keys_to_ignore_at_inference label2id
    length_penalty matryoshka_dimensions max_length max_position_embeddings mlp_dropout model_type
    no_repeat_ngram_size num_beam_groups num_beams num_return_sequences output_attentions output_hidden_states
    output_past output_router_logits output_scores pad_token_id prefix pretraining_tp problem_type pruned_heads
    quantization quantization_config remove_invalid_values repetition_penalty resid_dropout resid_pdrop return_dict
    return_dict_in_generate router_aux_loss_coef sbert_ce_default_activation_function sentence_transformers sep_token_id
    suppress_tokens task_specific_params temperature
    tf_legacy_loss tie_encoder_decoder tokenizer_class top_k top_p torch_dtype torchscript transformers.js_config
    transformers_version typical_p unsloth_fixed unsloth_version use_bfloat16 use_cache use_return_dict
    vocab_size_padded
"""
WAIVED = frozenset(_WAIVED.split())

_MISSING = object()


@dataclass
class Config:
    data: Mapping[str, Any]
    dialect: Dialect = "hf"
    waive: frozenset[str] = frozenset()
    file: str = "config.json"
    seen: set[str] = field(default_factory=set)
    last: tuple[str, Any] = ("", None)  # what was asked for last, and what it is

    def get(self, key: str, default: Any = None) -> Any:
        """The value under `key` or one of its other spellings; null counts as absent."""
        found = _MISSING
        for name in (key, *ALIASES.get(key, ())):
            self.seen.add(name)
            value = self.data.get(name)
            if value is not None and found is _MISSING:
                found = value
                self.last = name, value
        return default if found is _MISSING else found

    def __getitem__(self, key: str) -> Any:
        value = self.get(key, _MISSING)
        if value is _MISSING:
            raise ModelError(f"{self.file}: the key {key!r} is missing; a {self.family} model needs it.")
        return value

    def __contains__(self, key: str) -> bool:
        return self.get(key) is not None

    def count(self, key: str, default: int | None = None, *, low: int = 1, high: int = 2**31 - 1) -> int:
        """A whole number that is a size: bounded, so that a lying file cannot make us allocate."""
        value = self[key] if default is None else self.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise ModelError(f"{self.file}: {key} must be a whole number from {low} to {high}, not {shown(value)}.")
        return value

    def number(self, key: str, default: float | None = None, *, above: float | None = None) -> float:
        """With `above`, a finite number above that."""
        value = self[key] if default is None else self.get(key, default)
        if isinstance(value, dict) and value.get("__float__") in ("Infinity", "-Infinity", "NaN"):  # of transformers 5
            value = float(value["__float__"])
        long = isinstance(value, int) and value.bit_length() > 1000  # no float holds it
        if isinstance(value, bool) or not isinstance(value, (int, float)) or long:
            raise ModelError(f"{self.file}: {key} must be a number, not {shown(value)}.")
        if math.isnan(value) or (above is not None and not above < value < math.inf):
            raise ModelError(f"{self.file}: {key} must be a number above {above or 0}, not {shown(value)}.")
        return float(value)

    def eps(self, default: float, own: str = "rms_norm_eps") -> float:
        """The small number of the family's norms, under its own key: the reference reads no other spelling, so another
        one that says something else is an error. Metadata of a GGUF file has one spelling for all."""
        own = "rms_norm_eps" if self.dialect == "gguf" else own
        value = self.number(own, default)
        for other in EPS:
            if other != own and other in self and self.number(other) != value:
                raise ModelError(
                    f"{self.file}: {own} is {value:g}{'' if own in self else ' where it is not written'} and {other} "
                    f"{self.number(other):g}; a {self.family} model reads {own}, so leave the other out."
                )
        return value

    def flag(self, key: str, default: bool = False) -> bool:
        value = self.get(key, default)
        if not isinstance(value, bool):
            raise ModelError(f"{self.file}: {key} must be true or false, not {shown(value)}.")
        return value

    def choice(self, key: str, choices: Mapping[str, Any], default: str | None = None) -> Any:
        """Translate a name through a table; an unknown one is an error that lists the known ones."""
        value = self[key] if default is None else self.get(key, default)
        if not isinstance(value, str) or value not in choices:
            raise ModelError(
                f"{self.file}: {key} {shown(value)} is not known; known are {', '.join(map(str, choices))}."
            )
        return choices[value]

    def ignore(self, *keys: str) -> None:
        """Keys that this family writes and that cannot change its answer."""
        self.seen.update(keys)

    @property
    def family(self) -> str:
        return str(self.data.get("model_type", "model"))

    def unread(self) -> list[str]:
        """Keys with a meaningful value that no recipe asked for."""
        quiet = self.seen | WAIVED | self.waive
        return sorted(k for k, v in self.data.items() if v not in (None, False, [], {}) and k not in quiet)


class Reader(Protocol):
    """Remembers what was asked for last."""

    last: tuple[str, Any]


@contextmanager
def refusing(file: str, model: object, reader: Reader) -> Iterator[None]:
    """What the values of a file make a recipe's arithmetic raise is a refusal of that file."""
    try:
        yield
    except ModelError:
        raise
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
        key, value = reader.last
        raise ModelError(
            f"{file}: no {shown(model)[1:-1]} model can have such values; the last that was read is {key} "
            f"{shown(value)} ({type(error).__name__}: {error})."
        ) from error

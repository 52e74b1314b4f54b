"""What /v1/models says of each model, in the words of whoever asks: OpenAI's with all that local programs look for
beside them, LM Studio's, Codex's and Anthropic's. Nothing is loaded for it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from ..engine.registry import State
from ..text.template import ChatTemplate
from .capabilities import ModelCard, calls_tools, thinks
from .dialect import Json, Voice
from .models import Models

SAMPLED = (
    *("temperature", "top_p", "top_k", "min_p", "frequency_penalty", "presence_penalty", "repetition_penalty", "seed"),
    *("stop", "max_tokens", "logit_bias", "logprobs", "top_logprobs", "response_format", "structured_outputs"),
)
CALLING = ("tools", "tool_choice", "parallel_tool_calls")
EFFORTS = ("low", "medium", "high")
# what Codex puts before a conversation with a model that it does not know
CODEX_INSTRUCTIONS = (
    "You are a coding agent in the user's repository. Look at files before you change them, make the smallest change "
    "that does what was asked, run the tests where there are some, and say in a few words what you did."
)


@dataclass(frozen=True)
class ListedModel:
    name: str
    state: str  # unloaded, loading, loaded
    voice: Voice | None  # None: it is not loaded
    card: ModelCard | None  # what its files say; None: they tell nothing
    parent: str | None = None  # of an adapter, the model that it changes

    @property
    def context(self) -> int | None:
        """That it has, or could have if it were loaded."""
        if self.voice is not None:
            return self.voice.assistant.engine.context
        return (self.card.facts.context or None) if self.card else None

    @property
    def longest(self) -> int | None:
        """That its authors promise."""
        return (self.card.facts.context if self.card else 0) or self.context

    @property
    def writes(self) -> bool:
        if self.voice is not None:
            return self.voice.assistant.speaks
        return self.card is None or self.card.facts.writes

    @property
    def ranks(self) -> bool:
        if self.voice is not None:
            return self.voice.assistant.ranking is not None
        return self.card is not None and self.card.facts.ranks

    @property
    def calls(self) -> bool:
        template = self._template
        return template is not None and self.writes and calls_tools(template)

    @property
    def thinks(self) -> bool:
        template = self._template
        return template is not None and self.writes and thinks(template)

    @property
    def can(self) -> list[str]:
        if not self.writes:
            return ["rerank" if self.ranks else "embedding"]
        told = {"completion": True, "tools": self.calls, "thinking": self.thinks, "infill": self._fills}
        return [name for name, able in told.items() if able]

    @property
    def _template(self) -> ChatTemplate | None:
        if self.card is not None:
            return self.card.template
        return None if self.voice is None else self.voice.assistant.template

    @property
    def _fills(self) -> bool:
        return self.voice is not None and self.voice.assistant.infill is not None


def models_listed(models: Models, names: Iterable[str]) -> list[ListedModel]:
    """May look at the disk."""
    states = {state.name: state for state in models.registry.states()}
    return [
        ListedModel(name, *state_of(states.get(base)), models.card(base), None if base == name else base)
        for name, base in ((name, models.base(name)) for name in names)
    ]


def state_of(state: State[Voice] | None) -> tuple[str, Voice | None]:
    if state is None:
        return "unloaded", None
    return ("loading" if state.model is None else "loaded"), state.model


def for_openai(one: ListedModel, created: int) -> Json:
    """The names that OpenAI, vLLM, llama.cpp, LM Studio and OpenRouter have for it."""
    told: Json = {"id": one.name, "object": "model", "created": created, "owned_by": "mlxrun", "state": one.state}
    lengths = {"context_length": one.context, "max_model_len": one.context, "max_context_length": one.longest}
    told |= {name: length for name, length in lengths.items() if length is not None}
    if one.parent is not None:
        told |= {"parent": one.parent, "root": one.name}
    if one.voice is not None:
        told["loaded_context_length"] = one.voice.assistant.engine.context
    told |= {"type": "llm" if one.writes else "rerank" if one.ranks else "embeddings", "capabilities": one.can}
    told["supported_parameters"] = parameters(one)
    made = "text" if one.writes else "scores" if one.ranks else "embeddings"
    told["architecture"] = {"modality": f"text->{made}", "input_modalities": ["text"], "output_modalities": [made]}
    if one.card is not None:
        facts = one.card.facts
        told |= {"arch": facts.family, "quantization": facts.quantization}
        sizes = {"n_ctx": one.context, "n_ctx_train": facts.context, "n_params": facts.parameters, "size": facts.bytes}
        told["meta"] = {name: number for name, number in sizes.items() if number}
    return told


def parameters(one: ListedModel) -> list[str]:
    if not one.writes:
        return ["top_n", "max_tokens_per_doc"] if one.ranks else ["dimensions", "encoding_format"]
    return [*SAMPLED, *(CALLING if one.calls else ()), *(("reasoning_effort",) if one.thinks else ())]


def for_lm_studio(one: ListedModel) -> Json:
    facts = None if one.card is None else one.card.facts
    told: Json = {"id": one.name, "object": "model", "type": "llm" if one.writes else "embeddings"}
    told |= {"publisher": "mlxrun", "arch": facts.family if facts else "", "state": lm_state(one)}
    told |= {"compatibility_type": "gguf" if facts and facts.format == "gguf" else "mlx"}
    told |= {"quantization": facts.quantization if facts else "", "max_context_length": one.longest or 0}
    if one.voice is not None:
        told["loaded_context_length"] = one.voice.assistant.engine.context
    return {**told, "capabilities": ["tool_use"] if one.calls else []}


def lm_state(one: ListedModel) -> str:
    return "not-loaded" if one.state == "unloaded" else one.state


def for_codex(one: ListedModel, place: int) -> Json:
    efforts = [{"effort": effort, "description": f"{effort} effort"} for effort in EFFORTS] if one.thinks else []
    window = one.context or 0
    return {
        "slug": one.name,
        "display_name": one.name,
        "description": "A model on this machine.",
        "default_reasoning_level": "medium" if efforts else None,
        "supported_reasoning_levels": efforts,
        "shell_type": "shell_command",
        "visibility": "list",
        "supported_in_api": True,
        "priority": place,
        "upgrade": None,
        "base_instructions": CODEX_INSTRUCTIONS,
        "supports_reasoning_summaries": one.thinks,
        "support_verbosity": False,
        "default_verbosity": None,
        "apply_patch_tool_type": "function",
        "truncation_policy": {"mode": "tokens", "limit": max(1, window // 4)},
        "supports_parallel_tool_calls": True,
        "context_window": window,
        "auto_compact_token_limit": None,
        "effective_context_window_percent": 95,
        "experimental_supported_tools": [],
        "input_modalities": ["text"],
    }


def for_anthropic(one: ListedModel) -> Json:
    modified = one.card.facts.modified if one.card else 0
    created = datetime.fromtimestamp(modified, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    told = {"type": "model", "id": one.name, "display_name": one.name, "created_at": created, "lifecycle": "active"}
    return {**told, "max_input_tokens": one.context, "max_tokens": one.context, "capabilities": None}


def page_for_anthropic(listed: list[ListedModel]) -> Json:
    data = [for_anthropic(one) for one in listed if one.writes]
    ends = {"first_id": data[0]["id"] if data else None, "last_id": data[-1]["id"] if data else None}
    return {"data": data, "has_more": False, **ends}

"""The dialects that are spoken. To add one: a file beside this one, and a line in the table."""

from __future__ import annotations

from ..dialect import Dialect, ErrorWords, Plain
from ..mcp.lender import Lender
from ..stored import StoredAnswers
from .adapters import ADAPTER_PLAINS
from .anthropic import COUNT_PLAIN, MESSAGES_DIALECT
from .embeddings import EMBEDDINGS_PLAIN, EMBEDDINGS_UNVERSIONED
from .llama import LLAMA_PLAINS
from .llama_completion import LLAMA_COMPLETION, LLAMA_INFILL
from .ollama_chat import CHATTING, GENERATING
from .ollama_embed import EMBED_PLAINS
from .ollama_models import OLLAMA_PLAINS
from .openai_chat import ChatCompletions
from .openai_completions import Completions
from .openai_lent import LendingChat, lent_plain
from .rerank import RERANK_PLAINS
from .responses import Responses
from .responses_compact import CompactResponse
from .responses_kept import plains_of
from .transcriptions import TRANSCRIPTION_PLAINS

DIALECTS: tuple[Dialect, ...] = (
    *(ChatCompletions(), Completions(), MESSAGES_DIALECT),
    *(CHATTING, GENERATING),
    *(LLAMA_COMPLETION, LLAMA_INFILL),
)
PLAINS: tuple[Plain, ...] = (
    COUNT_PLAIN,
    EMBEDDINGS_PLAIN,
    EMBEDDINGS_UNVERSIONED,
    *OLLAMA_PLAINS,
    *EMBED_PLAINS,
    *LLAMA_PLAINS,
    *RERANK_PLAINS,
    *TRANSCRIPTION_PLAINS,
    *ADAPTER_PLAINS,
)
TREES: dict[str, ErrorWords] = {"/api": CHATTING}  # who words errors at paths where there is nothing


def lending(lender: Lender) -> tuple[tuple[Dialect, ...], tuple[Plain, ...]]:
    """All of them; chats may ask for tools of MCP servers."""
    dialects = (LendingChat(lender) if dialect.path == LendingChat.path else dialect for dialect in DIALECTS)
    return tuple(dialects), (*PLAINS, lent_plain(lender))


def remembering(stored: StoredAnswers) -> tuple[tuple[Dialect, ...], tuple[Plain, ...]]:
    """Those whose answers are kept: each server has its own."""
    responses = Responses(stored)
    return (CompactResponse(stored), responses), plains_of(stored, responses)

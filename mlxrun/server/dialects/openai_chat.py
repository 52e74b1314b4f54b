"""/v1/chat/completions: a conversation in, messages out."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any

from ...core import Finish
from ...parts import AnswerPart, Arguments, CallBegun, CallEnded, Piece, Said, Thought, Token
from ...turns import Ask, Role, Thinking, Tool, Turn
from ..check import check
from ..dialect import Body, Job, Json, Operation, Voice, WantedModel
from ..errors import ApiError
from ..fields import ref
from ..tools import InputReader
from .openai import FINISHES, LEAST, ChoiceEncoder, Framing, framing, wish
from .openai_answers import CHAT_ANSWERS, CHAT_CONTENT, RETURNS
from .openai_fields import CHAT
from .openai_messages import turns_of
from .openai_tools import choice_of, tools_of

PATH = "/v1/chat/completions"


class ChatEncoder(ChoiceEncoder):
    path, id_prefix = PATH, "chatcmpl-"
    whole_object, stream_object = "chat.completion", "chat.completion.chunk"

    def __init__(self, framing: Framing, logprobs: bool, custom: Collection[str] = ()) -> None:
        """`custom`: names of tools whose input is a text."""
        super().__init__(framing)
        self._logprobs, self._custom = logprobs, frozenset(custom)
        self._opened: set[int] = set()
        self._calls: dict[int, dict[int, InputReader | None]] = {}  # of an answer; with a reader: of a custom tool

    def deltas(self, index: int, piece: Piece) -> Iterator[Json]:
        if index not in self._opened:
            self._opened.add(index)
            yield self._delta(index, {"role": "assistant", "content": ""})
        *before, last = self._told(index, piece)
        for delta in before:
            yield self._delta(index, delta)
        yield self._choice(index, piece, "delta", last)

    def choice(self, index: int, piece: Piece) -> Json:
        message: Json = {"role": "assistant", "content": None, "refusal": None}
        calls: list[Json] = []
        for told in self._told(index, piece):
            for name, value in told.items():
                if name == "tool_calls":
                    gathered(calls, *value)
                else:
                    message[name] = (message.get(name) or "") + value
        if calls:
            message["tool_calls"] = calls
        elif message["content"] is None:
            message["content"] = ""
        return self._choice(index, piece, "message", message)

    def _told(self, index: int, piece: Piece) -> list[Json]:
        """The parts in as few deltas as keep their order: clients read the thoughts of one before its content."""
        deltas: list[Json] = [{}]
        for part in piece.parts:
            if isinstance(part, CallEnded):
                continue
            name, value = self._field(index, part)
            if name in deltas[-1] or deltas[-1].keys() - {"reasoning_content"}:  # only thoughts go before another
                deltas.append({})
            deltas[-1][name] = value
        return deltas

    def _field(self, index: int, part: AnswerPart) -> tuple[str, Any]:
        match part:
            case Said(text):
                return "content", text
            case Thought(text):
                return "reasoning_content", text
        return "tool_calls", [self._call(index, part)]

    def _call(self, index: int, part: AnswerPart) -> Json:
        """Clients put calls together by their index, and know a call's id, kind and name from its first delta."""
        calls = self._calls.setdefault(index, {})
        if isinstance(part, CallBegun):
            custom = part.name in self._custom
            calls[part.index] = InputReader() if custom else None
            kind, input = ("custom", "input") if custom else ("function", "arguments")
            return {"index": part.index, "id": part.id, "type": kind, kind: {"name": part.name, input: ""}}
        if isinstance(part, Arguments):
            reader = calls[part.index]
            if reader is None:
                return {"index": part.index, "function": {"arguments": part.text}}
            return {"index": part.index, "custom": {"input": reader.push(part.text)}}
        raise self.refuse(part)

    def _delta(self, index: int, delta: Json) -> Json:
        return {"index": index, "delta": delta, "logprobs": None, "finish_reason": None}

    def _choice(self, index: int, piece: Piece, name: str, said: Json) -> Json:
        logprobs = None
        if self._logprobs and (piece.tokens or name == "message"):
            logprobs = {"content": [described(token) for token in piece.tokens], "refusal": None}
        finish = FINISHES[piece.finish]
        if piece.finish is Finish.STOP and self._calls.get(index):
            finish = "tool_calls"
        return {"index": index, name: said, "logprobs": logprobs, "finish_reason": finish}


def gathered(calls: list[Json], delta: Json) -> None:
    """The calls of a whole message, of the same deltas that a stream has."""
    if "id" in delta:
        calls.append({key: value for key, value in delta.items() if key != "index"})
        return
    call = calls[delta["index"]]
    for key, text in delta[call["type"]].items():
        call[call["type"]][key] += text


class ChatCompletions:
    path = PATH
    lends = False  # tools of MCP servers
    operation = Operation(
        name="chatCompletion",
        summary="Answer a conversation",
        request=CHAT,
        returns=RETURNS,
        content=CHAT_CONTENT,
        schemas=CHAT_ANSWERS,
        error=ref("Error"),
    )

    def error(self, error: ApiError) -> Json:
        return error.body

    def check(self, body: Body) -> WantedModel:
        check(body, CHAT)
        if body.get("mlxrun_mcp") and not self.lends:
            message = "mlxrun_mcp: this server lends no tools; serve --mcp FILE names MCP servers."
            raise ApiError(400, message, param="mlxrun_mcp")
        return WantedModel(body.get("model"))

    def read(self, body: Body, voice: Voice) -> Job:
        return self.job(body, voice, ask_of(body))

    def job(self, body: Body, voice: Voice, asked: Ask) -> Job:
        logprobs = wanted_logprobs(body)
        wanted = wish(body, voice.sampling, limit_of(body), logprobs)
        frames, count = framing(body, voice.name), body.get("n") or 1
        custom = [tool.name for tool in asked.tools if tool.custom]
        return Job(
            start=lambda: voice.assistant.answer(asked, wanted, count),
            answers=count,
            encoder=ChatEncoder(frames, logprobs is not None, custom),
            stream=frames.stream,
            left_out=voice.assistant.left_out(asked),
        )


def ask_of(body: Body, more: Sequence[Tool] = ()) -> Ask:
    """`more`: tools beside those of the request."""
    turns, tools = turns_of(body["messages"]), (*tools_of(body), *more)
    thinking, template = Thinking(effort=body.get("reasoning_effort")), body.get("chat_template_kwargs") or {}
    return Ask(turns, tools, choice_of(body, tools), thinking, goes_on(body, turns[-1]), template)


def goes_on(body: Body, last: Turn) -> bool:
    """Whether the last turn, an assistant's, is the beginning of the answer."""
    possible = last.role is Role.ASSISTANT and not last.calls
    told, anew = body.get("continue_final_message"), body.get("add_generation_prompt")
    if told and anew:
        message = (
            "continue_final_message goes on with a message and add_generation_prompt begins one; give one of them."
        )
        raise ApiError(400, message, param="add_generation_prompt")
    wanted = told if told is not None else None if anew is None else not anew
    if wanted and not possible:
        name = "continue_final_message" if told else "add_generation_prompt"
        raise ApiError(400, f"{name}: the last message is no assistant's text, which could go on.", param=name)
    return possible if wanted is None else wanted


def wanted_logprobs(body: Body) -> int | None:
    top = body.get("top_logprobs")
    if body.get("logprobs"):
        return top or 0
    if top is not None:
        raise ApiError(400, "top_logprobs is only allowed with logprobs.", param="top_logprobs")
    return None


def limit_of(body: Body) -> int | None:
    older, newer = body.get("max_tokens"), body.get("max_completion_tokens")
    if older is not None and newer is not None and older != newer:
        raise ApiError(400, "max_tokens and max_completion_tokens differ; give one of them.", param="max_tokens")
    return older if newer is None else newer


def described(token: Token) -> Json:
    return {**alone(token), "top_logprobs": [alone(other) for other in token.top]}


def alone(token: Token) -> Json:
    return {"token": token.text, "logprob": max(token.logprob, LEAST), "bytes": list(token.bytes)}

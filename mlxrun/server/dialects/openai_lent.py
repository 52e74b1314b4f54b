"""Chats that are lent tools of MCP servers: `mlxrun_mcp` names them, and `mcp_calls` tells their calls and results.

These calls are no `tool_calls`: a client would run those. A delta of `mcp_calls` has an index; its first has id, name
and empty arguments, the next more of the arguments, the last the result and whether it is an error. What stands in a
message can go back as tool_calls with their tool messages.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from functools import partial
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from ...parts import AnswerPart, Arguments, CallAnswered, CallBegun, CallEnded, Piece
from ..check import shown
from ..dialect import Body, Job, Json, Plain, Voice, WantedModel
from ..direct import OpenAIWords
from ..errors import ApiError, JsonResponse
from ..fields import TEXT, listed, maybe, record
from ..generate import House
from ..mcp.lender import FIELD, Lender
from ..mcp.rounds import Rounds
from .openai import framing, wish
from .openai_chat import ChatCompletions, ChatEncoder, ask_of, limit_of, wanted_logprobs

CALLS = "mcp_calls"
SERVERS = record(data=listed(record(server=TEXT, tools=listed(record(name=TEXT, description=TEXT)), error=maybe(TEXT))))


class LentEncoder(ChatEncoder):
    def __init__(self, *given: Any, lent: Collection[str]) -> None:
        """`lent`: names of the tools that are called here; only one answer is told."""
        super().__init__(*given)
        self._lent = frozenset(lent)
        self._places: dict[int, tuple[bool, int]] = {}  # of a call: whether it is lent, its number among those

    def choice(self, index: int, piece: Piece) -> Json:
        calls: list[Json] = []
        others: list[AnswerPart] = []
        for part in piece.parts:
            if isinstance(part, CallEnded) or not self._is_lent(part):
                others.append(part)
                continue
            told = self._lent_call(part)
            if "id" in told:
                calls.append({name: value for name, value in told.items() if name != "index"})
            elif "arguments" in told:
                calls[told["index"]]["arguments"] += told["arguments"]
            else:
                calls[told["index"]] |= {"result": told["result"], "is_error": told["is_error"]}
        told = super().choice(index, replace(piece, parts=tuple(others)))
        if calls:
            told["message"][CALLS] = calls
        return told

    def _field(self, index: int, part: AnswerPart) -> tuple[str, Any]:
        if self._is_lent(part):
            return CALLS, [self._lent_call(part)]
        if isinstance(part, CallBegun | Arguments):
            part = replace(part, index=self._places[part.index][1])
        return super()._field(index, part)

    def _is_lent(self, part: AnswerPart) -> bool:
        if isinstance(part, CallBegun):
            lent = part.name in self._lent
            self._places.setdefault(part.index, (lent, sum(kind == lent for kind, _ in self._places.values())))
        return isinstance(part, CallBegun | Arguments | CallAnswered) and self._places[part.index][0]

    def _lent_call(self, part: AnswerPart) -> Json:
        match part:
            case CallBegun(index, id, name):
                return {"index": self._places[index][1], "id": id, "name": name, "arguments": ""}
            case Arguments(index, text):
                return {"index": self._places[index][1], "arguments": text}
            case CallAnswered(index, text, failed):
                return {"index": self._places[index][1], "result": text, "is_error": failed}
        raise self.refuse(part)


class LendingChat(ChatCompletions):
    lends = True

    def __init__(self, lender: Lender) -> None:
        self._lender = lender

    def check(self, body: Body) -> WantedModel:
        wanted = super().check(body)
        names = body.get(FIELD)
        return replace(wanted, before=partial(self._lender.reach, names)) if names else wanted

    def read(self, body: Body, voice: Voice) -> Job:
        if not body.get(FIELD):
            return super().read(body, voice)
        lent = self._lender.tools(body[FIELD])
        asked, logprobs = ask_of(body, [one.tool for one in lent.values()]), wanted_logprobs(body)
        for tool in asked.tools[: len(asked.tools) - len(lent)]:
            if tool.name in lent:
                message = f"tools: {shown(tool.name)} is the name of a tool that {FIELD} lends."
                raise ApiError(400, message, param="tools")
        job = self.job(body, voice, asked)
        if job.answers > 1:
            raise ApiError(400, f"{FIELD} is only allowed with n 1.", param="n")
        wanted = wish(body, voice.sampling, limit_of(body), logprobs)
        custom = [tool.name for tool in asked.tools if tool.custom]

        def start() -> list[Rounds]:
            return [Rounds(asked, lambda ask: voice.assistant.answer(ask, wanted)[0], lent, self._lender)]

        encoder = LentEncoder(framing(body, voice.name), logprobs is not None, custom, lent=lent)
        return replace(job, start=start, encoder=encoder)


def lent_plain(lender: Lender) -> Plain:
    async def answer(_: Request, house: House) -> Response:
        return JsonResponse({"data": await lender.described()})

    told = {"description": "The servers.", "content": {"application/json": {"schema": SERVERS}}}
    document = {"operationId": "mcpServers", "summary": "Tools that chats may be lent", "responses": {"200": told}}
    return Plain("/v1/mcp", ("GET",), answer, OpenAIWords(), {"get": document})

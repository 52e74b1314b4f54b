"""mlxrun serve [MODEL ...]: OpenAI's interface over HTTP, on this machine unless told otherwise."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..core import Sampling
from . import offered, options, quantize, serve_file, service, together
from .clients import CLIENTS, told
from .terminal import aside, say, tell

if TYPE_CHECKING:
    from ..machines.messages import Start
    from ..server.models import Models
    from .together import Together

HELP = "answer over HTTP, as OpenAI's interface"
DEFAULT = "smollm2"
PORT = 8080
KEY = "MLXRUN_KEY"


def configure(parser: argparse.ArgumentParser) -> None:
    offered.add_models(parser, DEFAULT)
    parser.add_argument("--host", default="127.0.0.1", help="an address other machines can reach needs a key")
    parser.add_argument(
        "--port",
        type=int,
        action="append",
        default=[],
        metavar="N",
        help=f"{PORT} where none is given; 0: any that is free; several times: each of them, "
        "such as 11434, where programs look for Ollama",
    )
    parser.add_argument(
        "--key",
        help=f"what clients must send, or several with spaces between; better in the environment as {KEY}",
    )
    parser.add_argument("--allow-host", action="append", default=[], metavar="NAME", help="answer to this name too")
    parser.add_argument(
        "--allow-origin",
        action="append",
        default=[],
        metavar="URL",
        help="let this web page ask; apps: programs that are pages inside (tauri, app, vscode-webview)",
    )
    parser.add_argument("--max-concurrent", type=int, metavar="N", help="answers on their way at most, queue included")
    parser.add_argument("--strict", action="store_true", help="a field that is not known is an error, not left out")
    parser.add_argument(
        "--store",
        type=Path,
        metavar="DIR",
        help="keep answers of /v1/responses for a day in this folder, not in memory",
    )
    parser.add_argument("--log", metavar="FILE", help="add a line of JSON for each request, no texts in it; -: stderr")
    parser.add_argument("--grace", type=float, metavar="S", help="seconds that answers may still take after SIGTERM")
    parser.add_argument("--context", type=int, metavar="N", help="tokens that prompt and answer may take together")
    parser.add_argument("--mcp", type=Path, metavar="FILE", help="lend tools of these MCP servers to chats that ask")
    parser.add_argument(
        "--allow-pull", action="store_true", help="fetch models for clients that ask for it, as Ollama's do (/api/pull)"
    )
    parser.add_argument(
        "--machines", type=Path, metavar="FILE", help="run the model on the machines that this JSON file names together"
    )
    asked = parser.add_mutually_exclusive_group()
    asked.add_argument(
        "--for", dest="client", choices=tuple(CLIENTS), help="print the lines that point this program here, and stop"
    )
    asked.add_argument("--install-service", action="store_true", help="write what starts this at every login, and stop")
    asked.add_argument("--uninstall-service", action="store_true", help="remove what --install-service wrote, and stop")
    options.add_sampling(parser)
    options.add_loading(parser)
    quantize.add_quantize(parser)
    options.add_memory(parser)


def usual_flags() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    configure(parser)
    return parser.parse_args([])


class Terminated(KeyboardInterrupt):
    """SIGTERM while a model loads: the load ends, and we do, in order."""


def main(flags: argparse.Namespace) -> int:
    if flags.uninstall_service:
        tell(*service.uninstall())
        return 0
    signal.signal(signal.SIGTERM, terminate)
    file = serve_file.place()
    settings = serve_file.read(file)
    laid = serve_file.laid_under(flags, usual_flags(), settings)
    if os.environ.get(KEY) and flags.key is None:
        laid.key = None  # the environment goes before the file
    try:
        if flags.client is not None:
            tell(*pointed(laid))
            return 0
        if flags.install_service:
            return install(flags, laid)
        start = None if laid.machines is None else together.told()
        if settings and start is None:
            aside(f"What no flag says is set by {file}.")
        if laid.machines is not None:
            together.check(laid)
        if start is not None and start.rank:
            return follow(laid, start)
        return serve(laid, None if start is None else together.Together(start))
    except Terminated:
        return 0


def terminate(number: int, frame: object) -> None:
    raise Terminated


def pointed(flags: argparse.Namespace) -> list[str]:
    """The lines for a program that is to ask a server with these flags."""
    from ..core import USUAL_CONTEXT

    asked = (flags.model or [DEFAULT])[0]
    path = Path(asked).expanduser()
    name = flags.name or ((path.stem if path.is_file() else path.name) if path.exists() else asked)
    secret = flags.key if flags.key is not None else os.environ.get(KEY)
    url = f"http://{'127.0.0.1' if flags.host in ('0.0.0.0', '::') else flags.host}:{(flags.port or [PORT])[0]}"
    return told(flags.client, url, name, secret or "none", flags.context or USUAL_CONTEXT)


def install(flags: argparse.Namespace, laid: argparse.Namespace) -> int:
    """The file is read again at each start, so it is only checked now."""
    key = flags.key if flags.key is not None else os.environ.get(KEY)
    check(laid, most_of(laid), grace_of(laid), key or laid.key)
    tell(*service.install(flags, usual_flags(), key))
    return 0


def most_of(flags: argparse.Namespace) -> int:
    from ..server import app

    return app.MAX_CONCURRENT if flags.max_concurrent is None else int(flags.max_concurrent)


def grace_of(flags: argparse.Namespace) -> float:
    from ..server import run

    return run.GRACE if flags.grace is None else float(flags.grace)


def follow(flags: argparse.Namespace, start: Start) -> int:
    from ..settings import from_environment

    return together.follow(flags, start, from_environment().but(context=flags.context), DEFAULT)


def serve(flags: argparse.Namespace, group: Together | None = None) -> int:
    from ..client.mcp.file import read_servers
    from ..engine.registry import Beside
    from ..memory.claim import NO_CLAIM
    from ..server import app, request_log, run
    from ..server.dialects import DIALECTS, PLAINS, lending
    from ..server.mcp.lender import Lender
    from ..server.models import Models
    from ..server.pulls import Pulls
    from ..server.stored import StoredAnswers
    from ..settings import from_environment
    from ..store.resolve import fetchable

    most, grace = most_of(flags), grace_of(flags)
    key = flags.key if flags.key is not None else os.environ.get(KEY)
    check(flags, most, grace, key)
    settings = from_environment().but(context=flags.context)
    lender = None if flags.mcp is None else Lender(read_servers(flags.mcp))
    stored = StoredAnswers(None if flags.store is None else flags.store.expanduser().absolute())
    listeners = group.listeners if group else [run.listen(flags.host, port) for port in flags.port or [PORT]]
    if flags.machines is not None and group is None:
        return together.supervise(flags, sys.argv[1:], listeners)
    offer = offered.offered(flags, settings, DEFAULT, group)
    pulls = Pulls(fetchable, offer.add) if flags.allow_pull else None
    models = Models(offer.load, offer.names, offer.first, offer.limits(), offer.card, offer.aliases(), offer.adapters())
    try:
        if offer.first is not None:
            models.registry.hold(offer.first, offer.load(offer.first, Beside(NO_CLAIM, True, lambda: False)))
        config = app.ServerConfig(
            sampling=models.sampling(options.sampling(flags, Sampling())),
            key=key,
            hosts=(*run.names_of(flags.host), *flags.allow_host),
            origins=tuple(flags.allow_origin),
            max_concurrent=most,
            strict=flags.strict,
        )
        spoken = (DIALECTS, PLAINS) if lender is None else lending(lender)
        server = app.Server(models, config, *spoken, stored=stored, pulls=pulls)
        if flags.store is not None:
            say(f"Answers of /v1/responses are kept on disk, in {flags.store}, for a day.")
        if group is not None:
            group.ready()
        say(ready_line(models, [f"{run.address_of(listener)}/v1" for listener in listeners]))
        with request_log.written(flags.log):
            run.serve(server, listeners, grace)
    finally:
        models.close()
        if group is not None:
            group.close()
        if lender is not None:
            lender.close()
    return 0


def check(flags: argparse.Namespace, most: int, grace: float, key: str | None) -> None:
    from ..core import RequestError
    from ..server import run

    if most < 1:
        raise RequestError(f"--max-concurrent must be a whole number from 1 on, not {most}.")
    if not 0 <= grace <= 3600:
        raise RequestError(f"--grace must be a number of seconds from 0 to 3600, not {grace}.")
    run.check_reach(flags.host, key)
    for port in flags.port:
        run.check_port(port)
    run.check_names(flags.allow_host, flags.allow_origin)


def ready_line(models: Models, urls: Sequence[str]) -> str:
    from ..server.models import ANY, listed

    url = " and ".join(urls)
    loaded = [
        f"{voice.name} answers at {url}, context {voice.assistant.engine.context} tokens" for voice in models.voices()
    ]
    others = [name for name in models.names() if name != models.first and name not in models.adapters]
    page = f"In a browser: {urls[0].removesuffix('v1')}"
    if not loaded:
        return f"mlxrun answers at {url} and loads what is asked for: {listed(others)}. {page}"
    adapters = f"; its adapters: {listed(list(models.adapters))}" if models.adapters else ""
    names = "To any name" if ANY in models.aliases else "To other names with --alias"
    more = f"; loaded when asked for: {listed(others)}" if others else ""
    return f"{loaded[0]}{adapters}{more}. {names}. {page}"

"""mlxrun serve [MODEL]: OpenAI's interface over HTTP, on this machine unless told otherwise."""

from __future__ import annotations

import argparse
import os

from . import options, quantize, service
from .terminal import aside, say, tell

HELP = "answer over HTTP, as OpenAI's interface"
DEFAULT = "smollm2"
KEY = "MLXRUN_KEY"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", nargs="?", default=DEFAULT, help=f"as for run; without it {DEFAULT}")
    parser.add_argument("--host", default="127.0.0.1", help="an address other machines can reach needs a key")
    parser.add_argument("--port", type=int, default=8080, help="0: any that is free")
    parser.add_argument("--key", help=f"what clients must send; better in the environment as {KEY}")
    parser.add_argument("--name", help="what clients call the model")
    parser.add_argument("--allow-host", action="append", default=[], metavar="NAME", help="answer to this name too")
    parser.add_argument("--allow-origin", action="append", default=[], metavar="URL", help="let this web page ask")
    parser.add_argument("--max-concurrent", type=int, metavar="N", help="answers on their way at most, queue included")
    parser.add_argument("--grace", type=float, metavar="S", help="seconds that answers may still take after SIGTERM")
    parser.add_argument("--context", type=int, metavar="N", help="tokens that prompt and answer may take together")
    asked = parser.add_mutually_exclusive_group()
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


def main(flags: argparse.Namespace) -> int:
    if flags.uninstall_service:
        tell(*service.uninstall())
        return 0
    from ..assistant import QUEUE_LIMIT, Assistant, recommended
    from ..core import RequestError
    from ..server import app, run
    from ..settings import from_environment
    from ..store.resolve import resolve
    from ..tune import begin

    key = flags.key if flags.key is not None else os.environ.get(KEY)
    most = app.MAX_CONCURRENT if flags.max_concurrent is None else flags.max_concurrent
    if most < 1:
        raise RequestError(f"--max-concurrent must be a whole number from 1 on, not {most}.")
    grace = run.GRACE if flags.grace is None else flags.grace
    if not 0 <= grace <= 3600:
        raise RequestError(f"--grace must be a number of seconds from 0 to 3600, not {grace}.")
    run.check_reach(flags.host, key)
    run.check_port(flags.port)
    run.check_names(flags.allow_host, flags.allow_origin)
    settings = from_environment().but(context=flags.context)
    if flags.install_service:
        tell(*service.install(flags, usual_flags(), key))
        return 0
    listener = run.listen(flags.host, flags.port)
    place = resolve(flags.model, settings)
    name = flags.name or (place.stem if os.path.exists(os.path.expanduser(flags.model)) else flags.model)
    tuning = begin(settings)
    opened = options.open_flagged(place, flags, tuning.device)
    config = app.ServerConfig(
        name=name,
        sampling=options.sampling(flags, recommended(opened.checkpoint)),
        key=key,
        hosts=(*run.names_of(flags.host), *flags.allow_host),
        origins=tuple(flags.allow_origin),
        max_concurrent=most,
    )
    opened = quantize.copy_of(opened, flags, settings)
    how = options.load_options(flags, settings)
    assistant = Assistant.load(opened, how, name=name, idle=tuning.idle, queue_limit=settings.queue or QUEUE_LIMIT)
    try:
        for note in assistant.engine.notes:
            aside(note)
        say(f"{name} answers at {run.address_of(listener)}/v1, context {assistant.engine.context} tokens.")
        run.serve(app.Server(assistant, config), listener, grace)
    finally:
        assistant.close()
    return 0

"""mlxrun stop MODEL: a running server lets that model go; the next request that names it loads it again."""

from __future__ import annotations

import argparse
import http.client
import json
import os

from ..core import RequestError
from .terminal import tell

HELP = "have a running server unload a model"
SECONDS = 60.0


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help="as 'mlxrun ps' names it")
    parser.add_argument("--at", metavar="URL", default="http://127.0.0.1:8080", help="the server's address")


def main(flags: argparse.Namespace) -> int:
    from ..client.events import message
    from ..client.http import BROKEN, Address, parsed

    address = Address(flags.at, os.environ.get("MLXRUN_KEY"))
    connection = address.connection(SECONDS)
    try:
        headers = {**address.headers, "Content-Type": "application/json"}
        connection.request("POST", f"{address.base}/models/unload", json.dumps({"model": flags.model}), headers)
        response = connection.getresponse()
        status, body = response.status, parsed(response.read())
    except BROKEN as error:
        raise RequestError(f"No server answers at {address.url} ({error}); 'mlxrun serve' starts one.") from error
    finally:
        connection.close()
    if status != http.client.OK:
        raise RequestError(message(body) or f"What answers at {address.url} is no server of mlxrun's.")
    gone = isinstance(body, dict) and body.get("success")
    tell(f"{flags.model} is unloaded." if gone else f"{flags.model} was not loaded, or is in use.")
    return 0 if gone else 1

"""--tools FILE.py: the functions of a Python file that a model may call. They run here, with all that you may do."""

from __future__ import annotations

import inspect
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import TYPE_CHECKING

from ..core import RequestError
from .terminal import aside

if TYPE_CHECKING:
    from ..client.tools import Functions
    from ..client.types import ToolCall

SHOWN = 200  # letters of a result


def functions_of(file: Path) -> Functions:
    """Those that it defines itself and whose names do not begin with _."""
    from ..client.tools import RAISED, Functions

    spec = spec_from_file_location("mlxrun_tools", file)
    if file.suffix != ".py" or spec is None or spec.loader is None:
        raise RequestError(f"--tools wants a Python file, not {file}.")
    module = module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except FileNotFoundError:
        raise RequestError(f"There is no file {file}.") from None
    except (SyntaxError, *RAISED) as error:
        raise RequestError(f"{file} cannot be run: {type(error).__name__}: {error}.") from error
    own = [one for _, one in inspect.getmembers(module, inspect.isfunction) if one.__module__ == module.__name__]
    found = [one for one in own if not one.__name__.startswith("_")]
    if not found:
        raise RequestError(f"{file} defines no function that a model could call.")
    return Functions(found, tell)


def tell(call: ToolCall) -> None:
    arguments = ", ".join(f"{name}={value!r}" for name, value in call.arguments.items())
    aside(f"{call.name}({arguments}) -> {(call.result or '')[:SHOWN]}")

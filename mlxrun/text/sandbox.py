"""Jinja with nothing in it that a chat template does not need, and everything in it paid for.

`instrument.py` rewrites the syntax tree, `allowed.py` lists filters, tests and methods, `meter.py` keeps the
budget; here they become an environment. An environment serves one rendering and holds its meter, so
renderings on several threads share nothing but the compiled code.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from types import BuiltinMethodType, CodeType, MethodType
from typing import Any

from jinja2 import Template, TemplateError, pass_context
from jinja2.ext import loopcontrols
from jinja2.runtime import Context, LoopContext, Macro, Undefined
from jinja2.sandbox import ImmutableSandboxedEnvironment, SecurityError
from jinja2.utils import Cycler, Joiner, Namespace

from . import allowed, methods
from .instrument import Generation, Instrument
from .meter import MAX_RANGE, Meter, OverBudget

MAX_DATE_FORMAT = 200  # characters


class TemplateRefusal(TemplateError):
    """The template's own `raise_exception`: it does not want this conversation."""


class TemplateNamespace(Namespace):
    """`namespace()` without names that begin with an underscore, as Hugging Face has it."""

    def __init__(*args: Any, **kwargs: Any) -> None:  # `self` may be one of the names
        attributes = dict(*args[1:], **kwargs)
        for name in attributes:
            _public(name)
        Namespace.__init__(args[0], attributes)

    def __setitem__(self, name: str, value: Any) -> None:
        _public(name)
        super().__setitem__(name, value)

    def __repr__(self) -> str:
        return "<namespace>"  # not what it holds: it may hold itself


def _public(name: object) -> None:
    if not isinstance(name, str) or name.startswith("_"):
        raise SecurityError(f"it keeps a value under the name {str(name)[:40]!r}")


class Format:
    """`"...".format`, bound to its text."""

    def __init__(self, meter: Meter, text: str, work: Callable[..., str]) -> None:
        self._meter, self._text, self._work = meter, text, work

    def __call__(self, *args: Any, **kwargs: Any) -> str:
        self._meter.braces(self._text, (*args, *kwargs.values()))
        return self._work(*args, **kwargs)


class Sandbox(ImmutableSandboxedEnvironment):
    intercepted_binops = frozenset(ImmutableSandboxedEnvironment.default_binop_table)

    def __init__(self, meter: Meter, clock: Callable[[], datetime] = datetime.now) -> None:
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            extensions=[loopcontrols, Generation],
            optimized=False,  # folding constants would do a template's work before the meter sees it
            finalize=show,
        )
        self.meter, self._clock = meter, clock
        self.filters = allowed.filters(meter)
        self.tests = allowed.tests(meter)
        self.globals = {
            "range": self._range,
            "dict": self._dict,
            "namespace": self._namespace,
            "cycler": Cycler,
            "joiner": Joiner,
            "raise_exception": self._refuse,
            "strftime_now": self._now,
        }
        self._functions = tuple(self.globals.values())

    # what templates call

    def call(__self, __context: Context, __callee: Any, *args: Any, **kwargs: Any) -> Any:
        __self.meter.charge(8 + len(args) + len(kwargs))
        if not any(__callee is function for function in __self._functions):
            args = __self._paid(__callee, args, kwargs)
        return super().call(__context, __callee, *args, **kwargs)

    def _paid(self, callee: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Any, ...]:
        if isinstance(callee, (Macro, LoopContext, Joiner, Format, Undefined)):
            return args
        owner = callee.__self__ if isinstance(callee, (BuiltinMethodType, MethodType)) else None
        if isinstance(owner, (LoopContext, Cycler)):
            self.meter.weigh(*args)
            return args
        rule = methods.rule_of(owner, callee.__name__) if owner is not None else None
        if rule is None:
            raise SecurityError(f"it calls {getattr(callee, '__name__', 'a ' + type(callee).__name__)}")
        return tuple(rule(self.meter, owner, args, kwargs) or args)

    def _range(self, *args: int) -> range:
        made = range(*args)
        if len(made) > MAX_RANGE:
            raise OverBudget(f"it counts to more than {MAX_RANGE}")
        return made

    def _dict(self, *args: Any, **kwargs: Any) -> dict[Any, Any]:
        args = tuple(map(self.meter.hold, args))
        self.meter.weigh(*args, *kwargs.values())
        return dict(*args, **kwargs)

    def _namespace(self, *args: Any, **kwargs: Any) -> Namespace:
        return TemplateNamespace(self._dict(*args, **kwargs))

    def _refuse(self, message: Any) -> None:
        raise TemplateRefusal(str(message)[:1000])

    def _now(self, form: str) -> str:
        if not isinstance(form, str) or len(form) > MAX_DATE_FORMAT:
            raise OverBudget("it asks for a date in an absurd format")
        return self._clock().strftime(form)

    # what Jinja's compiled code calls

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        self.meter.binary(operator, left, right)
        return self.meter.whole(super().call_binop(context, operator, left, right))

    def getitem(self, obj: Any, argument: Any) -> Any:
        self.meter.charge()
        if isinstance(argument, tuple):
            self.meter.weigh(argument)  # it will be hashed
        return super().getitem(obj, argument)

    def concat(self, parts: Iterable[str]) -> str:
        kept = []
        for part in parts:
            self.meter.charge(1 + len(part) // 64)
            kept.append(part)
        return "".join(kept)

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        work = super().wrap_str_format(value)
        return None if work is None else Format(self.meter, value.__self__, work)


@pass_context
def show(context: Context, value: Any) -> Any:
    """Every {{ value }} passes here on its way to text."""
    if isinstance(context.environment, Sandbox):
        context.environment.meter.charge(2)
        context.environment.meter.weigh(value)
    return value


def compile_template(source: str) -> CodeType:
    environment = Sandbox(Meter(0))
    return environment.compile(Instrument().visit(environment.parse(source)), filename="<chat template>")


def render(code: CodeType, variables: Mapping[str, Any], meter: Meter, clock: Callable[[], datetime]) -> str:
    environment = Sandbox(meter, clock)
    template = Template.from_code(environment, code, environment.make_globals(None))
    return environment.concat(template.root_render_func(template.new_context(dict(variables))))

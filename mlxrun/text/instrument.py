"""The syntax tree of a chat template, checked and with the meter put into it.

Statements that chat templates have no need of are refused by name. Every loop and macro body pays before it
runs, and every operation that Jinja would compile to plain Python and whose cost depends on data becomes a
call of one of the sandbox's own filters, which have a ~ in their names (a template that finds one by `map`
can only pay with it).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from jinja2 import nodes
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.sandbox import SecurityError
from jinja2.visitor import NodeTransformer

ALLOWED_NODES = {
    *("Template", "Output", "TemplateData", "For", "If", "Macro", "CallBlock", "FilterBlock", "With", "Scope"),
    *("Assign", "AssignBlock", "ExprStmt", "Break", "Continue", "Name", "NSRef", "Const", "Tuple", "List", "Dict"),
    *("Pair", "Keyword", "CondExpr", "Filter", "Test", "Call", "Getitem", "Getattr", "Slice", "Concat", "Compare"),
    *("Operand", "Add", "Sub", "Mul", "Div", "FloorDiv", "Mod", "Pow", "Neg", "Pos", "And", "Or", "Not"),
}


class Generation(Extension):
    """{% generation %}: marks what a model is trained to write; here its body is all that matters."""

    tags = {"generation"}  # noqa: RUF012 - Jinja's own attribute

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        return nodes.Scope(parser.parse_statements(("name:endgeneration",), drop_needle=True)).set_lineno(line)


class Instrument(NodeTransformer):
    """Checks and rewrites in one walk."""

    def visit(self, node: nodes.Node, *args: Any, **kwargs: Any) -> Any:
        kind = type(node).__name__
        if kind not in ALLOWED_NODES:
            raise SecurityError(f"it uses {kind}, which chat templates have no need of")
        return super().visit(node, *args, **kwargs)

    def visit_Const(self, node: nodes.Const) -> nodes.Const:
        if isinstance(node.value, float) and not math.isfinite(node.value):  # Jinja would write it as a name: inf
            raise SecurityError(f"it holds a number in line {node.lineno} that is too large")
        return node

    def _paid(self, node: Any) -> Any:
        self.generic_visit(node)
        cost = sum(1 + len(getattr(part, "data", "")) // 64 for stmt in node.body for part in _all_nodes(stmt))
        node.body.insert(0, nodes.ExprStmt(_call("~charge", nodes.Const(2 * cost + 4))).set_lineno(node.lineno))
        return node

    visit_Macro = visit_CallBlock = _paid

    def visit_For(self, node: nodes.For) -> Any:
        node = self._paid(node)
        if node.test is not None:
            cost = sum(1 for _ in _all_nodes(node.test))
            node.test = nodes.And(_call("~charge", nodes.Const(2 * cost + 2)), node.test)
        return node

    def visit_Compare(self, node: nodes.Compare) -> Any:
        self.generic_visit(node)
        names = nodes.Const(tuple(operand.op for operand in node.ops))
        return _call("~compare", node.expr, names, *(operand.expr for operand in node.ops)).set_lineno(node.lineno)

    def visit_Concat(self, node: nodes.Concat) -> Any:
        self.generic_visit(node)
        return _call("~concat", *node.nodes).set_lineno(node.lineno)

    def visit_Getitem(self, node: nodes.Getitem) -> Any:
        self.generic_visit(node)
        if not isinstance(node.arg, nodes.Slice):
            return node
        ends = (end or nodes.Const(None) for end in (node.arg.start, node.arg.stop, node.arg.step))
        return _call("~slice", node.node, *ends).set_lineno(node.lineno)

    def visit_Pair(self, node: nodes.Pair) -> Any:
        self.generic_visit(node)
        if not isinstance(node.key, nodes.Const):
            node.key = _call("~key", node.key)
        return node


def _all_nodes(node: nodes.Node) -> Iterator[nodes.Node]:
    yield node
    yield from node.find_all(nodes.Node)


def _call(name: str, value: nodes.Expr, *args: nodes.Expr) -> nodes.Filter:
    return nodes.Filter(value, name, list(args), [], None, None)

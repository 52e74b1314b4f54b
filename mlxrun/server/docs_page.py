"""/docs: the OpenAPI document as one page. It loads nothing from anywhere: this server may have no network."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from .check import UNSUPPORTED, wanted
from .dialect import Json

POLICY = "default-src 'none'; style-src 'unsafe-inline'"
STYLE = """
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }
body { max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h2 { margin-top: 2.5rem; font-size: 1.1rem; } h2 b { font: 1em ui-monospace, monospace; }
table { border-collapse: collapse; width: 100%; }
td { vertical-align: top; padding: .3rem .8rem .3rem 0; border-top: 1px solid #8884; }
td:first-child, code { font: .9em ui-monospace, monospace; } .off { opacity: .55; }
"""


def page(document: Json) -> str:
    info = document["info"]
    parts = [
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{escape(info['title'])}</title>",
        f"<style>{STYLE}</style><h1>{escape(info['title'])} {escape(info['version'])}</h1>",
        f"<p>{escape(info['description'])} The same for programs: <a href=openapi.json>openapi.json</a>.</p>",
    ]
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            parts.append(f"<h2>{method.upper()} <b>{escape(path)}</b></h2><p>{escape(operation['summary'])}.</p>")
            if "requestBody" in operation:
                (body,) = operation["requestBody"]["content"].values()  # JSON, or a form
                schema = body["schema"]
                parts += ["<table>", *rows(schema), "</table>"]
    return "".join(parts)


def rows(schema: Json, inside: str = "") -> Iterator[str]:
    for name, field in schema["properties"].items():
        style = " class=off" if field.get(UNSUPPORTED) else ""
        about = field.get("description", "")
        if "default" in field:
            about += f" Default: {field['default']}."
        if name in schema["required"]:
            about += " Required."
        kind = wanted(without_null(field))
        yield f"<tr{style}><td>{escape(inside + name)}</td><td>{escape(kind)}</td><td>{escape(about.strip())}</td></tr>"
        if "properties" in field.get("items", {}):
            yield from rows(field["items"], f"{inside}{name}[].")


def without_null(field: Json) -> Json:
    """That a field may be null goes without saying here."""
    if "anyOf" in field:
        return {**field, "anyOf": [option for option in field["anyOf"] if option.get("type") != "null"]}
    if "enum" in field:
        return {**field, "enum": [value for value in field["enum"] if value is not None] or [None]}
    return {**field, "type": field["type"][0]} if isinstance(field["type"], list) else field

"""Colours: warm paper by day, warm black by night. app.tcss says where they go."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from textual.theme import Theme

from .settings import COLOURS, OwnTheme

DARK = Theme(
    name="mlxrun-dark",
    dark=True,
    primary="#e8a15c",
    secondary="#7cb8a8",
    accent="#e8a15c",
    foreground="#d9d5ce",
    background="#161513",
    surface="#1f1d1a",
    panel="#2a2723",
    success="#86b97a",
    warning="#dcb35c",
    error="#ee8479",
    variables={
        "faint": "#9c9589",
        "track": "#3b3731",
        "mark": "#7a7368",
        "code": "#e3c9a8",
        "border": "#e8a15c",
        "border-blurred": "#6b645a",
        "input-selection-background": "#e8a15c 30%",
        "block-cursor-background": "#3a3026",
        "block-cursor-blurred-background": "#3a3026",
        "block-cursor-foreground": "#f3e6d6",
        "block-cursor-blurred-foreground": "#f3e6d6",
        "block-cursor-text-style": "none",
        "scrollbar": "#3b3731",
        "scrollbar-hover": "#57514a",
        "scrollbar-active": "#e8a15c",
        "scrollbar-background": "#161513",
        "scrollbar-background-hover": "#161513",
        "scrollbar-background-active": "#161513",
    },
)
LIGHT = Theme(
    name="mlxrun-light",
    dark=False,
    primary="#97490a",
    secondary="#276a5c",
    accent="#97490a",
    foreground="#2d2a26",
    background="#fbf9f5",
    surface="#f2eee7",
    panel="#e9e3d9",
    success="#356a2b",
    warning="#7a5700",
    error="#a8322a",
    variables={
        "faint": "#665f55",
        "track": "#d8d0c3",
        "mark": "#8a8174",
        "code": "#7a4210",
        "border": "#97490a",
        "border-blurred": "#8a8071",
        "input-selection-background": "#a9560f 22%",
        "block-cursor-background": "#eadfce",
        "block-cursor-blurred-background": "#eadfce",
        "block-cursor-foreground": "#2d2a26",
        "block-cursor-blurred-foreground": "#2d2a26",
        "block-cursor-text-style": "none",
        "scrollbar": "#d8d0c3",
        "scrollbar-hover": "#bfb5a5",
        "scrollbar-active": "#a9560f",
        "scrollbar-background": "#fbf9f5",
        "scrollbar-background-hover": "#fbf9f5",
        "scrollbar-background-active": "#fbf9f5",
    },
)
CONTRAST = Theme(
    name="mlxrun-contrast",
    dark=True,
    primary="#ffd24a",
    secondary="#6fe7ff",
    accent="#ffd24a",
    foreground="#ffffff",
    background="#000000",
    surface="#0d0d0d",
    panel="#262626",
    success="#7dff7d",
    warning="#ffd24a",
    error="#ff9a8f",
    variables={
        **DARK.variables,
        "faint": "#d0d0d0",
        "track": "#8c8c8c",
        "mark": "#b0b0b0",
        "code": "#ffe9b0",
        "border": "#ffd24a",
        "border-blurred": "#8c8c8c",
        "block-cursor-background": "#4a4a00",
        "block-cursor-blurred-background": "#4a4a00",
        "block-cursor-foreground": "#ffffff",
        "block-cursor-blurred-foreground": "#ffffff",
        "scrollbar": "#8c8c8c",
        "scrollbar-background": "#000000",
    },
)
THEMES = {theme.name: theme for theme in (DARK, LIGHT, CONTRAST)}
SHORT = {name.removeprefix("mlxrun-"): name for name in THEMES}  # as a person calls them
LIGHT_BACKGROUNDS = ("7", "15")  # of the sixteen colours, as COLORFGBG numbers them


TEXTS = ("foreground", "faint", "primary", "secondary", "success", "warning", "error", "code")
READABLE = 4.5  # times as light as its ground, or as dark


def own_theme(name: str, own: OwnTheme) -> Theme:
    """A base with other colours."""
    base = THEMES[SHORT[own.base]]
    named = {key: value for key, value in own.colours.items() if key in COLOURS}
    others = {key: value for key, value in own.colours.items() if key not in COLOURS}
    return replace(base, name=f"mlxrun-{name}", variables={**base.variables, **others}, **named)  # type: ignore[arg-type]  # colours


def hard_to_read(theme: Theme) -> str:
    """The worst text of a theme on its ground, in a sentence; "" where all can be read."""
    found = {text: getattr(theme, text, None) or theme.variables.get(text) for text in TEXTS}
    worst = min((contrast(str(colour), str(theme.background)), text) for text, colour in found.items() if colour)
    if worst[0] >= READABLE:
        return ""
    named = f"In the theme {theme.name.removeprefix('mlxrun-')} {worst[1]}"
    return f"{named} has a contrast of {worst[0]:.1f} to 1; text needs {READABLE}."


def contrast(one: str, other: str) -> float:
    """As WCAG has it: from 1 to 21."""
    lighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def first_theme(remembered: str | None, environ: Mapping[str, str]) -> str:
    """What was chosen before, else what the terminal says about its background, else dark."""
    if remembered in THEMES:
        return str(remembered)
    background = environ.get("COLORFGBG", "").rpartition(";")[2]
    return LIGHT.name if background in LIGHT_BACKGROUNDS else DARK.name

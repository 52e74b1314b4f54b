"""Colours: warm paper by day, warm black by night. app.tcss says where they go."""

from __future__ import annotations

from collections.abc import Mapping

from textual.theme import Theme

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
    error="#e2766a",
    variables={
        "faint": "#8f887c",
        "track": "#3b3731",
        "code": "#e3c9a8",
        "border": "#e8a15c",
        "border-blurred": "#3b3731",
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
    primary="#a9560f",
    secondary="#2c7566",
    accent="#a9560f",
    foreground="#2d2a26",
    background="#fbf9f5",
    surface="#f2eee7",
    panel="#e9e3d9",
    success="#3f7a34",
    warning="#8a6300",
    error="#b3392e",
    variables={
        "faint": "#746c61",
        "track": "#d8d0c3",
        "code": "#7a4210",
        "border": "#a9560f",
        "border-blurred": "#cfc6b8",
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
THEMES = {theme.name: theme for theme in (DARK, LIGHT)}
LIGHT_BACKGROUNDS = ("7", "15")  # of the sixteen colours, as COLORFGBG numbers them


def first_theme(remembered: str | None, environ: Mapping[str, str]) -> str:
    """What was chosen before, else what the terminal says about its background, else dark."""
    if remembered in THEMES:
        return str(remembered)
    background = environ.get("COLORFGBG", "").rpartition(";")[2]
    return LIGHT.name if background in LIGHT_BACKGROUNDS else DARK.name

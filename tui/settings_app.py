"""The app's looks and keys, as the settings file and the person have them."""

from __future__ import annotations

import os
from pathlib import Path

from . import settings
from .backend import Backend
from .theme import SHORT, THEMES, first_theme, hard_to_read, own_theme
from .tool_app import ToolApp
from .toolbox import McpToolbox


class SettingsApp(ToolApp):
    def __init__(self, backend: Backend, toolbox: McpToolbox, file: Path | None) -> None:
        """`file`: None: the usual one."""
        super().__init__(backend, toolbox)
        self.ui = settings.read(file or settings.place())
        self._names = dict(SHORT)  # of themes, as a person calls them
        for theme in THEMES.values():
            self.register_theme(theme)
        for name, own in self.ui.themes.items():
            made = own_theme(name, own)
            self.register_theme(made)
            self._names[name] = made.name
        self.theme = self._names.get(self.ui.theme) or first_theme(None, os.environ)
        if not self.ui.motion:
            self.animation_level = "none"
        if self.ui.keys:
            self.set_keymap(self.ui.keys)

    @property
    def theme_names(self) -> tuple[str, ...]:
        return tuple(self._names)

    def settle(self) -> None:
        """Once the sessions are open, which remember what was picked: the file goes before that."""
        remembered = self.sessions.setting("theme")
        chosen = remembered if remembered in self._names.values() else None
        self.theme = self._names.get(self.ui.theme) or chosen or first_theme(None, os.environ)
        if self.ui.unload_after is not None:
            self.unload_later(self.ui.unload_after)
        shown = self.available_themes[self.theme]
        for wrong in (*self.ui.wrong, hard_to_read(shown) if self.theme not in THEMES else ""):
            if wrong:
                self.tell(wrong, warning=True)

    def action_toggle_light(self) -> None:
        self.change_theme("light" if self.current_theme.dark else "dark")

    def change_theme(self, name: str) -> None:
        """Without a name the next one."""
        names = list(self._names)
        if not name:
            at = list(self._names.values()).index(self.theme) if self.theme in self._names.values() else -1
            name = names[(at + 1) % len(names)]
        if name not in self._names:
            self.tell_once(f"There is no theme {name!r}; there are {', '.join(names)}.")
            return
        self.theme = self._names[name]
        self.sessions.remember("theme", self.theme)

    def tell_once(self, sentence: str) -> None:
        raise NotImplementedError

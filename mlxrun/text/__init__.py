"""Strings only: tokenizers, chat templates, streaming decode, stop strings, reasoning. Never MLX, never HTTP."""

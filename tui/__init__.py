"""The terminal UI. It knows `mlxrun.client` and `mlxrun.core`, nothing of models or MLX."""

"""What bench/cpu.py and bench/accuracy.py stand on: engines in processes of their own, and models to give them.

`place` brings what is measured into ~/.cache/mlxrun-bench; `workers` starts an engine and asks it. Beside it one
file an engine: `ours`, `llama` (run by the Python of its own venv), `mlx_plain` (mlx-lm).
"""

"""Run open-weight language models, natively on MLX. Importing this imports nothing else."""

__version__ = "0.1.0"

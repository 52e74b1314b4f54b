"""Making smaller checkpoints, and judging them: quantize, write, compare. Knows files and loaded models, no text."""

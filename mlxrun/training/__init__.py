"""One file that says what to train -> an adapter that `mlxrun run --adapter` loads. Knows no server."""

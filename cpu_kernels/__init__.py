"""C++ primitives for MLX on a CPU: the fast forms of `mlxrun.ops`, which alone decides when to use them."""

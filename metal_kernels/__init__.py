"""Metal bodies for Apple GPUs: the fast forms of `mlxrun.ops`, which alone decides when to use them."""

"""Models on disk: where they are, how they get there, and that they are whole. It opens none of them."""

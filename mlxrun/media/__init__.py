"""Pictures: from the bytes of a file to what a tower reads. Pillow and NumPy; never MLX."""

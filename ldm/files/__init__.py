"""Reading and writing files: whole or not at all, bounded, and the paths that lead to them."""

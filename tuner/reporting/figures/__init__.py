"""What the result looks like: one function a figure, data in, a matplotlib figure out. Nothing imports it early."""

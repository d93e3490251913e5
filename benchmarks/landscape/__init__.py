"""A recorded landscape of learning curves, and every strategy replayed on it."""

"""The model, taken away."""

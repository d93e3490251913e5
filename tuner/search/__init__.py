"""Which trial next, where it runs, and whether it goes on."""

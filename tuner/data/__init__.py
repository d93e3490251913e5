"""Which images: found, verified, split. The test pixels stand behind one door, ``holdout``."""

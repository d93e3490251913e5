"""Hyperparameter search for Keras image classifiers, with an honest test score at the end."""

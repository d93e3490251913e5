"""How one network is trained, epoch by epoch. Knows nothing of Optuna."""

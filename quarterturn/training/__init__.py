"""Networks, the training loop, checkpoints and model files."""

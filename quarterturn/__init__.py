"""Rotation pretraining, transfer to few labels, and the evidence for it."""

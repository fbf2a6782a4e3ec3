"""Metrics, confidence intervals, plots and the table of predictions."""

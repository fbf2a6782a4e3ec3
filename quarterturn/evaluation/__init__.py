"""Metrics, intervals and plots."""

"""The command `quarterturn` and what it offers."""

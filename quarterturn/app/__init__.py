"""The command line program `quarterturn` and the functions behind its commands."""

"""Parameters, errors, files, progress: what every other room builds on."""

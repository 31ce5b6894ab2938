"""The pure rules: no I/O, no clock, no third-party import."""

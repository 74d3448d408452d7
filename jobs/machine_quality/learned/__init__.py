"""Learned metrics: what compression costs a machine, told from a crop of the reference and of the compressed picture."""

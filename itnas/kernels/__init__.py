"""Compiled kernels for cells on the CPU."""

"""The engine: K supernets of one shape as one, with torch's operations or with kernels."""

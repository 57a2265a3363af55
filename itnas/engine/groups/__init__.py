"""Cells in torch's own operations, the replicas of a pack as groups."""

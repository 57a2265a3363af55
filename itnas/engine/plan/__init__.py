"""The supernet as data: its layers and their weights, and the rounds of its cells."""

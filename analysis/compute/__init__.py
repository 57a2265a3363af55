"""A study's numbers: statistics applied to settings; nothing is read twice, nothing is drawn."""

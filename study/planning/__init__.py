"""`plan`: what a study file would run, what it costs, and what its seeds can show."""

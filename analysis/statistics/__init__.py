"""Statistics of seeds: arrays in, numbers out; no file, no frame of runs, no figure."""

"""The method: spaces, operations, the dependence of inner edges, the search, the genotype."""

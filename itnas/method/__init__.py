"""The method: what is searched over, how edges depend on each other, the search, its outcome.

- `dependence.py`: the formula of ITNAS and its controls. `models.py`: the registry of dependence
  models. `parameters.py`: what is learned, and where it starts.
- `spaces.py`: the search spaces as data. `operations/`: the candidate operations, a file a kind.
  `macro.py`: how cells are stacked into a network, as data.
- `bilevel.py`: the search loop. `search.py`: one call for a few seeds, and what a step costs.
- `genotype.py`: the discrete cell. `network.py`: its network, as a module.
- `records.py`: what a search leaves behind. `measures.py`: how far it moved, how much flows.
"""

"""Studies of ITNAS searches: settings, packs, Ray Tune, Optuna, and the shards they leave.

`run_study.py` is the command line over this package. Importing it loads neither Ray nor torch.
"""

from study.errors import StudyError

__all__ = ["StudyError"]

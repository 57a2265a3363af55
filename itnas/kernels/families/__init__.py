"""The families of maps (`itnas.engine.plan.rounds.Family`), forward and backward, a file each."""

from itnas.engine.plan.rounds import Family
from itnas.kernels.families.base import FamilyPass
from itnas.kernels.families.copies import Noise, Skips
from itnas.kernels.families.dense import Dense
from itnas.kernels.families.general import General
from itnas.kernels.families.halved import Halved
from itnas.kernels.families.pools import Pools
from itnas.kernels.families.separable import Separables

FAMILIES: dict[Family, type[FamilyPass]] = {
    "separable": Separables,
    "dense": Dense,
    "halved": Halved,
    "pool": Pools,
    "skip": Skips,
    "noise": Noise,
    "general": General,
}

__all__ = ["FAMILIES", "FamilyPass"]

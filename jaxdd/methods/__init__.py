"""F3: the distillation methods. Each is a `Method`: a procedure whose result is a `DistilledSet`."""

from jaxdd.methods.frepo import FRePo
from jaxdd.methods.kip import KIP
from jaxdd.methods.rcig import RCIG

METHODS = {"rcig": RCIG, "frepo": FRePo, "kip": KIP}

__all__ = ["KIP", "METHODS", "RCIG", "FRePo"]

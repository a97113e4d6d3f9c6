"""F3: the distillation methods. Each is a `Method`: a procedure whose result is a `DistilledSet`."""

from jaxdd.methods.condensation.method import Condensation
from jaxdd.methods.condensation.published import NAMES as MATCHING
from jaxdd.methods.frepo import FRePo
from jaxdd.methods.kip import KIP
from jaxdd.methods.rcig.method import RCIG

METHODS = {"rcig": RCIG, "frepo": FRePo, "kip": KIP, **dict.fromkeys(MATCHING, Condensation)}

__all__ = ["KIP", "MATCHING", "METHODS", "RCIG", "Condensation", "FRePo"]

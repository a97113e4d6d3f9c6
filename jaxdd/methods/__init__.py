"""F3: the distillation methods. Each is a `Procedure` whose result is a `DistilledSet`."""

from jaxdd.methods.rcig import RCIG

METHODS = {"rcig": RCIG}

__all__ = ["METHODS", "RCIG"]

"""F1: networks, behind one interface. `build` makes a `Network` by name; imports core only."""

from jaxdd.models.convnet import INITIALIZATIONS
from jaxdd.models.network import Network, Outputs, Variables
from jaxdd.models.registry import ALIASES, NAMES, NORMALIZATIONS, build, default_depth, teacher_architecture

__all__ = [
    "ALIASES",
    "INITIALIZATIONS",
    "NAMES",
    "NORMALIZATIONS",
    "Network",
    "Outputs",
    "Variables",
    "build",
    "default_depth",
    "teacher_architecture",
]

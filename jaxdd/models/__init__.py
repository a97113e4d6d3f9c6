"""F1: networks, behind one interface. `build` makes a `Network` by name; imports core only."""

from jaxdd.models.convnet import INITIALIZATIONS
from jaxdd.models.network import Network, Outputs, Variables
from jaxdd.models.registry import (
    ALIASES,
    AS_IN_PYTORCH,
    NAMES,
    NORMALIZATIONS,
    TEACHERS,
    build,
    called,
    default_depth,
    teacher_architecture,
)

__all__ = [
    "ALIASES",
    "AS_IN_PYTORCH",
    "INITIALIZATIONS",
    "NAMES",
    "NORMALIZATIONS",
    "TEACHERS",
    "Network",
    "Outputs",
    "Variables",
    "build",
    "called",
    "default_depth",
    "teacher_architecture",
]

"""F1: networks, behind one interface. `build` makes a `Network` by name; imports core only.

Names are loaded when first used, so that a command can check an architecture's name before JAX is imported.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from jaxdd.core.lazy import loader

if TYPE_CHECKING:
    from jaxdd.models.convnet import INITIALIZATIONS
    from jaxdd.models.names import ALIASES, AS_IN_PYTORCH, NAMES, NORMALIZATIONS, TEACHERS, called, teacher_architecture
    from jaxdd.models.network import Network, Outputs, Variables
    from jaxdd.models.registry import build, default_depth

_HOMES = {
    **dict.fromkeys(("ALIASES", "AS_IN_PYTORCH", "NAMES", "NORMALIZATIONS", "TEACHERS"), "names"),
    **dict.fromkeys(("called", "teacher_architecture"), "names"),
    **dict.fromkeys(("Network", "Outputs", "Variables"), "network"),
    **dict.fromkeys(("build", "default_depth"), "registry"),
    "INITIALIZATIONS": "convnet",
}
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


__getattr__ = loader(__name__, _HOMES)

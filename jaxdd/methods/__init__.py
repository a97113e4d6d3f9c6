"""F3: the distillation methods, and the one table of them: for the command line, for Python and for what is on disk.

Most are a `Method`: a procedure whose result is a `DistilledSet`. Those that recover images from a teacher are a chain
of procedures (`run/chain`); of these, the table has the settings of the recovery.
"""

from __future__ import annotations

import dataclasses
import importlib
from typing import TYPE_CHECKING, Any

from jaxdd.methods.condensation.settings import NAMES as MATCHING
from jaxdd.methods.recovery.settings import NAMES as CHAINS

if TYPE_CHECKING:
    from jaxdd.methods.condensation.method import Condensation
    from jaxdd.methods.frepo.method import FRePo
    from jaxdd.methods.kip.method import KIP
    from jaxdd.methods.rcig.method import RCIG
    from jaxdd.methods.recovery.settings import Recovery

MATCHED, RECOVERY = "condensation.method:Condensation", "recovery.settings:Recovery"


@dataclasses.dataclass(frozen=True)
class Entry:
    """A method: its paper, and where its class is.

    Arguments:
        paper: title, venue and number.
        home: module below `jaxdd.methods` and class, which is imported when it is first asked for; or the class.
    """

    paper: str
    home: str | type[Any]

    @property
    def settings(self) -> type[Any]:
        """The class whose fields are its settings, with type, range and help (`core.config.settings_of`); of a method
        that is no chain, the procedure itself."""
        return _at(self.home)

    @property
    def light(self) -> type[Any]:
        """A class with the same settings that imports no JAX."""
        home = self.home
        return _at(
            home.replace(".method:", ".settings:") + "Settings" * (".method:" in home)
            if isinstance(home, str)
            else home
        )

    @property
    def is_chain(self) -> bool:
        """Whether it recovers images from a teacher."""
        return self.home == RECOVERY


def _at(home: str | type[Any]) -> type[Any]:
    if not isinstance(home, str):
        return home
    module, _, name = home.partition(":")
    return getattr(importlib.import_module(f"{__name__}.{module}"), name)


METHODS: dict[str, Entry] = {
    "rcig": Entry(
        "Dataset Distillation with Convexified Implicit Gradients, ICML 2023, arXiv 2302.06755", "rcig.method:RCIG"
    ),
    "frepo": Entry(
        "Dataset Distillation using Neural Feature Regression, NeurIPS 2022, arXiv 2206.00719", "frepo.method:FRePo"
    ),
    "kip": Entry("Dataset Meta-Learning from Kernel Ridge-Regression, ICLR 2021, arXiv 2011.00050", "kip.method:KIP"),
    "dc": Entry("Dataset Condensation with Gradient Matching, ICLR 2021, arXiv 2006.05929", MATCHED),
    "dsa": Entry("Dataset Condensation with Differentiable Siamese Augmentation, ICML 2021, arXiv 2102.08259", MATCHED),
    "dm": Entry("Dataset Condensation with Distribution Matching, WACV 2023, arXiv 2110.04181", MATCHED),
    "idc": Entry(
        "Dataset Condensation via Efficient Synthetic-Data Parameterization, ICML 2022, arXiv 2205.14959", MATCHED
    ),
    "accdd": Entry("Accelerating Dataset Distillation via Model Augmentation, CVPR 2023, arXiv 2212.06152", MATCHED),
    "dream": Entry(
        "DREAM: Efficient Dataset Distillation by Representative Matching, ICCV 2023, arXiv 2302.14416", MATCHED
    ),
    "dream_plus": Entry(
        "DREAM+: Efficient Dataset Distillation by Bidirectional Representative Matching, arXiv 2310.15052",
        MATCHED,
    ),
    "ga": Entry(
        "Gradient Amplification for Gradient Matching Based Dataset Distillation, Neural Networks 191, 2025",
        MATCHED,
    ),
    "sre2l": Entry("Squeeze, Recover and Relabel, NeurIPS 2023, arXiv 2306.13092", RECOVERY),
    "cda": Entry("Dataset Distillation in Large Data Era, TMLR, arXiv 2311.18838", RECOVERY),
    "rded": Entry("On the Diversity and Realism of Distilled Dataset, CVPR 2024, arXiv 2312.03526", RECOVERY),
    "sre2l_pp": Entry("SRe2L++, the baseline of Committee Voting (CV-DD), arXiv 2501.07575", RECOVERY),
    "fadrm": Entry("Fast and Accurate Data Residual Matching for Dataset Distillation, arXiv 2506.24125", RECOVERY),
}

__all__ = ["CHAINS", "KIP", "MATCHING", "METHODS", "RCIG", "Condensation", "Entry", "FRePo", "Recovery"]


def __getattr__(name: str) -> Any:
    for entry in METHODS.values():
        if name in __all__ and str(entry.home).endswith(f":{name}"):
            return entry.settings
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")

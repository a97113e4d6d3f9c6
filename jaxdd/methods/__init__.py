"""F3: the distillation methods, and the one table of them: for the command line, for Python and for what is on disk.

Most are a `Method`: a procedure whose result is a `DistilledSet`. Those that recover images from a teacher are a chain
of procedures (`run/chain`); of these, the table has the settings of the recovery.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from jaxdd.methods.condensation.method import Condensation
from jaxdd.methods.condensation.published import NAMES as MATCHING
from jaxdd.methods.frepo import FRePo
from jaxdd.methods.kip import KIP
from jaxdd.methods.rcig.method import RCIG
from jaxdd.methods.recovery.settings import NAMES as CHAINS
from jaxdd.methods.recovery.settings import Recovery


@dataclasses.dataclass(frozen=True)
class Entry:
    """A method.

    Arguments:
        paper: title, venue and number.
        settings: the class whose fields are its settings, with type, range and help (`core.config.settings_of`); of a
            method that is no chain, the procedure itself.
    """

    paper: str
    settings: type[Any]

    @property
    def is_chain(self) -> bool:
        """Whether it recovers images from a teacher."""
        return self.settings is Recovery


METHODS: dict[str, Entry] = {
    "rcig": Entry("Dataset Distillation with Convexified Implicit Gradients, ICML 2023, arXiv 2302.06755", RCIG),
    "frepo": Entry("Dataset Distillation using Neural Feature Regression, NeurIPS 2022, arXiv 2206.00719", FRePo),
    "kip": Entry("Dataset Meta-Learning from Kernel Ridge-Regression, ICLR 2021, arXiv 2011.00050", KIP),
    "dc": Entry("Dataset Condensation with Gradient Matching, ICLR 2021, arXiv 2006.05929", Condensation),
    "dsa": Entry(
        "Dataset Condensation with Differentiable Siamese Augmentation, ICML 2021, arXiv 2102.08259", Condensation
    ),
    "dm": Entry("Dataset Condensation with Distribution Matching, WACV 2023, arXiv 2110.04181", Condensation),
    "idc": Entry(
        "Dataset Condensation via Efficient Synthetic-Data Parameterization, ICML 2022, arXiv 2205.14959", Condensation
    ),
    "accdd": Entry(
        "Accelerating Dataset Distillation via Model Augmentation, CVPR 2023, arXiv 2212.06152", Condensation
    ),
    "dream": Entry(
        "DREAM: Efficient Dataset Distillation by Representative Matching, ICCV 2023, arXiv 2302.14416", Condensation
    ),
    "dream_plus": Entry(
        "DREAM+: Efficient Dataset Distillation by Bidirectional Representative Matching, arXiv 2310.15052",
        Condensation,
    ),
    "ga": Entry(
        "Gradient Amplification for Gradient Matching Based Dataset Distillation, Neural Networks 191, 2025",
        Condensation,
    ),
    "sre2l": Entry("Squeeze, Recover and Relabel, NeurIPS 2023, arXiv 2306.13092", Recovery),
    "cda": Entry("Dataset Distillation in Large Data Era, TMLR, arXiv 2311.18838", Recovery),
    "rded": Entry("On the Diversity and Realism of Distilled Dataset, CVPR 2024, arXiv 2312.03526", Recovery),
    "sre2l_pp": Entry("SRe2L++, the baseline of Committee Voting (CV-DD), arXiv 2501.07575", Recovery),
    "fadrm": Entry("Fast and Accurate Data Residual Matching for Dataset Distillation, arXiv 2506.24125", Recovery),
}

__all__ = ["CHAINS", "KIP", "MATCHING", "METHODS", "RCIG", "Condensation", "Entry", "FRePo", "Recovery"]

"""Evaluating a set while it is being made, and keeping the best so far.

    evaluations.jsonl    step, accuracies, mean and standard deviation: one line per evaluation
    best/                the set whose mean was highest over all evaluations, not the newest alone

The best is chosen by the test images, as the papers' own scripts do: it flatters.
"""

from __future__ import annotations

import dataclasses
import json
import pathlib
from collections.abc import Callable
from typing import Any

from jaxdd.core import io
from jaxdd.core.distilled import DistilledSet
from jaxdd.data import Dataset
from jaxdd.evaluation.base import BaseRecipe
from jaxdd.evaluation.protocol import Row
from jaxdd.run import api
from jaxdd.run.signals import Stopped


@dataclasses.dataclass(frozen=True, eq=False)
class Validation:
    """What a run does every so many steps; pass it to `Distillation.drive`.

    Arguments:
        every: steps between two evaluations.
        folder: the run's output folder.
        dataset: the real images.
        recipe: how networks are trained on the set.
        seed: of these networks, the same every time.
        picture: draws a set into a file.
        begin: hears the step before its evaluation.
        report: hears `(step, row, whether it is the best so far)`.
        should_stop: asked while networks are trained; a signal ends the evaluation, of which nothing is kept then.
    """

    every: int
    folder: pathlib.Path
    dataset: Dataset
    recipe: BaseRecipe
    seed: int = 0
    picture: api.Picture | None = None
    begin: Callable[[int], Any] = lambda step: None
    report: Callable[[int, Row, bool], Any] = lambda step, row, best: None
    should_stop: Callable[[], int | None] = lambda: None

    def __call__(self, step: int, distilled: DistilledSet) -> None:
        """Evaluates the set of one step, once; of a recipe's several ways of training, the first counts."""
        if self.told() and self.told()[-1]["step"] == step:  # a run that goes on from here
            return
        self.begin(step)
        options: dict[str, Any] = {"seed": self.seed, "baselines": (), "should_stop": self.should_stop}
        try:
            row = api.evaluate(distilled, self.dataset, self.recipe, **options).rows[0]
        except Stopped:  # the run hears the same signal at its next step boundary, and saves
            return
        before = [told for told in self.told() if told["step"] < step]  # a resumed run makes the others again
        best = all(row.mean > told["mean"] for told in before)
        if best:
            distilled.save(self.folder / "best")
            if self.picture is not None:
                self.picture(distilled, self.folder / "best" / "grid.png")
        now = {"step": step, "runs": list(row.runs), "mean": row.mean, "std": row.std}
        lines = "".join(json.dumps(told) + "\n" for told in (*before, now))
        io.write_atomically(self.folder / "evaluations.jsonl", lines)
        self.report(step, row, best)

    def told(self) -> list[dict[str, Any]]:
        """The evaluations so far."""
        path = self.folder / "evaluations.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []

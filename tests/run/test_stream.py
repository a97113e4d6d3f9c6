"""The loop with a stream: every step sees its own batch, whatever the dispatches, also after a resumption."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdd.core.errors import DataError, UsageError
from jaxdd.core.procedure import BatchRule, Part, Procedure
from jaxdd.core.types import Array
from jaxdd.data.streaming import ImageStream, Stream
from jaxdd.run import loop
from jaxdd.run.control import Stopped
from jaxdd.run.devices import Layout
from jaxdd.run.storage.checkpoint import Storage
from jaxdd.training.recipe import TeacherRecipe
from jaxdd.training.teacher import Squeeze
from tests.data.conftest import encode
from tests.run.toy import Notes, Toy, bits, examples

SIZE = 5


class Sums(NamedTuple):
    """Arguments: steps, and a running sum in which the order of the steps tells."""

    step: Array
    total: Array


@dataclasses.dataclass(frozen=True)
class Adding(Procedure[Sums]):
    """Mixes the streamed labels of each step with the resident images and the step's key."""

    size: int = SIZE

    @property
    def batch_rule(self):
        return BatchRule("stream", self.size)

    def init(self, key, data):
        return Sums(jnp.zeros((), jnp.int32), jnp.zeros(3))

    def step(self, state, batch, key):
        new = batch.images.mean() + batch.labels.mean(0) + jax.random.normal(key, (3,))
        return Sums(state.step + 1, 0.9 * state.total + new), {"label": batch.labels[0, 0]}

    def result(self, state):
        return np.asarray(state.total)


class Labels(Stream):
    """Soft labels `[5, 3]` that are the step's number, to a part; notes which steps were asked for."""

    def __init__(self, poison: int = -1):
        self.asked, self.closed, self.poison = [], 0, poison

    def batch(self, step):
        if step == self.poison:
            raise DataError("cannot decode an image", where="n01/a.JPEG")
        return {"labels": (step + np.arange(15, dtype=np.float32).reshape(SIZE, 3) / 16)}

    def batches(self, start):
        try:
            while True:
                self.asked.append(start)
                yield self.batch(start)
                start += 1
        finally:
            self.closed += 1

    @property
    def shapes(self):
        return {"labels": jax.ShapeDtypeStruct((SIZE, 3), np.float32)}


def run(stream=None, steps=11, **options):
    return loop.run(Adding(), examples(), steps=steps, seed=2, stream=stream or Labels(), **options)


@pytest.mark.quick
@pytest.mark.parametrize("per_dispatch", [1, 4, 100])
def test_every_step_sees_its_own_batch(per_dispatch):
    labels, notes = Labels(), Notes()
    found = run(labels, log_every=3, steps_per_dispatch=per_dispatch, reporter=notes)
    assert [metrics["label"] for _, _, metrics, *_ in notes.of("progress") if metrics] == [2, 5, 8, 10]
    assert labels.asked == list(range(11)) and labels.closed == 1
    np.testing.assert_array_equal(found, run(steps_per_dispatch=1))


def test_the_step_sees_the_streamed_field_beside_the_resident_ones():
    data, total = examples(), np.zeros(3, np.float32)
    for step in range(3):
        noise = jax.random.normal(loop_key(2, step), (3,))
        total = 0.9 * total + (float(data.images.mean()) + Labels().batch(step)["labels"].mean(0) + noise)
    np.testing.assert_allclose(run(steps=3), total, rtol=1e-5)


def loop_key(seed, step):
    from jaxdd.core.random import key_for

    return key_for(seed, "step", step)


def test_a_resumed_run_asks_from_where_it_stopped_and_is_bit_equal(tmp_path):
    stopped = iter([None] * 2)
    with Storage(tmp_path, {"toy": 1}) as storage, pytest.raises(Stopped):
        run(storage=storage, steps_per_dispatch=3, should_stop=lambda: next(stopped, 15))
    labels = Labels()
    with Storage(tmp_path, {"toy": 1}) as storage:
        found = run(labels, storage=storage, steps_per_dispatch=4)
    assert labels.asked == list(range(6, 11))
    assert bits(found) == bits(run())


def test_an_error_of_the_stream_comes_through_and_ends_what_reads_ahead():
    labels = Labels(poison=4)
    with pytest.raises(DataError, match=r"n01/a\.JPEG"):
        run(labels)
    assert labels.asked[-1] == 4 and labels.closed == 1


def test_a_stream_and_the_procedure_must_agree():
    with pytest.raises(UsageError, match="was given none"):
        loop.run(Adding(), examples(), steps=1, seed=0)
    with pytest.raises(UsageError, match="has a stream"):
        loop.run(Toy(), examples(), steps=1, seed=0, stream=Labels())
    with pytest.raises(UsageError, match=r"\(5, 3\)") as caught:
        loop.run(Adding(size=6), examples(), steps=1, seed=0, stream=Labels())
    assert "6 rows" in caught.value.expected
    with pytest.raises(UsageError, match="share a stream"):
        several = Layout((jax.devices()[0],) * 2, "pool")
        loop.run(Adding(), examples(), steps=1, seed=0, stream=Labels(), layout=several)


def test_a_batch_of_other_shapes_than_told_is_refused():
    class Growing(Labels):
        def batch(self, step):
            return {"labels": np.zeros((SIZE + step, 3), np.float32)}

    with pytest.raises(TypeError, match="step 1"):
        run(Growing())


def test_parts_cannot_have_a_stream():
    class Parted(Adding):
        def parts(self, data):
            return (Part("one", 1, lambda state, batch, key, index: state),)

    with pytest.raises(TypeError, match="cannot have a stream"):
        loop.run(Parted(), examples(), steps=1, seed=0, stream=Labels())


@pytest.mark.slow
def test_a_teacher_learns_from_a_folder_with_the_same_numbers_however_it_is_read(tmp_path):
    pytest.importorskip("grain")
    from tests.training import tiny

    random = np.random.default_rng(0)
    for index in range(12):
        place = tmp_path / "train" / f"n0{index % 3}"
        place.mkdir(parents=True, exist_ok=True)
        shade = 90 * np.eye(3)[index % 3]
        image = np.clip(shade + random.integers(0, 120, (9, 11, 3)), 0, 255).astype(np.uint8)
        (place / f"{index}.JPEG").write_bytes(encode(image, "JPEG"))
    recipe = TeacherRecipe(0.1, batch_size=6, epochs=15, warmup_epochs=0, augmentation="flip")
    options: dict[str, Any] = {"resolution": 4, "batch_size": 6, "seed": 1}
    made, told = [], Notes()
    for threads, per_dispatch in ((0, 1), (3, 4)):
        stream = ImageStream.of_folder(tmp_path, threads=threads, **options)
        procedure = Squeeze(tiny.network(), recipe, stream.steps_per_epoch, streamed=True)
        data = stream.examples(((0.3,) * 3, (0.2,) * 3))
        how = {"steps_per_dispatch": per_dispatch, "log_every": 2, "reporter": told}
        made.append(loop.run(procedure, data, steps=procedure.steps, seed=0, stream=stream, **how))
    losses = [metrics["epoch_loss"] for _, _, metrics, *_ in told.of("progress") if metrics]
    assert losses[14] < 0.7 * losses[0]
    for one, other in zip(*map(jax.tree.leaves, made), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)  # two programs: rounding differs

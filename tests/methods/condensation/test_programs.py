"""One program of a whole step, and its parts one by one; what the CPU's programs hold; resuming; the result."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdd.core import backend
from jaxdd.core.random import key_for
from jaxdd.core.types import Examples
from jaxdd.run import loop
from jaxdd.run.programs import Repeated, Turns, initial, programs_for, template
from jaxdd.run.storage.checkpoint import Storage
from tests import hlo
from tests.methods.condensation.tiny import CLASSES, SEED, SHAPE, difference, engine, examples, method
from tests.run.toy import bits


@pytest.mark.slow
def test_one_program_of_a_step_equals_its_parts(monkeypatch, x64):
    """The program as it is for accelerators, all classes mapped and loops rolled, beside what the CPU dispatches."""
    of = method("idc", ema_decay=0.9, momentum=0.5)
    data = examples(of, np.float64)
    start = jax.jit(lambda data: initial(of, data, SEED))(data)
    for name in ("outer iteration", "network"):
        event = next(event for event in of.events(data) if event.name == name)
        start = jax.jit(event.apply)(start, data, key_for(SEED, f"event/{name}"))
    parts = {part.name: part.times for part in of.parts(data)}
    wanted, metrics = engine(dataclasses.replace(of, inner_loop=1, fix_iter=2), data, outer=1)
    assert parts == {"draw": 1, "match": CLASSES, "train": 2}
    monkeypatch.setattr(backend, "on_cpu", lambda: False)
    assert {part.name: part.times for part in of.parts(data)} == {**parts, "match": 1}
    found, measured = jax.jit(lambda state, data: of.step(state, data, key_for(SEED, "step")))(start, data)
    for name in ("images", "buffer", "average", "network", "losses"):
        assert difference(getattr(found, name), getattr(wanted, name)) < 1e-10, name
    assert float(measured["loss"]) == pytest.approx(metrics[0]["loss"], rel=1e-10)
    assert np.array_equal(found.matched, wanted.matched) and np.array_equal(found.trained, wanted.trained)


@pytest.mark.slow
def test_a_run_that_is_continued_within_an_outer_iteration_is_bit_equal(tmp_path):
    of = method("accdd")
    data = examples(of)
    whole, _ = loop.final_state(of, data, steps=4, seed=SEED)
    for steps in (3, 4):
        with Storage(tmp_path, {"method": "accdd"}) as storage:
            parts, done = loop.final_state(of, data, steps=steps, seed=SEED, storage=storage)
            assert done == steps
    assert bits(parts) == bits(whole)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "wanted"), [("dream", {"network", "representatives", "match", "train"}), ("ga", {"match"})]
)
def test_no_native_convolution_stands_in_a_loop_or_under_a_condition_on_cpu(name, wanted):
    """The stages of GA-DD are conditions; with more images than are embedded at once, DREAM has a loop."""
    of = method(name, width=5, depth=2)  # wide enough that convolutions outside of loops are native
    small = examples(of)
    repeat = lambda leaf: jnp.tile(leaf, (2,) + (1,) * (leaf.ndim - 1))  # noqa: E731
    data = dataclasses.replace(small, images=repeat(small.images), labels=repeat(small.labels))
    programs = programs_for(of, data, 1)
    assert isinstance(programs.advance, Turns)
    state = template(of, data)
    zero = np.int32(0)
    texts = {}
    for program in (*programs.events, *programs.advance.parts):
        assert isinstance(program, Repeated)
        if program.program.name in wanted:
            lowered = program.program.lower(state, data, np.uint32(0), zero, zero)
            texts[program.program.name] = lowered.compile().as_text() or ""
    assert set(texts) == wanted
    for title, text in texts.items():
        assert not hlo.convolutions_under_control_flow(text), title
    if name == "dream":
        assert " while(" in texts["representatives"] and hlo.convolutions(texts["train"])
    under_condition = "conditional(" in texts["match"]
    assert under_condition == (name == "ga") and bool(hlo.convolutions(texts["match"])) == (name == "dream")


@pytest.mark.quick
def test_the_result_can_be_shown_and_decoded():
    of = method("idc", ema_decay=0.5)
    images = np.linspace(-0.5, 1.5, CLASSES * 2 * np.prod(SHAPE)).reshape(CLASSES, 2, *SHAPE)
    state = jax.eval_shape(lambda data: initial(of, data, SEED), examples(of))
    raw = state._replace(images=jnp.asarray(images), average=None)
    found = of.result(raw)
    np.testing.assert_allclose(found.images, np.clip(images, 0, 1).reshape(6, *SHAPE), rtol=1e-6)
    assert found.images.dtype == found.labels.dtype == np.float32
    np.testing.assert_array_equal(found.labels, np.eye(3)[[0, 0, 1, 1, 2, 2]])
    assert found.decode.factor == 2 and found.decode.formation == "single" and not found.decode.flip
    decoded, labels = found.decoded()
    assert decoded.shape == (24, *SHAPE) and labels.argmax(1).tolist() == [0, 0, 1, 1, 2, 2] * 4
    average = of.result(raw._replace(average=jnp.full_like(raw.images, 0.25)))
    assert np.all(average.images == 0.25)
    multi = dataclasses.replace(of, decode_type="multi").result(raw)
    bound = dataclasses.replace(of, decode_type="bound").result(raw)
    assert (
        multi.decode.formation == "multi" and bound.decode.formation == "single"
    )  # published: bound is for distilling
    standardised = method("dsa").result(raw)
    np.testing.assert_allclose(standardised.images, images.reshape(6, *SHAPE), rtol=1e-6)


@pytest.mark.quick
def test_what_happens_when():
    data = examples(method("dream"))
    found = {
        name: [(event.name, event.period, event.times) for event in method(name, **settings).events(data)]
        for name, settings in (("idc", {"fix_iter": 3}), ("dream", {"inner_loop": 4}), ("dream_plus", {}), ("dm", {}))
    }
    assert found == {
        "idc": [("outer iteration", 2, 1), ("network", 6, 1)],
        "dream": [("outer iteration", 4, 1), ("network", 4, 1), ("representatives", 2, 1)],
        "dream_plus": [
            ("outer iteration", 2, 1),
            ("network", 2, 1),
            ("early training", 2, 80),  # an epoch of 240 images by 3
            ("first images", 2**31 - 1, 1),  # once
            ("representatives", 2, 1),
        ],
        "dm": [("outer iteration", 1, 1), ("network", 1, 1)],
    }
    names = lambda of: [(part.name, part.times) for part in of.parts(data)]  # noqa: E731
    assert names(method("dm")) == [("draw", 1), ("match", 3)]  # each step has a network of its own: none is trained
    assert names(method("dc", n_images=200)) == [("draw", 1), ("match", 3), ("train", 3)]  # 600 images by 256
    assert names(method("dc", n_images=200, factor=2))[-1] == ("train", 10)  # which decode to 2 400
    assert names(method("ga", ema_every="inner")) == [("draw", 1), ("match", 3), ("average", 1), ("train", 4)]


@pytest.mark.quick
def test_the_first_images_are_those_of_each_class_in_order():
    of = method("idc", factor=1, initial="random")
    data = examples(of)
    labels = np.asarray(data.labels)
    wanted = [np.flatnonzero(labels == c)[:2] for c in range(CLASSES)]
    found = jax.jit(lambda data: initial(of, data, SEED).images)(data)
    np.testing.assert_array_equal(found, np.asarray(data.images)[np.stack(wanted)])
    few = Examples(data.images[:4], jnp.asarray([0, 1, 1, 2]), 3, data.constants)
    cycled = jax.jit(lambda data: initial(of, data, SEED).images)(few)
    np.testing.assert_array_equal(cycled, np.asarray(few.images)[[[0, 0], [1, 2], [3, 3]]])


@pytest.mark.slow
@pytest.mark.quick
def test_noise_is_about_grey_and_clipped():
    of = method("idc", factor=1, initial="noise", n_images=50)
    found = np.asarray(jax.jit(lambda data: initial(of, data, SEED).images)(examples(of)))
    assert found.min() == 0 and found.max() == 1
    assert found.mean() == pytest.approx(0.5, abs=0.01) and np.median(np.abs(found - 0.5)) == pytest.approx(
        0.169, abs=0.01
    )

"""The shapes and types that states are annotated with are those of real ones."""

from __future__ import annotations

import dataclasses
import functools
import importlib
import inspect
import pkgutil
import types
import typing
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import jaxtyping
import pytest

import jaxdd
from jaxdd.augment.replay import Show
from jaxdd.core.procedure import Procedure
from jaxdd.core.types import Answers, Examples
from jaxdd.methods.frepo.method import FRePo
from jaxdd.methods.kip.method import KIP
from jaxdd.training.ensemble import Ensemble
from jaxdd.training.recipe import TeacherRecipe
from jaxdd.training.sgd import ClassifierTraining
from jaxdd.training.snapshots import Snapshots
from jaxdd.training.soft_labels import EpochExamples, Labeller, Labelling, SoftLabelTraining
from jaxdd.training.soft_views import Views
from jaxdd.training.teacher import Squeeze
from jaxdd.training.trainer import NetworkTraining
from tests.methods.condensation import tiny as condensation
from tests.methods.rcig import tiny as rcig
from tests.methods.recovery import tiny as recovery
from tests.training import tiny

door = pytest.importorskip("beartype.door")

NETWORK = tiny.network("batch")
VIEWS = Views(Show(4, scale=None, flip=False, mix="none"), 4, label_seed=7)
CLASSIFIER = ClassifierTraining(NETWORK, batch_size=4)


def examples(count: int = 9) -> Examples:
    """Nine images of 4x4 pixels in three classes, and a teacher."""
    labels = jnp.arange(count, dtype=jnp.int32) % tiny.CLASSES
    teacher = NETWORK.init(jax.random.key(0))
    return Examples(tiny.data(count)[0], labels, tiny.CLASSES, teachers=(teacher,))


def made(procedure: Procedure, data: Examples) -> tuple[Procedure, Examples, Any]:
    """The procedure, what it reads, and its state before step 0."""
    return procedure, data, jax.jit(procedure.init)(jax.random.key(0), data)


def matching(name: str) -> tuple[Procedure, Examples, Any]:
    """One of the matching methods."""
    of = condensation.method(name)
    return made(of, condensation.examples(of))


def recovering(stage: int) -> tuple[Procedure, Examples, Any]:
    """The first or the second stage of a recovery from two teachers; the second goes on with Adam and patches."""
    teachers = recovery.network(), recovery.network(depth=1)
    given: dict[str, Any] = {"initialise": "medium", "iterations": 4, "stages": ((8, 2), (8, 2))}
    both = recovery.stages(teachers, **given, merge=0.5, reset=False)
    first, data, state = made(both[0], recovery.examples(6, teachers=teachers))
    if stage == 0:
        return first, data, state
    groups = jnp.zeros(1, jnp.int32)
    return made(both[1], dataclasses.replace(data, groups=groups, patches=data.images, adam=state.adam))


STATES: dict[str, Callable[[], tuple[Procedure, Examples, Any]]] = {
    "rcig": lambda: made(rcig.method(inner_solver="adam", skip_tune=True, pool_model_count=2), rcig.examples()),
    "frepo": lambda: made(FRePo(n_images=1, width=2, depth=1, pool_model_count=2), rcig.examples()),
    "kip": lambda: made(KIP(n_images=2), rcig.examples()),
    "dc": lambda: matching("dc"),
    "accdd": lambda: matching("accdd"),
    "ga": lambda: matching("ga"),
    "recovery": lambda: recovering(0),
    "recovery, second stage": lambda: recovering(1),
    "network": lambda: made(NetworkTraining(NETWORK, 0.1, 1, 10), examples()),
    "classifier": lambda: made(CLASSIFIER, examples()),
    "ensemble": lambda: made(Ensemble(CLASSIFIER, (1, 2)), examples()),
    "snapshots": lambda: made(Snapshots(CLASSIFIER, 2, 3), examples()),
    "teacher": lambda: made(Squeeze(NETWORK, TeacherRecipe(), steps_per_epoch=2), examples()),
    "student": lambda: made(SoftLabelTraining(NETWORK, Labeller((NETWORK,)), VIEWS, epochs=2, ema=0.9), examples()),
    "labels": lambda: made(
        Labelling(Labeller((NETWORK,)), VIEWS), examples().extended(EpochExamples, epoch=jnp.int32(1))
    ),
}


@functools.cache
def real(name: str) -> tuple[Procedure, Examples, Any]:
    """One of them, made once."""
    return STATES[name]()


def fields(kind: Any) -> dict[str, Any]:
    """Annotated fields of a named tuple or a dataclass; none of any other type."""
    if not isinstance(kind, type):
        return {}
    named = [field.name for field in dataclasses.fields(kind)] if dataclasses.is_dataclass(kind) else []
    hints = typing.get_type_hints(kind)
    return {name: hints[name] for name in getattr(kind, "_fields", named)}


def faults(value: Any, hint: Any, path: str) -> Iterator[str]:
    """Every field that is not what its annotation says; dimensions of one name are to be equal wherever they stand."""
    kinds = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    structures = [kind for kind in kinds if fields(kind) and isinstance(value, kind)]
    for kind in structures:
        for name, inner in fields(kind).items():
            yield from faults(getattr(value, name), inner, f"{path}.{name}")
    if not structures and not door.is_bearable(value, hint):
        yield f"{path}: {hint}, but is {jax.tree.map(jnp.shape, value)}"


def found(value: Any, path: str) -> list[str]:
    """The faults of one value, in one scope of dimensions."""
    with jaxtyping.jaxtyped("context"):
        return list(faults(value, type(value), path))


def state_of(procedure: type[Procedure]) -> type:
    """The type of state that a procedure's class names, in its `init`."""
    return typing.get_type_hints(procedure.init)["return"]


@pytest.mark.parametrize("name", STATES)
def test_a_state_is_what_it_is_annotated_with(name):
    procedure, data, state = real(name)
    assert type(state) is state_of(type(procedure))
    assert fields(type(state))
    assert not found(state, type(state).__name__)
    assert not found(data, type(data).__name__)


def test_every_procedure_has_such_a_state():
    for module in pkgutil.walk_packages(jaxdd.__path__, "jaxdd."):
        if module.name.startswith(("jaxdd.methods.", "jaxdd.training.", "jaxdd.evaluation.")):
            importlib.import_module(module.name)
    known, waiting = set(), [Procedure]
    while waiting:
        below = [kind for kind in waiting.pop().__subclasses__() if kind.__module__.startswith("jaxdd.")]
        known |= {kind for kind in below if not inspect.isabstract(kind)}
        waiting += below
    assert known == {type(real(name)[0]) for name in STATES}


def test_random_choices_and_views():
    sizes = {"inner_train_batch_size": 2, "hinv_batch_size": 2, "pool_train_batch_size": 2, "implicit_batch_size": 2}
    of = rcig.method(inner_solver="adam", aug="flip", aug_repeats=2, direct_batch_sizes=(2, 3), **sizes)
    assert not found(rcig.draws(of), "Draws")
    assert not found(VIEWS.at(examples(), jnp.uint32(7), jnp.int32(2)), "View")


def test_answers_from_disk():
    logits, classes = jnp.zeros((4, 2), jnp.float16), jnp.zeros((4, 2), jnp.int16)
    data = dataclasses.replace(examples(), answers=Answers(logits, classes))
    assert not found(data, "Examples")
    assert found(dataclasses.replace(data, answers=Answers(logits, classes[:, :1])), "Examples")


@pytest.mark.parametrize(
    "name, changes, field",
    [
        ("dc", {"buffer": lambda state: state.buffer[:2]}, "buffer"),
        ("dc", {"matched": lambda state: state.matched.astype(jnp.float32)}, "matched"),
        ("dc", {"network": lambda state: state.network._replace(momentum={"kernel": 1.0})}, "network.momentum"),
        ("ensemble", {"seeds": lambda state: state.seeds[:1]}, "networks"),
        (
            "recovery",
            {"losses": lambda state: state.losses._replace(loss=state.losses.loss[:1])},
            "losses.cross_entropy",
        ),
    ],
)
def test_a_state_that_is_not_is_seen(name, changes, field):
    state = real(name)[2]
    (fault, *_) = found(state._replace(**{key: change(state) for key, change in changes.items()}), "state")
    assert fault.startswith(f"state.{field}")

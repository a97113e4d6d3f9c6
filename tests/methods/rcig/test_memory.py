"""Bounded memory: what is computed in chunks is what is computed whole, and when and how a set is cut."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdd.core import backend
from jaxdd.methods.rcig import memory
from jaxdd.methods.rcig.method import RCIG
from tests.methods.rcig import tiny

SOLVERS = {
    "pcg": {"inner_solver": "pcg", "solver_steps": 6, "solver_tolerance": 0.0},
    "dense": {"inner_solver": "dense"},
    "adam": {"inner_solver": "adam", "n_inner_steps": 2, "n_hinv_steps": 2, "skip_tune": True},
}
CIFAR, MANY = (32, 32, 3), 100


def largest_difference(found, expected) -> float:
    """Over leaves, relative to the largest entry of each."""
    pairs = zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True)
    return max(float(np.max(np.abs(a - b)) / (np.max(np.abs(b)) or 1)) for a, b in pairs)


@pytest.mark.slow
@pytest.mark.parametrize("solver", SOLVERS)
def test_in_chunks_the_meta_gradient_is_the_same(solver, x64):
    whole = tiny.method(**SOLVERS[solver])
    cut = dataclasses.replace(whole, max_forward_batch_size=2)
    assert tiny.traced(cut) != tiny.traced(whole)
    for part in ("direct", "implicit", "total", "metrics"):
        assert largest_difference(getattr(tiny.found(cut), part), getattr(tiny.found(whole), part)) <= 1e-10


@pytest.mark.slow
def test_in_chunks_a_network_of_the_pool_trains_the_same(x64):
    def trained(of: RCIG):
        train = jax.jit(lambda member, synthetic, draws: of._train_member(tiny.network(of), member, synthetic, draws))
        return train(tiny.member_of(of), tiny.synthetic(), tiny.draws(of)._replace(pool_steps=jnp.asarray(2)))

    whole, cut = (trained(tiny.method(max_forward_batch_size=chunk)) for chunk in (None, 2))
    assert largest_difference(cut.params, whole.params) <= 1e-12
    assert largest_difference(cut.params, tiny.member_of(tiny.method()).params) > 1e-6


@pytest.mark.parametrize("solver", ["pcg", "dense"])
@pytest.mark.parametrize("chunk", [None, 2])
def test_solves_hold_no_bfloat16_and_no_coarse_product(solver, chunk, x64):
    """The solve and the response, whenever they are traced, are at full precision."""
    of = tiny.method(precision="bfloat16", max_forward_batch_size=chunk, **SOLVERS[solver])
    member, state, _, draws = tiny.arguments(of)

    def solve(member, state):
        solution = of._solve(tiny.network(of), member, state, draws)
        return solution.theta, solution.respond(member.params)[0]

    program = jax.make_jaxpr(solve)(member, state)
    products = [
        eqn for eqn in equations(program.jaxpr) if eqn.primitive.name in ("dot_general", "conv_general_dilated")
    ]
    assert len(products) > 10 and "bf16" not in str(program)
    assert all(str(eqn.params["precision"]).count("HIGHEST") == 2 for eqn in products)


def equations(jaxpr):
    """Every equation of a program, those of inner programs too."""
    for eqn in jaxpr.eqns:
        yield eqn
        for value in jax.tree.leaves(eqn.params, is_leaf=lambda leaf: hasattr(leaf, "eqns") or hasattr(leaf, "jaxpr")):
            inner = getattr(value, "jaxpr", value)
            if hasattr(inner, "eqns"):
                yield from equations(inner)


def step_of(of: RCIG, *, classes: int, shape: tuple[int, int, int]):
    """The shapes that its outer step takes."""
    from jaxdd.run.distillation import shapes
    from jaxdd.run.programs import template

    examples = shapes((max(classes * of.n_images, of.batch_size), *shape), classes)
    return template(of, examples), shapes((of.batch_size, *shape), classes)


@pytest.mark.quick
def test_nothing_is_quadratic_in_images_times_classes():
    of = RCIG(n_images=2, width=2, depth=1, batch_size=8, pool_model_count=1, use_flip=False, max_forward_batch_size=10)
    state, batch = step_of(of, classes=50, shape=(4, 4, 1))
    program = jax.make_jaxpr(of.step)(state, batch, jax.random.key(0))
    largest = max(int(np.prod(out.aval.shape)) for eqn in equations(program.jaxpr) for out in eqn.outvars)
    assert 100**2 <= largest < 3 * 100**2  # K is n by n, n = 100; (n k)^2 would be 25 million


class TestChunk:
    """The decision, by shapes and memory alone."""

    @staticmethod
    def chunk(classes=MANY, shape=CIFAR, **settings) -> int | None:
        of = RCIG(**{"n_images": 50, "width": 32, "batch_size": 256, "use_flip": False, **settings})
        stored = classes * of.n_images
        return memory.footprint(of, of.network(shape, classes), stored=stored, real=of.batch_size).chunk

    @pytest.mark.quick
    def test_small_sets_stay_whole_and_big_ones_are_cut_to_the_memory_there_is(self, monkeypatch):
        monkeypatch.setattr(backend, "memory_bytes", lambda: 16 * 10**9)
        assert self.chunk(classes=10, n_images=10) is None
        assert self.chunk() == 125  # equal chunks of 5000 images
        monkeypatch.setattr(backend, "memory_bytes", lambda: 10**12)
        assert self.chunk() is None

    @pytest.mark.quick
    def test_the_setting_decides_instead_of_the_device(self, monkeypatch):
        monkeypatch.setattr(backend, "memory_bytes", lambda: 10**12)
        assert self.chunk(memory_limit=4.0) == 125 and self.chunk(memory_limit=30.0) is None
        monkeypatch.setattr(backend, "memory_bytes", lambda: 10**9)
        assert self.chunk(memory_limit=4.0) == 125 and self.chunk(memory_limit=30.0) is None
        assert self.chunk(memory_limit=30.0, max_forward_batch_size=7) == 7

    @pytest.mark.quick
    def test_on_accelerators_a_chunk_is_as_large_as_memory_allows(self, monkeypatch):
        monkeypatch.setattr(backend, "on_cpu", lambda: False)
        memory._kept.cache_clear()
        found = [self.chunk(memory_limit=limit) for limit in (2.0, 4.0, 8.0, 40.0)]
        memory._kept.cache_clear()
        assert found[-1] is None and found[0] < found[1] < found[2]
        assert all(5000 % rows == 0 for rows in found[:-1])

    @pytest.mark.quick
    def test_a_step_that_fits_nowhere_is_cut_to_single_images(self):
        assert self.chunk(memory_limit=0.01) == 1

    @pytest.mark.quick
    def test_users_are_told_of_it(self):
        of = RCIG(n_images=50, width=32, use_flip=False, memory_limit=4.0)
        assert of.demand(CIFAR, MANY).note.startswith("chunks of 125 images")
        assert "--set max_forward_batch_size" not in of.demand(CIFAR, MANY).remedy  # it would not help any more
        assert not of.demand(CIFAR, 1).note


@pytest.mark.slow
@pytest.mark.parametrize("chunk", [None, 20])
def test_the_estimate_is_near_what_the_compiled_step_takes(chunk):
    of = RCIG(n_images=30, width=8, depth=1, batch_size=32, pool_model_count=1, max_forward_batch_size=chunk)
    state, batch = step_of(of, classes=10, shape=(16, 16, 3))
    compiled = jax.jit(of.step).lower(state, batch, jax.random.key(0)).compile()
    found = compiled.memory_analysis().temp_size_in_bytes
    expected = of.demand((16, 16, 3), 10).bytes
    assert 0.5 < found / expected < 1.25

"""The loop: what is run when, what is compiled how often, and what is reported."""

from __future__ import annotations

import math

import jax
import numpy as np
import pytest

from jaxdd.core.errors import DivergedError, UsageError
from jaxdd.core.random import key_for
from jaxdd.data.device.sampling import sample
from jaxdd.run import control, loop
from tests.run.toy import TRACES, Notes, Toy, bits, examples


def by_hand(toy: Toy, steps: int, seed: int):
    """The same run written as plain Python."""
    data = examples()
    state = jax.jit(toy.init)(key_for(seed, "init"), data)
    event = toy.events(data)[0]
    step = jax.jit(
        lambda s, i: toy.step(s, sample(data, toy.batch_rule, key_for(seed, "batch", i)), key_for(seed, "step", i))
    )
    apply = jax.jit(lambda s, i: event.apply(s, data, key_for(seed, "event/shake", i)))
    for i in range(steps):
        if i % event.period == 0:
            state = apply(state, i)
        state, _ = step(state, i)
    return state


@pytest.mark.quick
@pytest.mark.parametrize("per_dispatch", [1, 4, 100])
def test_equals_the_run_written_by_hand(per_dispatch):
    state, step = loop.final_state(Toy(), examples(), steps=13, seed=3, steps_per_dispatch=per_dispatch)
    assert step == 13
    for found, wanted in zip(jax.tree.leaves(state), jax.tree.leaves(by_hand(Toy(), 13, 3)), strict=True):
        np.testing.assert_allclose(np.asarray(found, np.float32), np.asarray(wanted, np.float32), rtol=1e-5, atol=1e-6)


@pytest.mark.fast("4")
@pytest.mark.parametrize("per_dispatch", [1, 4])
def test_compiles_each_program_once(per_dispatch):
    toy, notes = Toy(rate=0.0123), Notes()
    TRACES.clear()
    for seed in (0, 2**32 - 1):
        loop.run(toy, examples(), steps=23, seed=seed, log_every=7, steps_per_dispatch=per_dispatch, reporter=notes)
    assert [name for (name,) in notes.of("compiling")] == ["init", "shake", "step"]
    assert all(seconds > 0 for _, seconds in notes.of("compiled"))
    assert TRACES.count("init") == 1 and TRACES.count("event") == 1
    assert TRACES.count("step") <= 3  # fori_loop traces its body to learn its type; it is still one program


def test_a_second_run_compiles_nothing_at_all():
    compiled = []
    options = {"steps": 12, "log_every": 5, "observe_at": (3,), "observers": [lambda *_: None]}
    loop.run(Toy(rate=0.02), examples(), seed=0, **options)
    listener = lambda name, *_, **__: compiled.append(name) if "backend_compile" in name else None  # noqa: E731
    jax.monitoring.register_event_duration_secs_listener(listener)
    loop.run(Toy(rate=0.02), examples(), seed=1, **options)
    assert compiled == []


@pytest.mark.parametrize("per_dispatch", [1, 4])
def test_metrics_are_reported_at_logged_steps_and_at_the_end(per_dispatch):
    notes = Notes()
    loop.run(Toy(), examples(), steps=17, seed=0, log_every=5, steps_per_dispatch=per_dispatch, reporter=notes)
    logged = [(step, metrics["visits"]) for step, _, metrics, *_ in notes.of("progress") if metrics]
    assert logged == [(step, step - 1) for step in (5, 10, 15, 17)]
    assert len(notes.of("estimate")) == 1 and notes.of("estimate")[0][0] > 0
    assert notes.of("progress")[-1][4] == 0.0
    assert notes.of("finished") == [[17]]


@pytest.mark.parametrize("per_dispatch", [1, 4])
def test_observers_see_the_result_when_they_asked_for_it(per_dispatch):
    seen = []
    result = loop.run(
        Toy(),
        examples(),
        steps=9,
        seed=0,
        observers=[lambda step, result, metrics: seen.append((step, result.copy(), metrics.get("visits")))],
        observe_at=(0, 3, 7, 50),
        steps_per_dispatch=per_dispatch,
    )
    assert [(step, visits) for step, _, visits in seen] == [(0, None), (3, 2), (7, 6), (9, 8)]
    assert np.array_equal(seen[-1][1], result)
    assert np.array_equal(seen[1][1], loop.run(Toy(), examples(), steps=3, seed=0, steps_per_dispatch=per_dispatch))


def test_events_come_before_their_steps():
    order = []

    class Recording(Toy):
        def events(self, data):
            return tuple(
                type(event)(name, period, lambda s, d, k, n=name: (jax.debug.callback(order.append, n), s)[1])
                for event in super().events(data)
                for name, period in (("every 2", 2), ("every 3", 3))
            )

        def step(self, state, batch, key):
            jax.debug.callback(lambda i: order.append(int(i)), state.visits)
            return super().step(state, batch, key)

    loop.run(Recording(), examples(), steps=5, seed=0)
    jax.effects_barrier()
    assert order == ["every 2", "every 3", 0, 1, "every 2", 2, "every 3", 3, "every 2", 4]


def test_a_metric_that_is_not_finite_stops_the_run():
    with pytest.raises(DivergedError) as caught:
        loop.run(Toy(poison=12), examples(), steps=40, seed=0, log_every=1)
    assert "'loss' is nan" in str(caught.value) and "steps 13 to 13" in caught.value.where
    with pytest.raises(DivergedError, match="loss"):
        loop.run(Toy(poison=39), examples(), steps=40, seed=0, log_every=7)


def test_a_state_that_is_not_finite_is_never_observed():
    seen = []
    with pytest.raises(DivergedError, match="'weights/idle' in the state is not finite"):
        loop.run(
            Toy(poison=4, poison_state=True),
            examples(),
            steps=5,
            seed=0,
            observers=[lambda step, *_: seen.append(step)],
            observe_at=(3,),
        )
    assert seen == [3]


@pytest.mark.parametrize("options", [{"steps": -1}, {"seed": 2**32}, {"seed": -1}, {"log_every": 0}])
def test_out_of_range(options):
    with pytest.raises(UsageError, match="out of range"):
        loop.run(Toy(), examples(), **{"steps": 1, "seed": 0, **options})


def test_no_steps_gives_the_initial_result():
    notes = Notes()
    assert loop.run(Toy(), examples(), steps=0, seed=0, reporter=notes).shape == (16, 3)
    assert [name for (name,) in notes.of("compiling")] in ([], ["init"])


def test_a_step_that_changes_the_state_is_named():
    class Growing(Toy):
        def step(self, state, batch, key):
            state, metrics = super().step(state, batch, key)
            return state._replace(visits=state.visits.astype(np.float32)), metrics

    with pytest.raises(TypeError, match=r"Growing.step changes .*'visits': expected int32\[\], found float32\[\]"):
        loop.run(Growing(), examples(), steps=1, seed=0)


def test_same_bits_twice():
    first, second = (loop.final_state(Toy(), examples(), steps=30, seed=5)[0] for _ in range(2))
    assert bits(first) == bits(second)
    assert all(map(math.isfinite, np.asarray(first.weights["map"]).ravel()))


def test_the_state_is_donated():
    data, numbers = jax.device_put(examples()), (np.uint32(0), np.int32(0), np.int32(1))
    programs, reporter = loop.programs_for(Toy(), data, 1), Notes()
    programs.init.ready(reporter, data, numbers[0])
    state = programs.init(data, numbers[0])
    programs.advance.ready(reporter, state, data, *numbers)
    programs.advance(state, data, *numbers)
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(state.weights))


@pytest.mark.slow
def test_float64_has_its_own_programs(x64):
    notes = Notes()
    state, _ = loop.final_state(Toy(), examples(), steps=2, seed=0, reporter=notes)
    assert state.weights["map"].dtype == np.float64 and len(notes.of("compiling")) in (0, 3)


def test_settings_that_cannot_be_hashed():
    loop.run(Toy(rate=np.asarray(0.01)), examples(), steps=2, seed=0)


def test_pace_leaves_out_what_is_no_step(monkeypatch):
    clock = iter([0.0, 1.0, 2.0, 102.0, 104.0])
    monkeypatch.setattr(control.time, "perf_counter", lambda: next(clock))
    pace = control.Pace()
    assert not pace.mark(1)
    with pace.paused():
        pass
    assert pace.mark(4) and pace.seconds_per_step == 1.0

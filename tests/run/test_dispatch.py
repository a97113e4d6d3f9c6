"""What a dispatch may not do: move data unasked, or compile again."""

from __future__ import annotations

import jax
import pytest

from jaxdd.core.types import Examples
from jaxdd.run import loop
from jaxdd.run.control import Reporter
from jaxdd.run.devices import Layout
from tests.run.toy import Toy, examples


@pytest.mark.fast("4")
@pytest.mark.quick
@pytest.mark.parametrize("per_dispatch", [1, 4])
def test_nothing_is_compiled_after_step_two(per_dispatch):
    """Events, logged steps and dispatches cut short by either included."""
    finished, compiled = [0], []

    class Progress(Reporter):
        def progress(self, step, *_):
            finished[0] = step

    def listen(event, duration_secs, **_):
        if "backend_compile" in event:
            compiled.append(finished[0])

    jax.monitoring.register_event_duration_secs_listener(listen)
    options = {"log_every": 2, "steps_per_dispatch": per_dispatch, "reporter": Progress()}
    loop.final_state(Toy(rate=0.0321, period=7), examples(), steps=23, seed=0, **options)
    compiled, seen = [], compiled
    assert seen and max(seen) <= 2 and finished == [23]


@pytest.mark.quick
def test_a_hidden_transfer_is_an_error(monkeypatch):
    put = Layout.put
    forgotten = lambda self, tree: put(self, tree) if isinstance(tree, Examples) else tree  # noqa: E731
    monkeypatch.setattr(Layout, "put", forgotten)
    with pytest.raises(Exception, match="Disallowed host-to-device transfer"):
        loop.final_state(Toy(), examples(), steps=2, seed=0)

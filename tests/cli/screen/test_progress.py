"""What is shown while a run goes on: one live line on a terminal, few lines on a pipe, everything in the log."""

from __future__ import annotations

import io
import math

import pytest

from jaxdd.cli.screen import screen as screens
from jaxdd.cli.screen.progress import Line, Trainings, label, percent, table
from jaxdd.cli.screen.screen import Screen
from jaxdd.core.io import duration, shorter_path
from jaxdd.evaluation.protocol import Row

pytestmark = pytest.mark.quick

ROWS = [Row("distilled", False, (0.5, 0.7)), Row("distilled", True, (0.25, 0.25))]


@pytest.fixture
def pipe():
    return io.StringIO()


@pytest.fixture
def clock(monkeypatch):
    """A clock that the test moves."""
    now = [0.0]
    monkeypatch.setattr(screens.time, "monotonic", lambda: now[0])
    return now


@pytest.mark.parametrize(
    "seconds, text",
    [
        (0.04, "0.0 s"),
        (9.94, "9.9 s"),
        (12.4, "12 s"),
        (59.7, "1 min 0 s"),
        (250, "4 min 10 s"),
        (3700, "1 h 2 min"),
        (200000, "2 d 8 h"),
        (math.nan, "?"),
    ],
)
def test_durations_read_well(seconds, text):
    assert duration(seconds) == text


def test_paths_below_here_are_short(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert shorter_path(tmp_path / "a" / "b") == "a/b"
    assert shorter_path(tmp_path.parent) == str(tmp_path.parent)


def test_a_pipe_hears_less_and_less_often(pipe, clock):
    line = Line(Screen(pipe))
    for step in range(1, 1001):
        clock[0] += 0.1
        line.progress(step, 1000, {"loss": 1 / step, "accuracy": 0.5, "other": 3.0}, 0.1, 0.1 * (1000 - step))
    lines = pipe.getvalue().splitlines()
    assert lines[0] == "step 1/1000  loss 1  accuracy 50.0 %  0.1 s/step  1 min 40 s left"
    assert lines[-1].startswith("step 1000/1000") and lines[-1].endswith("0.0 s left")
    assert 5 < len(lines) < 15


def test_metrics_stay_until_the_next_ones(pipe):
    line = Line(Screen(pipe))
    line.progress(1, 2, {"loss": 0.25}, math.nan, math.nan)
    line.progress(2, 2, {}, 0.5, 0.0)
    assert pipe.getvalue().splitlines() == [
        "step 1/2  loss 0.25  ? s/step  ? left",
        "step 2/2  loss 0.25  0.5 s/step  0.0 s left",
    ]


def test_compilation_is_announced_and_summed(pipe):
    line = Line(Screen(pipe))
    for name, seconds in (("init", 0.1), ("step", 4.0)):
        line.compiling(name)
        line.compiled(name, seconds)
    assert pipe.getvalue().splitlines() == ["compiling 'init' ...", "compiling 'step' ...", "compiled 'step' in 4.0 s"]
    assert line.compiling_seconds == pytest.approx(4.1)


def test_more_than_an_hour_names_the_remedies(pipe):
    Line(Screen(pipe)).estimate(0.5, 3000)
    assert "hour" not in pipe.getvalue()
    Line(Screen(pipe)).estimate(0.5, 4000)
    assert all(word in pipe.getvalue() for word in ("hour", "--max_steps", "--width", "GPU"))


def test_a_finished_run_is_not_continued(pipe):
    line = Line(Screen(pipe), steps=5)
    line.resumed(5)
    assert not pipe.getvalue() and line.begun_at == 5
    line.resumed(4)
    assert "continuing after step 4" in pipe.getvalue()


def test_the_log_has_what_was_said_before_it_was_opened(pipe, tmp_path):
    screen = Screen(pipe)
    screen.fact("data", "digits")
    screen.log_to(tmp_path / "new" / "log.txt")
    screen.note("something")
    screen.show(table(ROWS))
    screen.close()
    text = (tmp_path / "new" / "log.txt").read_text()
    assert text.startswith("--- ") and "data      digits\nnote      something\n" in text and "60.0 +- 10.0 %" in text
    assert "\x1b" not in text


def test_a_terminal_has_one_live_line(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    stream = io.StringIO()
    screen = Screen(stream)
    assert screen.console.is_terminal
    stop: list[int] = []
    line = Line(screen, lambda: stop[0] if stop else None)
    with line.shown():
        line.doing("reading the data")
        line.progress(3, 4, {"loss": 0.5}, 1.0, 1.0)
        assert "step 3/4  loss 0.5" in line._now()
        stop.append(2)
        assert "stopping" in line._now()
    assert "starting" in stream.getvalue() and "\n\n" not in stream.getvalue()


def test_rows_and_their_table(pipe):
    assert [label(row) for row in ROWS] == ["distilled", "distilled + augmentation"]
    assert percent(ROWS[0]) == "60.0 +- 10.0 %"
    Screen(pipe).show(table(ROWS))
    assert "50.0  70.0" in pipe.getvalue()


def test_a_table_tells_architectures_and_best_tests_apart_where_there_are_several(pipe):
    rows = [Row("distilled", True, (0.5,), (0.625,), name) for name in ("conv", "mlp")]
    Screen(pipe).show(table(rows[:1]))
    assert "62.5 +- 0.0 %" in pipe.getvalue() and "conv" not in pipe.getvalue()
    assert "augmentation" not in pipe.getvalue()  # as all rows are
    Screen(pipe).show(table(rows))
    assert "conv" in pipe.getvalue() and "mlp" in pipe.getvalue()


def test_trainings_are_one_piece_of_work(pipe, clock):
    line = Trainings(Screen(pipe), lambda: None, [10, 10, 30])
    line.begins("network", 0, 1)
    line.estimate(0.1, 1.0)
    assert "about 5.0 s in all" in pipe.getvalue()
    line.progress(10, 10, {}, 0.1, 0.0)
    assert line._text.endswith("4.0 s left")
    clock[0] += 1.0
    line.begins("network", 1, 2)
    line.progress(5, 10, {}, 0.1, 0.5)
    assert "network 2 of 3, step 5/10" in line._text and line._text.endswith("3.5 s left")
    line.ends(ROWS[0], {})
    assert "distilled: 60.0 +- 10.0 %" in pipe.getvalue() and line.above() is not None

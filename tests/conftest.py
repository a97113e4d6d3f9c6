"""What holds for every test: strict numerics, warnings as errors, an end to hanging, a compilation cache that is kept.

A test that starts a process is marked `slow`; only the one marked `smoke` may do so in `make test`, and any other that
tries is refused. After a longer run the dearest tests are listed by processor time.

Fixtures: `x64` gives one test float64; `real_data` gives the path of a real data set, or skips the test.
"""

from __future__ import annotations

import collections
import gc
import os
import pathlib
import sys
import tempfile

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))  # the checkout is tested, also where jaxdd is not installed

# A program is not cut into parts for threads that the other test process needs. Compiled as users compile: with its
# optimisations left out, XLA:CPU computes some gradients wrongly.
FLAGS = "--xla_cpu_parallel_codegen_split_count=1"
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {FLAGS}".strip()

# Programs that took longer to compile are kept, also by the commands that tests start.
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.1"

os.environ["LOKY_MAX_CPU_COUNT"] = "1"  # else scikit-learn starts a process to count cores

import jax  # noqa: E402  (after the path: nothing below may find another jaxdd)

from jaxdd.core import backend  # noqa: E402
from tests.limits import TIMEOUT  # noqa: E402

LISTED = 30  # tests in the list of the dearest
PROCESSES = {"subprocess.Popen", "os.fork", "os.forkpty", "os.posix_spawn", "os.system"}  # what Python's audits say
STARTERS = ("slow", "nightly", "smoke")  # marks of the tests that may start one
MOST_MAPS = 20_000  # memory maps of a test process, a third of what Linux allows

# Third-party warnings that no code here can mend. Each line says whose it is; everything else is an error.
UNAVOIDABLE = (
    "ignore:.*os.fork\\(\\) was called:RuntimeWarning",  # jax, when a test starts a command by subprocess
    "ignore:.*use of fork\\(\\) may lead to deadlocks:DeprecationWarning",  # Python 3.12, same cause
    "ignore::DeprecationWarning:neural_tangents",  # last released for an older jax
    "ignore:coroutine 'async_serialize_from_host:RuntimeWarning",  # jax, of a checkpoint whose writing was broken off
    "ignore:(builtin )?type .*[Ss]wig.* has no __module__ attribute:DeprecationWarning",  # swig wheels on Python 3.12
)


def pytest_configure(config: pytest.Config) -> None:
    """Makes numerics and warnings strict and turns the compilation cache on, in every xdist worker too."""
    for line in ("error", *UNAVOIDABLE):
        config.addinivalue_line("filterwarnings", line)
    jax.config.update("jax_numpy_rank_promotion", "raise")
    try:
        backend.use_compilation_cache(os.environ.get("JAXDD_TEST_CACHE"))
    except OSError:  # a home folder that cannot be written to
        backend.use_compilation_cache(pathlib.Path(tempfile.gettempdir()) / f"jaxdd-test-cache-{os.getuid()}")
    gc.set_threshold(50_000, 20, 50)  # tracing makes many objects and few circles


@pytest.hookimpl(tryfirst=True)  # before tests are chosen by their marks
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Marks slow cases; ends every test that hangs, by name; leaves gpu tests to accelerators."""
    accelerator = any("gpu" in item.keywords for item in items) and jax.default_backend() != "cpu"
    unseen = set()
    for item in items:
        if (stays := item.get_closest_marker("fast")) is not None:
            case = item.name.partition("[")[2].removesuffix("]")
            test = item.nodeid.partition("[")[0]
            unseen |= {(test, name) for name in stays.args}
            if case not in stays.args:
                item.add_marker("slow")
        if config.pluginmanager.hasplugin("timeout"):
            item.add_marker(pytest.mark.timeout(TIMEOUT))
        if item.get_closest_marker("gpu") and not accelerator:
            item.add_marker(pytest.mark.skip(reason="needs an accelerator"))
    unseen -= {(item.nodeid.partition("[")[0], item.name.partition("[")[2].removesuffix("]")) for item in items}
    if unseen and not any("::" in word for word in config.args):
        raise pytest.UsageError(f"'fast' names cases that no longer exist: {sorted(unseen)}")


refused: list[str] = []  # the running test, if it may not start a process


def _audit(event: str, arguments: tuple) -> None:
    if refused and event in PROCESSES:
        raise RuntimeError(f"{refused[0]} starts a process ({event}): mark it 'slow', which `make test-slow` runs")


sys.addaudithook(_audit)

SPENT = pytest.StashKey[float]()


def spent() -> float:
    """Seconds of processor time so far, of this process and of its children that have ended."""
    now = os.times()
    return now.user + now.system + now.children_user + now.children_system


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item):
    """Notes what is spent before a test; keeps it from starting a process, if it may not."""
    item.stash[SPENT] = spent()
    if not any(item.get_closest_marker(name) for name in STARTERS):
        refused.append(item.nodeid)
    try:
        return (yield)
    finally:
        refused.clear()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item):
    """Writes into a report what its phase of the test has spent: so it comes to the process that sums up."""
    report = yield
    before, item.stash[SPENT] = item.stash[SPENT], spent()
    report.user_properties.append(("processor time", item.stash[SPENT] - before))
    return report


def pytest_terminal_summary(terminalreporter) -> None:
    """Lists the dearest tests; a fixture counts for the test that was the first to need it."""
    costs: collections.Counter[str] = collections.Counter()
    for reports in terminalreporter.stats.values():
        for report in reports:
            for name, value in getattr(report, "user_properties", ()):
                if name == "processor time":
                    costs[report.nodeid] += value
    if len(costs) > LISTED:
        terminalreporter.section(f"{LISTED} dearest tests by processor time, of {sum(costs.values()):.0f} s in all")
        for test, cost in costs.most_common(LISTED):
            terminalreporter.line(f"{cost:7.1f} s  {test}")


@pytest.fixture(scope="module", autouse=True)
def few_programs():
    """Frees compiled programs before there are too many: each maps memory, and Linux allows a process 65 530 maps.

    Beyond that XLA ends with a segmentation fault; a thousand tests come close.
    """
    yield
    maps = pathlib.Path("/proc/self/maps")
    if maps.exists() and maps.read_bytes().count(b"\n") > MOST_MAPS:
        jax.clear_caches()
        gc.collect()


@pytest.fixture
def x64():
    """Enables float64 within one test; arrays made before or after it stay float32."""
    if hasattr(jax, "enable_x64"):
        context = jax.enable_x64(True)
    else:  # jax 0.7
        from jax.experimental import enable_x64

        context = enable_x64(True)
    with context:
        yield


def data_folder() -> pathlib.Path | None:
    """Where real data lies: the folder that `JAXDD_TEST_DATA` names, if there is one."""
    given = os.environ.get("JAXDD_TEST_DATA")
    folder = pathlib.Path(given).expanduser() if given else None
    return folder if folder and folder.is_dir() else None


@pytest.fixture(scope="session")
def real_data():
    """A function from a relative path, e.g. `"mnist/mnist.npz"`, to that file or folder; skips where it is absent."""

    def find(relative: str) -> pathlib.Path:
        folder = data_folder()
        if folder is None or not (folder / relative).exists():
            pytest.skip(f"real data '{relative}' is absent: put it into a folder and name that in JAXDD_TEST_DATA")
        return folder / relative

    return find

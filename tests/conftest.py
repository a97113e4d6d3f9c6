"""What holds for every test: strict numerics, warnings as errors, a time limit, and a compilation cache that is kept.

Fixtures: `x64` gives one test float64; `real_data` gives the path of a real data set, or skips the test.
"""

from __future__ import annotations

import gc
import os
import pathlib
import sys
import tempfile

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))  # the checkout is tested, also where jaxdd is not installed

# Compiling takes most of the suite: LLVM's own optimisations, which change no result but rounding, are left out, and
# a program is not cut into parts for threads that the other test process needs.
FLAGS = "--xla_backend_optimization_level=0 --xla_cpu_parallel_codegen_split_count=1"
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {FLAGS}".strip()

# Programs that took longer to compile are kept, also by the commands that tests start.
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.1"

import jax  # noqa: E402  (after the path: nothing below may find another jaxdd)

from jaxdd.core import backend  # noqa: E402

SECONDS = {"quick": 120, "slow": 300, "nightly": 3600}  # a hung test fails by name instead of holding up the suite

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


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Gives every test a time limit; leaves nightly tests to `-m nightly` and gpu tests to accelerators."""
    asked = config.getoption("markexpr", default="") or ""
    accelerator = any("gpu" in item.keywords for item in items) and jax.default_backend() != "cpu"
    for item in items:
        if config.pluginmanager.hasplugin("timeout") and item.get_closest_marker("timeout") is None:
            limits = [seconds for name, seconds in SECONDS.items() if item.get_closest_marker(name)]
            item.add_marker(pytest.mark.timeout(max(limits, default=SECONDS["quick"])))
        if item.get_closest_marker("nightly") and "nightly" not in asked:
            item.add_marker(pytest.mark.skip(reason="takes minutes: run it with -m nightly"))
        if item.get_closest_marker("gpu") and not accelerator:
            item.add_marker(pytest.mark.skip(reason="needs an accelerator"))


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

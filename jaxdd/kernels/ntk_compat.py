"""Imports neural-tangents 0.6.5, which was last released for an older JAX, without TensorFlow.

While it is imported, the names that have since left `jax.core`, `jax.util` and `jax.interpreters.ad` are put back, and
its `experimental` package, the only one that imports TensorFlow, is replaced by an empty module. Afterwards JAX is as
it was. Analytic kernels (`stax`), `linearize` and the empirical kernels of implementations 1 and 2 work;
implementation 3 reads JAX's old program format and does not.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import sys
import types
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.core
import jax.extend
from jax.interpreters import ad

from jaxdd.core.errors import UsageError

VERSION = "0.6.5"
INSTALL = "pip install 'jaxdd[ntk]', then pip install --no-deps neural-tangents==0.6.5"
_NAME, _EXPERIMENTAL = "neural_tangents", "neural_tangents.experimental"
_CORE = ("ClosedJaxpr", "Jaxpr", "JaxprEqn", "Literal", "Primitive", "Var", "jaxpr_as_fun")
_ABSENT = object()


def import_neural_tangents() -> types.ModuleType:
    """Returns the package `neural_tangents`.

    Raises:
        UsageError: it or `frozendict` is not installed, it is another version, or it does not fit this JAX.
    """
    if _NAME in sys.modules:
        return sys.modules[_NAME]
    require_neural_tangents()
    try:
        with _restored_names(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # its own deprecations, which nobody will mend
            return importlib.import_module(_NAME)
    except (ImportError, AttributeError) as error:
        for name in [name for name in sys.modules if name.split(".")[0] == _NAME]:
            del sys.modules[name]  # a half-imported package would pass for a whole one
        raise UsageError(
            f"neural-tangents {VERSION} cannot be imported on jax {jax.__version__}: {error}",
            where="extra 'ntk'",
            expected="frozendict, and a JAX between 0.7.2 and the newest that jaxdd was tested on",
            remedy=INSTALL,
        ) from None


def require_neural_tangents() -> None:
    """Refuses a missing neural-tangents without importing anything, so before data are read or a device is started.

    Raises:
        UsageError: it is not installed, or it is another version.
    """
    try:
        version = importlib.metadata.version("neural-tangents")
    except importlib.metadata.PackageNotFoundError:
        version = None
    if version != VERSION:
        raise UsageError(
            f"neural-tangents {version} is installed" if version else "neural-tangents is not installed",
            where="extra 'ntk'",
            expected=f"neural-tangents {VERSION}, the version that jaxdd knows how to import on this JAX",
            remedy=INSTALL,
        )


@contextlib.contextmanager
def _restored_names() -> Iterator[None]:
    """Puts the missing names back into JAX, and a stub for the `experimental` package; then takes them out again."""
    put_back: list[tuple[Any, str]] = []
    stubs = [_EXPERIMENTAL]

    def put(owner: Any, name: str, value: Any) -> None:
        if not _has(owner, name):
            setattr(owner, name, value)
            put_back.append((owner, name))

    try:
        sys.modules[_EXPERIMENTAL] = types.ModuleType(_EXPERIMENTAL)
        for name in _CORE:
            put(jax.core, name, getattr(jax.extend.core, name))
        try:
            old = importlib.import_module("jax.util")
        except ImportError:
            stubs.append("jax.util")
            old = sys.modules["jax.util"] = types.ModuleType("jax.util")
        put(old, "safe_map", _safe_map)
        put(old, "safe_zip", _safe_zip)
        put(ad, "zeros_like_p", jax.extend.core.Primitive("zeros_like"))  # a key of a table, never evaluated
        yield
    finally:
        for owner, name in put_back:
            delattr(owner, name)
        for name in stubs:
            sys.modules.pop(name, None)


def _has(owner: Any, name: str) -> bool:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # asking for a deprecated name warns
        return getattr(owner, name, _ABSENT) is not _ABSENT


def _safe_zip(*sequences: Any) -> list[tuple]:
    return list(zip(*sequences, strict=True))


def _safe_map(fn: Callable, *sequences: Any) -> list:
    return [fn(*row) for row in _safe_zip(*sequences)]

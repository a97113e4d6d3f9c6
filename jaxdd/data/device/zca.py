r"""ZCA whitening as RCIG and FRePo do it (yolky/RCIG `ops.py`), on the host, in float64 where it matters.

    mu = mean over train images x (already standardised), Xc = x - mu         per pixel and channel
    Sigma = Xc' Xc / n,    rho = 0.1 trace(Sigma) / d,    Sigma + rho I = U diag(s) U'
    whiten:  (x - mu) U diag(s^-1/2) U'          colour (its inverse):  z U diag(s^1/2) U' + mu

Rank control: with fewer train images than dimensions, the directions beyond their number are left as they are
(both roots 1). Above 64 pixels a side the image is cut into blocks of 64 x 64 as a checkerboard: block (a, b) holds
the pixels [a::k, b::k]; the blocks' covariances are averaged and one transform serves all of them.

KIP's form (google-research `kip/nn_training.ipynb`), marked by `contrast`: each image is first centred and scaled to
norm 1 over all its numbers, and mu is 0. No inverse knows the brightness and contrast that an image had; `colour` gives
back the mean ones of the train images: brightness 0 and norm `contrast`.

The eigenvectors are cached by content: 3072 dimensions take seconds, 12288 about ten minutes.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import io
import os
import pathlib
import warnings
from collections.abc import Callable

import numpy as np

from jaxdd.core.errors import CheckpointError, DataError
from jaxdd.core.io import of_user, write_atomically
from jaxdd.data.readers import npz

REGULARISATION = 0.1  # share of the mean eigenvalue that is added to all of them
BLOCK = 64  # largest side that is whitened in one piece
_CHUNK = 2000  # images per matrix product
_FORMAT = "zca-1"  # part of the cache key: change it when the numbers change


@dataclasses.dataclass(frozen=True, eq=False)
class Zca:
    """A fitted whitening.

    Arguments:
        mean: `[side, side, channels]` float32, the train mean of standardised images.
        vectors: `[d, d]` float32, eigenvectors in columns, largest eigenvalue first.
        values: `[d]` float64 eigenvalues of the regularised covariance, after rank control.
        regularisation: rho, in units of the standardised pixels' variance.
        contrast: None, or the mean norm of centred train images, and images are scaled to norm 1 before whitening.
    """

    mean: np.ndarray
    vectors: np.ndarray
    values: np.ndarray
    regularisation: float
    contrast: float | None = None

    @functools.cached_property
    def whitening(self) -> np.ndarray:
        """`[d, d]` float32, symmetric to the last bit."""
        scaled = self.vectors * (self.values**-0.25).astype(np.float32)
        return scaled @ scaled.T

    def whiten(self, images: np.ndarray) -> np.ndarray:
        """Whitens standardised images `[n, side, side, channels]` float32."""
        out = np.empty(images.shape, np.float32)
        for start in range(0, len(images), _CHUNK):
            part = images[start : start + _CHUNK]
            blocks = to_blocks(part - self.mean if self.contrast is None else unit(part))
            out[start : start + _CHUNK] = from_blocks(blocks @ self.whitening, self.mean.shape)
        return out

    def colour(self, images: np.ndarray) -> np.ndarray:
        """Returns the inverse of `whiten`; with `contrast`, of an image of mean brightness and contrast."""
        roots = np.sqrt(self.values).astype(np.float32)
        blocks = (to_blocks(images.astype(np.float32)) @ self.vectors * roots) @ self.vectors.T
        coloured = from_blocks(blocks, self.mean.shape)
        return coloured + self.mean if self.contrast is None else coloured * np.float32(self.contrast)


def unit(images: np.ndarray) -> np.ndarray:
    """Returns `[n, side, side, channels]` float32 images, each centred and scaled to norm 1; one of equal numbers
    becomes 0."""
    norm = contrasts(images)
    mean = images.mean(axis=(1, 2, 3), dtype=np.float64, keepdims=True).astype(np.float32)
    return (images - mean) / np.where(norm > 0, norm, 1).astype(np.float32)[:, None, None, None]


def contrasts(images: np.ndarray) -> np.ndarray:
    """Returns `[n]` float64 norms of the centred images."""
    return images.std(axis=(1, 2, 3), dtype=np.float64) * np.prod(images.shape[1:]) ** 0.5


def stride(side: int) -> int:
    """Returns checkerboard stride of an image: 1 up to 64 pixels, 2 at 128.

    Raises:
        DataError: a side above 64 that is no multiple of 64.
    """
    if side > BLOCK and side % BLOCK:
        raise DataError(
            f"ZCA at {side} pixels",
            where="preprocessing",
            expected=f"at most {BLOCK} pixels a side, or a multiple of it",
            remedy="load the data set at another resolution, or use the standardised preprocessing",
        )
    return max(1, side // BLOCK)


def to_blocks(images: np.ndarray) -> np.ndarray:
    """Returns `[n, side, side, channels]` -> `[n * stride^2, d]`, checkerboard blocks in row-major order."""
    count, side, _, channels = images.shape
    step = stride(side)
    cut = images.reshape(count, side // step, step, side // step, step, channels)
    return cut.transpose(0, 2, 4, 1, 3, 5).reshape(count * step * step, -1)


def from_blocks(blocks: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Returns the inverse of `to_blocks` for images of `shape` `(side, side, channels)`."""
    side, _, channels = shape
    step = stride(side)
    cut = blocks.reshape(-1, step, step, side // step, side // step, channels)
    return cut.transpose(0, 3, 1, 4, 2, 5).reshape(-1, side, side, channels)


def fit_zca(
    standardised: Callable[[int, int], np.ndarray],
    count: int,
    shape: tuple[int, int, int],
    *,
    layernorm: bool = False,
) -> Zca:
    """Fits the whitening.

    Arguments:
        standardised: `(start, stop) -> [stop - start, side, side, channels]` float32 standardised train images.
        count: number of train images.
        shape: `(side, side, channels)`.
        layernorm: KIP's form, with `contrast`.
    """
    chunks = [(start, min(start + _CHUNK, count)) for start in range(0, count, _CHUNK)]
    total, contrast = np.zeros(shape, np.float64), 0.0
    for chunk in chunks:
        images = standardised(*chunk)
        total += 0.0 if layernorm else images.sum(axis=0, dtype=np.float64)
        contrast += contrasts(images).sum() if layernorm else 0.0
    mean = (total / count).astype(np.float32)
    blocks = stride(shape[0]) ** 2
    dimensions = int(np.prod(shape)) // blocks
    covariance = np.zeros((dimensions, dimensions), np.float64)
    for chunk in chunks:
        images = standardised(*chunk)
        part = to_blocks(unit(images) if layernorm else images - mean)
        covariance += part.T @ part
    covariance /= count * blocks
    fitted = from_covariance(mean, covariance, count)
    return dataclasses.replace(fitted, contrast=contrast / count) if layernorm else fitted


def from_covariance(mean: np.ndarray, covariance: np.ndarray, count: int) -> Zca:
    """Returns the whitening of a `[d, d]` float64 covariance of `count` images; overwrites the covariance."""
    import scipy.linalg

    dimensions = len(covariance)
    regularisation = REGULARISATION * float(np.trace(covariance)) / dimensions
    covariance[np.diag_indices(dimensions)] += regularisation
    values, vectors = scipy.linalg.eigh(covariance, overwrite_a=True, check_finite=False, driver="evd")
    values, vectors = values[::-1].copy(), np.ascontiguousarray(vectors[:, ::-1], np.float32)
    if count < dimensions:
        values[count:] = 1.0
    return Zca(mean, vectors, values, regularisation)


def cache_root() -> pathlib.Path:
    """Returns `$XDG_CACHE_HOME/jaxdd/zca`, or `~/.cache/jaxdd/zca`."""
    return of_user("XDG_CACHE_HOME", "~/.cache") / "jaxdd" / "zca"


def cached(key: str, folder: str | os.PathLike | None, fit: Callable[[], Zca], shape: tuple[int, int, int]) -> Zca:
    """Returns the cached whitening under `key`, or a new one, which is then cached; a damaged file is replaced.

    Arguments:
        key: digest of everything the whitening depends on.
        folder: cache folder; `None`: `cache_root()`. One that cannot be written only costs a warning.
        fit: makes the whitening.
        shape: `(side, side, channels)` it must have.
    """
    name = hashlib.sha256(f"{_FORMAT} {key}".encode()).hexdigest()
    path = pathlib.Path(folder if folder is not None else cache_root()) / f"{name}.npz"
    if loaded := _load(path, shape):
        return loaded
    zca = fit()
    arrays = {"mean": zca.mean, "vectors": zca.vectors, "values": zca.values, "rho": np.float64(zca.regularisation)}
    arrays |= {} if zca.contrast is None else {"contrast": np.float64(zca.contrast)}
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, checksum=np.str_(_checksum(arrays)), **arrays)
    try:
        write_atomically(path, buffer.getvalue())  # two processes write the same bytes; the later rename wins
    except (OSError, CheckpointError) as error:
        why = getattr(error, "strerror", None) or str(error).splitlines()[0]
        warnings.warn(f"cannot cache the ZCA transform in {path.parent}: {why}", stacklevel=2)
    return zca


def _load(path: pathlib.Path, shape: tuple[int, int, int]) -> Zca | None:
    """Loads a whole and unchanged cache entry, or returns None."""
    if not path.is_file():
        return None
    try:
        optional = {"contrast"} & set(npz.members(path))
        arrays = npz.read_npz(path, ["mean", "vectors", "values", "rho", "checksum", *optional])
    except DataError:
        return None
    if str(arrays.pop("checksum")) != _checksum(arrays) or arrays["mean"].shape != shape:
        return None
    contrast = float(arrays["contrast"]) if "contrast" in arrays else None
    return Zca(arrays["mean"], arrays["vectors"], arrays["values"], float(arrays["rho"]), contrast)


def _checksum(arrays: dict[str, np.ndarray]) -> str:
    hasher = hashlib.sha256()
    for name in ("mean", "vectors", "values", "rho", *({"contrast"} & set(arrays))):
        hasher.update(np.ascontiguousarray(arrays[name]))
    return hasher.hexdigest()

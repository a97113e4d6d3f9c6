"""Inputs of the golden RCIG run, rebuilt from the recipe that `tests/golden/rcig_authors.json` states.

Everything is drawn with NumPy's legacy `RandomState`, whose streams are frozen, in float64 and in the order written
here.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np

GOLDEN = Path(__file__).parent.parent / "golden" / "rcig_authors.json"
SIZE, CHANNELS, CLASSES, IPC, BATCH, WIDTH, DEPTH = 8, 3, 3, 2, 16, 8, 3


def load() -> dict[str, Any]:
    """The recorded numbers."""
    return json.loads(GOLDEN.read_text())


def _images(labels: np.ndarray, random: np.random.RandomState) -> np.ndarray:
    patterns = np.random.RandomState(1000).randn(CLASSES, SIZE, SIZE, CHANNELS)
    return 0.5 * patterns[labels] + random.randn(len(labels), SIZE, SIZE, CHANNELS)


def _targets(labels: np.ndarray) -> np.ndarray:
    return np.eye(CLASSES)[labels] - 1.0 / CLASSES


def coreset() -> tuple[np.ndarray, np.ndarray]:
    """Initial synthetic images [6, 8, 8, 3] and labels [6, 3]; class-major order."""
    labels = np.repeat(np.arange(CLASSES), IPC)
    return _images(labels, np.random.RandomState(1001)), _targets(labels)


def real_batch(iteration: int) -> tuple[np.ndarray, np.ndarray]:
    """Real images [16, 8, 8, 3] and labels [16, 3] of outer iteration `iteration` (from 0)."""
    random = np.random.RandomState(2000 + iteration)
    labels = random.randint(0, CLASSES, size=BATCH, dtype=np.int64)
    return _images(labels, random), _targets(labels)


def network(model: int, batch_norm: bool = False) -> dict[str, Any]:
    """Flax variables of pool network `model`; with `batch_norm` also running statistics, as if it had been trained."""
    random = np.random.RandomState(3000 + model)
    params: dict[str, Any] = {}
    stats: dict[str, Any] = {}
    inputs, size = CHANNELS, SIZE
    for block in range(DEPTH):
        outputs = WIDTH * 2**block
        kernel = random.randn(3, 3, inputs, outputs) / np.sqrt(9 * inputs)
        params[f"Conv_{block}"] = {"kernel": kernel, "bias": 0.1 * random.randn(outputs)}
        if batch_norm:
            params[f"BatchNorm_{block}"] = {
                "scale": 1 + 0.1 * random.randn(outputs),
                "bias": 0.1 * random.randn(outputs),
            }
            stats[f"BatchNorm_{block}"] = {"mean": 0.1 * random.randn(outputs), "var": 1 + 0.1 * random.rand(outputs)}
        inputs, size = outputs, size // 2
    features = inputs * size * size
    kernel = random.randn(features, CLASSES) / np.sqrt(features)
    params["Dense_0"] = {"kernel": kernel, "bias": 0.1 * random.randn(CLASSES)}
    return {"params": params, "batch_stats": stats} if batch_norm else {"params": params}


def projection(leaf: Any, direction: int) -> float:
    """Inner product of an array with a fixed random direction; pins an array's orientation in one number."""
    random = np.random.RandomState(4000 + direction)
    return float(np.sum(np.asarray(leaf, dtype=np.float64) * random.randn(*np.shape(leaf))))


def augment(key: Any, images: Any) -> Any:
    """An augmentation without a random stream: scales by and rolls rows by amounts read off the raw key [2] uint32."""
    import jax.numpy as jnp

    scale = 1 + (key[0] % 256).astype(images.dtype) / 1024
    return scale * jnp.roll(images, (key[1] % 4).astype(jnp.int32), axis=1)

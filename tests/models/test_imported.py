"""Weights from and for torch: against torch itself, against numbers that torchvision and timm gave, and refusals.

`golden/torchvision_resnet.py` made the numbers. Every tensor holds numbers of its own (`formula`), running statistics
included, so that a swap shows.
"""

from __future__ import annotations

import json
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from jaxdd import models
from jaxdd.core.errors import CheckpointError, UsageError
from jaxdd.models import imported
from jaxdd.models.torchvision import ResNet
from tests.models import formula

GOLDEN = json.loads((pathlib.Path(__file__).parent / "golden" / "torchvision_resnet.json").read_text())
COUNTER = "bn1.num_batches_tracked"


def resnet(depth: int = 18, stem: str = "small", *, width: int = 4, classes: int = 10, side: int = 16):
    return models.Network(ResNet(classes, depth, width, stem), (side, side, 3))


def filled(network: models.Network) -> dict[str, np.ndarray]:
    return {name: formula.tensor(name, shape) for name, shape in imported.shapes(network).items()}


def evaluated(network: models.Network, variables: Any, images: np.ndarray) -> np.ndarray:
    """Logits of images as torch has them."""
    return np.asarray(jax.jit(lambda v, x: network.apply(v, x).logits)(variables, images.transpose(0, 2, 3, 1)))


def save(path: pathlib.Path, tensors: dict[str, np.ndarray]) -> pathlib.Path:
    safetensors.numpy.save_file(tensors, path)
    return path


@pytest.mark.fast("18-small", "50-small")
@pytest.mark.quick
@pytest.mark.parametrize(("depth", "stem"), [(18, "small"), (34, "imagenet"), (50, "small"), (101, "imagenet")])
def test_names_and_shapes_are_those_of_torchvision_and_timm(depth, stem):
    signature = formula.signature(imported.shapes(resnet(depth, stem, width=128)))
    assert signature == GOLDEN["signatures"][f"{depth} {stem}"]


@pytest.mark.fast("18 small")
@pytest.mark.parametrize("case", GOLDEN["logits"], ids=lambda case: f"{case['depth']} {case['stem']}")
def test_logits_are_those_of_torchvision_and_timm(tmp_path, case):
    depth, stem, side = case["depth"], case["stem"], case["side"]
    network = resnet(depth, stem, width=128, side=side)
    variables = imported.read(save(tmp_path / "net.safetensors", filled(network)), network)
    expected = np.asarray(case["logits"])
    assert np.ptp(expected, axis=0).min() > 1e-3  # the two images differ
    np.testing.assert_allclose(
        evaluated(network, variables, formula.images(2, side)), expected, atol=1e-4 * np.abs(expected).max(), rtol=0
    )


@pytest.mark.parametrize(("depth", "stem", "side"), [(18, "small", 32), (50, "imagenet", 64)])
def test_torch_and_we_read_each_others_files(tmp_path, depth, stem, side):
    """Logits, and every tensor after a forward pass in training mode, in which the running statistics move."""
    torch = pytest.importorskip("torch")
    from safetensors.torch import load_file, save_file

    from tests.models import torch_resnet

    theirs, network = torch_resnet.ResNet(depth, stem, 8, 10), resnet(depth, stem, width=16, side=side)
    theirs.load_state_dict({name: torch.from_numpy(tensor) for name, tensor in filled(network).items()})
    save_file(theirs.state_dict(), tmp_path / "theirs.safetensors")
    variables = imported.read(tmp_path / "theirs.safetensors", network)
    images = formula.images(6, side)
    with torch.no_grad():
        expected = theirs.eval()(torch.from_numpy(images)).numpy()
        theirs.train()(torch.from_numpy(images))
    tolerance = {"rtol": 0, "atol": 1e-4 * np.abs(expected).max()}
    both = jax.jit(lambda v, x: (network.apply(v, x).logits, network.apply(v, x, train=True).variables))
    logits, trained = both(variables, images.transpose(0, 2, 3, 1))
    np.testing.assert_allclose(logits, expected, **tolerance)

    imported.write(tmp_path / "ours.safetensors", network, trained)
    ours = load_file(tmp_path / "ours.safetensors")
    moved = 0
    for name, tensor in theirs.state_dict().items():
        if "num_batches" not in name:
            np.testing.assert_allclose(ours[name], tensor, rtol=1e-4, atol=1e-4, err_msg=name)
            moved += not np.array_equal(tensor, formula.tensor(name, tuple(tensor.shape)))
    assert moved == 2 * sum(".running_mean" in name for name in ours)
    with torch.no_grad():
        theirs.load_state_dict(ours)  # strictly: no name is missing or unknown
        again = theirs.eval()(torch.from_numpy(images)).numpy()
    assert np.abs(again - expected).max() > 1e-2 * np.abs(expected).max()


@pytest.mark.quick
def test_writing_is_the_inverse_of_reading(tmp_path):
    network = resnet()
    tensors = filled(network)
    variables = imported.read(save(tmp_path / "one", tensors), network)
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype(jnp.float32)}
    assert jax.tree.structure(variables) == jax.tree.structure(jax.eval_shape(network.init, jax.random.key(0)))
    imported.write(tmp_path / "other", network, variables)
    written = safetensors.numpy.load_file(tmp_path / "other")
    assert written.keys() == tensors.keys()
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(written[name], tensor, err_msg=name)


def bytes_of(tensors: dict[str, np.ndarray], kind: str) -> bytes:
    """A safetensors file, made by hand: NumPy alone has no bfloat16."""
    header, end = {}, 0
    for name, tensor in tensors.items():
        header[name] = {"dtype": kind, "shape": tensor.shape, "data_offsets": [end, end + tensor.nbytes]}
        end += tensor.nbytes
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + b"".join(tensor.tobytes() for tensor in tensors.values())


@pytest.mark.quick
@pytest.mark.parametrize(
    ("kind", "dtype"), [("F16", np.float16), ("BF16", jnp.bfloat16), ("F32", np.float32), ("F64", np.float64)]
)
def test_every_float_becomes_float32(tmp_path, kind, dtype):
    network = resnet()
    tensors = {name: tensor.astype(dtype) for name, tensor in filled(network).items()}
    (tmp_path / "net").write_bytes(bytes_of(tensors, kind))
    imported.write(tmp_path / "again", network, imported.read(tmp_path / "net", network))
    for name, tensor in safetensors.numpy.load_file(tmp_path / "again").items():
        assert tensor.dtype == np.float32
        np.testing.assert_array_equal(tensor, tensors[name].astype(np.float32))


@pytest.mark.quick
@pytest.mark.parametrize("name", ["net.safetensors", "net.bin"])
def test_what_begins_as_a_pickle_but_is_none_is_read(tmp_path, name):
    network = resnet()
    content = bytes_of(filled(network), "F32")
    header = content[8 : 8 + int.from_bytes(content[:8], "little")]
    padded = header.ljust(-(-len(header) // 256) * 256 + 0x80)
    (tmp_path / name).write_bytes(len(padded).to_bytes(8, "little") + padded + content[8 + len(header) :])
    assert (tmp_path / name).read_bytes().startswith(b"\x80")
    imported.read(tmp_path / name, network)


@pytest.mark.quick
def test_counters_and_the_prefix_of_parallel_training_are_passed_over(tmp_path):
    network = resnet()
    tensors: dict[str, np.ndarray] = filled(network) | {COUNTER: np.asarray(7)}
    plainly = imported.read(save(tmp_path / "one", tensors), network)
    parallel = {f"module.{name}": tensor for name, tensor in tensors.items()}
    as_well = imported.read(save(tmp_path / "two", parallel), network)
    assert jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), plainly, as_well))


@pytest.mark.quick
@pytest.mark.parametrize(
    ("held", "wanted", "message"),
    [
        (
            resnet(34),
            resnet(18),
            "it adds 'layer1.2.bn1.bias' and 79 more(.|\n)*holds a ResNet-34 .*depth=34, width=4, classes=10",
        ),
        (resnet(18), resnet(34), "it lacks 'layer(.|\n)*holds a ResNet-18"),
        (resnet(classes=7), resnet(), r"'fc.bias' is \[7\], not \[10\](.|\n)*classes=7"),
        (resnet(width=8), resnet(), r"'bn1.* is \[4\], not \[2\](.|\n)*width=8"),
        (resnet(), resnet(stem="imagenet"), r"\[2, 3, 3, 3\], not \[2, 3, 7, 7\](.|\n)*3x3 stem .* up to 64 pixels"),
    ],
    ids=["deeper", "shallower", "classes", "width", "stem"],
)
def test_files_of_other_networks_are_refused(tmp_path, held, wanted, message):
    with pytest.raises(CheckpointError, match=f"of another network: .*{message}"):
        imported.read(save(tmp_path / "net", filled(held)), wanted)


@pytest.mark.quick
def test_variants_and_damaged_tensors_are_refused(tmp_path):
    network = resnet()
    good = filled(network)

    def refused(tensors: dict[str, np.ndarray], message: str) -> None:
        with pytest.raises(CheckpointError, match=message):
            imported.read(save(tmp_path / "net", tensors), network)

    refused({name: good[name] for name in good if name != "layer2.0.bn2.bias"}, "lacks 'layer2.0.bn2.bias'(.|\n)*plain")
    refused(good | {"layer1.0.se.fc1.weight": np.ones(3)}, "adds 'layer1.0.se.fc1.weight'(.|\n)*no variant")
    refused(good | {"bn1.weight": np.full(2, np.nan, np.float32)}, "'bn1.weight' is not finite")
    refused(good | {"bn1.weight": np.ones(2, np.int32)}, "'bn1.weight' is of type I32")
    refused({}, "lacks")
    path = save(tmp_path / "net", good)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match="not a safetensors file"):
        imported.read(path, network)
    with pytest.raises(CheckpointError, match="no such file"):
        imported.read(tmp_path / "nothing", network)


@pytest.mark.quick
@pytest.mark.parametrize(
    ("name", "content"),
    [("net.pth", b"anything"), ("net.safetensors", b"PK\x03\x04 a zip of pickles"), ("net", b"\x80\x02 a pickle")],
)
def test_pickles_are_refused_unread_with_what_converts_them(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=r"is a pickle(.|\n)*weights_only=True\), 'net.safetensors'\)"):
        imported.read(tmp_path / name, resnet())


@pytest.mark.quick
def test_what_cannot_be_written_is_refused(tmp_path):
    network = resnet()
    variables = imported.read(save(tmp_path / "net", filled(network)), network)
    stacked = jax.tree.map(lambda leaf: leaf[None], variables)
    infinite = jax.tree.map(lambda leaf: leaf / 0, variables)
    with pytest.raises(UsageError, match=r"variables are of another network: '(.|\n)*without a leading axis"):
        imported.write(tmp_path / "out", network, stacked)
    with pytest.raises(CheckpointError, match="is not finite"):
        imported.write(tmp_path / "out", network, infinite)
    conv = models.build("conv", image_shape=(16, 16, 3), classes=10)
    with pytest.raises(UsageError, match="ConvNet has no counterpart in torchvision"):
        imported.write(tmp_path / "out", conv, variables)
    assert not (tmp_path / "out").exists()

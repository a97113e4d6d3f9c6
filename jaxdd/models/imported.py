"""ResNets of torchvision and timm, read from and written to safetensors, without torch.

Both libraries give these networks the same tensors by the same names. Stage s counts from 1 and block b of a stage from
0; here blocks k count from 0 through all stages, and layers j of a block too, those of the shortcut last:

| torchvision, timm                     | here                      | axes there   | axes here    |
|---------------------------------------|---------------------------|--------------|--------------|
| conv1.weight                          | Conv_0/kernel             | out in h w   | h w in out   |
| bn1                                   | BatchNorm_0               | channels     | channels     |
| layer{s}.{b}.conv{j + 1}.weight       | Block_{k}/Conv_{j}/kernel | out in h w   | h w in out   |
| layer{s}.{b}.bn{j + 1}                | Block_{k}/BatchNorm_{j}   | channels     | channels     |
| layer{s}.{b}.downsample.0.weight      | Block_{k}/Conv_{j}/kernel | out in h w   | h w in out   |
| layer{s}.{b}.downsample.1             | Block_{k}/BatchNorm_{j}   | channels     | channels     |
| fc.weight, fc.bias                    | Dense_0/kernel, bias      | out in; out  | in out; out  |

A normalisation's `weight`, `bias`, `running_mean` and `running_var` are `scale`, `bias`, `mean` and `var` here; its
`num_batches_tracked`, which only counts, is not read. The small stem (`models.torchvision`) has the same names.
"""

from __future__ import annotations

import functools
import os
import pathlib
import re
from collections.abc import Collection, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.numpy

from jaxdd.core import io, trees
from jaxdd.core.errors import CheckpointError, UsageError
from jaxdd.models.network import Network, Variables
from jaxdd.models.torchvision import BLOCKS, BOTTLENECK_FROM, ResNet

LEAVES = {"kernel": "weight", "scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}
FLOATS = {"F64": np.float64, "F32": np.float32, "F16": np.float16, "BF16": jnp.bfloat16}
TO_TORCH = {1: (0,), 2: (1, 0), 4: (3, 2, 0, 1)}  # dimensions -> the order in which torch has the axes
FROM_TORCH = {1: (0,), 2: (1, 0), 4: (2, 3, 1, 0)}
UNREAD = "num_batches_tracked"
PARALLEL = "module."  # which torch's DataParallel puts before every name
PICKLED = (".pth", ".pt", ".tar", ".bin", ".pkl")
PICKLES = (b"PK\x03\x04", b"\x80")  # first bytes of what torch.save writes, today and before torch 1.6

Shape = tuple[int, ...]


def read(path: str | os.PathLike, network: Network) -> Variables:
    """Returns the variables of a network that torch has trained; see the module's header for the names.

    Arguments:
        path: a safetensors file; 16-bit floats become float32.
        network: a ResNet of `models.torchvision`, of the depth, stem and classes of the file.

    Returns:
        Parameters and running statistics, float32, as `network.init` gives them.

    Raises:
        UsageError: the network is no such ResNet.
        CheckpointError: the file is missing, damaged, a pickle, or of another network; or a number is not finite.
    """
    path, names = pathlib.Path(path), _names(network)
    tensors = _tensors(path)
    wanted, held = shapes(network), {name: tensor.shape for name, tensor in tensors.items()}
    if fault := _fault(held, wanted):
        raise CheckpointError(
            f"the file is of another network: {fault}",
            where=str(path),
            expected=_architecture(wanted),
            remedy=_remedy(_architecture(held), _architecture(wanted)),
        )
    leaves = {leaf: _from_torch(tensors[name]) for leaf, name in names.items()}
    _refuse_infinite({names[leaf]: array for leaf, array in leaves.items()}, path)
    return jax.tree.unflatten(
        jax.tree.structure(_abstract(network)), [jnp.asarray(leaves[leaf], jnp.float32) for leaf in names]
    )


def write(path: str | os.PathLike, network: Network, variables: Variables) -> None:
    """Writes a network's variables as safetensors by torchvision's names, for use elsewhere; the inverse of `read`.

    torch loads it with `model.load_state_dict(safetensors.torch.load_file(path))`.

    Arguments:
        path: of the file, which is replaced if there is one.
        network: a ResNet of `models.torchvision`.
        variables: of this network, as from `network.init`.

    Raises:
        UsageError: the network is no such ResNet, or the variables are of another network.
        CheckpointError: a number is not finite; nothing is written.
    """
    names = _names(network)
    held = {leaf: np.shape(array) for leaf, array in trees.paths(variables)}
    if fault := _fault(held, {leaf: array.shape for leaf, array in trees.paths(_abstract(network))}):
        raise UsageError(
            f"the variables are of another network: {fault}",
            where=str(path),
            expected=_architecture(shapes(network)),
            remedy="give the variables of one network, without a leading axis",
        )
    arrays = dict(trees.paths(jax.device_get(variables)))
    tensors = {name: _to_torch(np.asarray(arrays[leaf], np.float32)) for leaf, name in names.items()}
    _refuse_infinite(tensors, pathlib.Path(path))
    io.write_atomically(path, safetensors.numpy.save(tensors, metadata={"format": "pt"}))


def shapes(network: Network) -> dict[str, Shape]:
    """Returns name and shape of the tensors that a network is in torchvision, `num_batches_tracked` excepted.

    Raises:
        UsageError: the network is no ResNet of `models.torchvision`.
    """
    names = _names(network)
    leaves = {names[leaf]: array.shape for leaf, array in trees.paths(_abstract(network))}
    return {name: tuple(shape[axis] for axis in TO_TORCH[len(shape)]) for name, shape in leaves.items()}


def _names(network: Network) -> dict[str, str]:
    """Returns the path of every leaf of the network's variables, in their order -> the tensor's name."""
    module = network.module
    if not isinstance(module, ResNet):
        raise UsageError(
            f"{type(module).__name__} has no counterpart in torchvision",
            where="network",
            expected="a ResNet of models.build('torchvision_resnet', ...)",
            remedy="build the network with models.build('torchvision_resnet', ...)",
        )
    blocks = [f"layer{stage}.{i}." for stage, count in enumerate(BLOCKS[module.depth], 1) for i in range(count)]
    main = 3 if module.depth >= BOTTLENECK_FROM else 2

    def name(path: str) -> str:
        _, *above, layer, leaf = path.split("/")
        kind, number = layer.split("_")
        block = blocks[int(above[0].removeprefix("Block_"))] if above else ""
        if kind == "Dense":
            return f"fc.{LEAVES[leaf]}"
        if int(number) == main:
            return f"{block}downsample.{int(kind == 'BatchNorm')}.{LEAVES[leaf]}"
        return f"{block}{'conv' if kind == 'Conv' else 'bn'}{int(number) + 1}.{LEAVES[leaf]}"

    return {path: name(path) for path, _ in trees.paths(_abstract(network))}


@functools.cache
def _abstract(network: Network) -> Any:
    return jax.eval_shape(network.init, jax.random.key(0))


def _from_torch(tensor: np.ndarray) -> np.ndarray:
    return tensor.astype(np.float32).transpose(FROM_TORCH[tensor.ndim])


def _to_torch(array: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(array.transpose(TO_TORCH[array.ndim]))


def _tensors(path: pathlib.Path) -> dict[str, np.ndarray]:
    """Returns the tensors of a safetensors file, counters excepted."""
    if not path.is_file():
        raise CheckpointError(
            "no such file",
            where=str(path),
            expected="a safetensors file",
            remedy="check the path; torch's own files become safetensors with safetensors.torch.save_file",
        )
    _refuse_pickle(path)
    try:
        found = dict(safetensors.deserialize(path.read_bytes()))
    except safetensors.SafetensorError as error:
        raise CheckpointError(
            f"not a safetensors file: {error}", where=str(path), remedy="copy or download the file again"
        ) from None
    parallel = all(name.startswith(PARALLEL) for name in found)
    tensors = {}
    for name, tensor in found.items():
        if name.endswith(UNREAD):
            continue
        if tensor["dtype"] not in FLOATS:
            expected = "one of " + ", ".join(FLOATS)
            raise CheckpointError(
                f"'{name}' is of type {tensor['dtype']}",
                where=str(path),
                expected=expected,
                remedy="save the weights as float32",
            )
        array = np.frombuffer(tensor["data"], FLOATS[tensor["dtype"]]).reshape(tensor["shape"])
        tensors[name.removeprefix(PARALLEL) if parallel else name] = array
    return tensors


def _refuse_pickle(path: pathlib.Path) -> None:
    with open(path, "rb") as file:
        first = file.read(9)
    if first[8:] == b"{":  # safetensors: the eight bytes before are a length, which may begin as a pickle does
        return
    if not first.startswith(PICKLES) and path.suffix.lower() not in PICKLED:
        return
    target = path.with_suffix(".safetensors").name
    raise CheckpointError(
        "a file of torch.save, which is a pickle: reading it could run any program",
        where=str(path),
        expected="a safetensors file",
        remedy="convert it where torch is installed, taking the state_dict out of what holds more:\n"
        "    import torch, safetensors.torch\n"
        f"    safetensors.torch.save_file(torch.load('{path.name}', 'cpu', weights_only=True), '{target}')",
    )


def _refuse_infinite(tensors: Mapping[str, np.ndarray], path: pathlib.Path) -> None:
    for name, tensor in tensors.items():
        if not np.isfinite(tensor).all():
            raise CheckpointError(
                f"'{name}' is not finite", where=str(path), expected="finite numbers", remedy="train the network anew"
            )


def _fault(held: Mapping[str, Shape], wanted: Mapping[str, Shape]) -> str:
    """Returns the first way in which tensors are not those of a network; nothing if they are."""
    if held.keys() != wanted.keys():
        lacking = _some(name for name in wanted if name not in held)
        unknown = _some(name for name in sorted(held) if name not in wanted)
        return "; ".join([*([f"it lacks {lacking}"] if lacking else []), *([f"it adds {unknown}"] if unknown else [])])
    for name, shape in wanted.items():
        if held[name] != shape:
            return f"'{name}' is {list(held[name])}, not {list(shape)}"
    return ""


def _some(names: Any) -> str:
    first, *others = [*names] or [""]
    return f"'{first}'" + (f" and {len(others)} more" if others else "") if first else ""


def _architecture(shapes: Mapping[str, Shape]) -> str:
    """Returns the ResNet of these tensors, in the words of `models.build`; nothing if it is none of ours."""
    depth, stem, classifier = _depth(shapes), shapes.get("conv1.weight", ()), shapes.get("fc.weight", ())
    if depth is None or len(stem) != 4 or len(classifier) != 2:
        return ""
    side = "over 64" if stem[2] == 7 else "up to 64"
    return (
        f"a ResNet-{depth} (torchvision_resnet, depth={depth}, width={2 * stem[0]}, classes={classifier[0]}) with the "
        f"{stem[2]}x{stem[3]} stem of images of {side} pixels, {stem[1]} channels"
    )


def _depth(names: Collection[str]) -> int | None:
    pairs = {match.groups() for name in names if (match := re.match(r"layer(\d)\.(\d+)\.", name))}
    blocks = tuple(sum(stage == str(number) for stage, _ in pairs) for number in (1, 2, 3, 4))
    bottleneck = "layer1.0.conv3.weight" in names
    fitting = [d for d, counts in BLOCKS.items() if counts == blocks and (d >= BOTTLENECK_FROM) == bottleneck]
    return fitting[0] if fitting else None


def _remedy(held: str, wanted: str) -> str:
    if held and held != wanted:
        return f"the file holds {held}: build that network"
    return f"only ResNet-{', -'.join(map(str, BLOCKS))} in their plain form can be read, no variant of them"

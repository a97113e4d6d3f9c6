"""The recovery of SRe2L and CDA in PyTorch, as its authors do it: hooks on batch normalisations, crops of the batch.

    python -m tests.oracles.sre2l_torch                prints the numbers that `test_sre2l_golden` holds

That the network, its tensors and its images are made of plain arithmetic (`tests.models.formula`) lets any program have
the same ones. Needs PyTorch; nothing else does.
"""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from tests.models import formula
from tests.models.torch_resnet import ResNet
from tests.oracles.sre2l_literal import Draw, Weights

COUNT, SIDE, CLASSES, WIDTH = 6, 16, 10, 4


def model(dtype: torch.dtype) -> ResNet:
    """A narrow ResNet-18 for small images, in eval mode; every tensor holds numbers of its own."""
    made = ResNet(18, "small", WIDTH, CLASSES).to(dtype)
    tensors = {
        name: torch.from_numpy(formula.tensor(name, tuple(each.shape)))
        for name, each in made.state_dict().items()
        if "num_batches" not in name
    }
    made.load_state_dict(tensors, strict=False)
    return made.eval().requires_grad_(False)


def loss(network: ResNet, images: torch.Tensor, labels: torch.Tensor, weights: Weights) -> tuple[torch.Tensor, ...]:
    """The loss, the cross-entropy and the statistics."""
    terms: list[torch.Tensor] = []

    def compare(layer: Any, inputs: tuple[torch.Tensor, ...], _: torch.Tensor) -> None:
        (x,) = inputs
        mean, variance = x.mean((0, 2, 3)), x.transpose(0, 1).flatten(1).var(1, unbiased=False)
        terms.append(torch.norm(layer.running_var - variance) + torch.norm(layer.running_mean - mean))

    layers = [each for each in network.modules() if isinstance(each, torch.nn.BatchNorm2d)]
    hooks = [each.register_forward_hook(compare) for each in layers]
    ce = functional.cross_entropy(network(images), labels)
    for hook in hooks:
        hook.remove()
    statistics = weights.first * terms[0] + sum(terms[1:])
    total = weights.ce * ce + weights.bn * statistics
    x = images
    differences = [x[..., 1:] - x[..., :-1], x[..., 1:, :] - x[..., :-1, :]]
    differences += [x[..., 1:, 1:] - x[..., :-1, :-1], x[..., 1:, :-1] - x[..., :-1, 1:]]
    total = total + weights.tv * sum(torch.norm(each) for each in differences)
    return total + weights.norm * torch.norm(images.flatten(1), dim=1).mean(), ce, statistics


def recover(
    network: ResNet,
    images: torch.Tensor,
    labels: torch.Tensor,
    draws: list[Draw],
    *,
    total: int,
    peak: float,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    weights: Weights,
) -> torch.Tensor:
    """The images after as many iterations as there are draws, of `total`."""
    x, size = images.clone().requires_grad_(), images.shape[-1]
    optimizer = torch.optim.Adam([x], lr=peak, betas=(0.5, 0.9), eps=1e-8)
    for i, draw in enumerate(draws):
        optimizer.param_groups[0]["lr"] = peak * 0.5 * (1 + math.cos(math.pi * i / total))
        top, left, height, width = draw.box
        window = x[:, :, top : top + height, left : left + width]
        seen = functional.interpolate(window, (size, size), mode="bilinear", align_corners=False)
        seen = torch.roll(seen.flip(3) if draw.coin else seen, draw.roll, (2, 3))
        optimizer.zero_grad()
        loss(network, seen, labels, weights)[0].backward()
        optimizer.step()
        with torch.no_grad():
            for channel, (m, s) in enumerate(zip(mean, std, strict=True)):
                x[:, channel].clamp_(-m / s, (1 - m) / s)
    return x.detach()


def channels_last(tensor: torch.Tensor) -> np.ndarray:
    """`[n, height, width, channels]`."""
    return tensor.detach().numpy().transpose(0, 2, 3, 1)


def start(dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """Images and labels."""
    return torch.from_numpy(formula.images(COUNT, SIDE)).to(dtype), torch.arange(COUNT) % CLASSES


def main() -> None:
    """Prints the golden numbers."""
    from tests.methods.recovery.test_golden import DRAWS, LOOP, PLACES, WEIGHTS

    network, (images, labels) = model(torch.float64), start(torch.float64)
    images.requires_grad_()
    values = loss(network, images, labels, WEIGHTS)
    values[0].backward()
    assert images.grad is not None
    slope = channels_last(images.grad)
    moved = channels_last(recover(network, images.detach(), labels, DRAWS, weights=WEIGHTS, **LOOP))
    found = {
        "losses": [each.item() for each in values],
        "slope": [float(np.linalg.norm(slope)), *(float(slope[place]) for place in PLACES)],
        "images": [float(np.linalg.norm(moved)), *(float(moved[place]) for place in PLACES)],
    }
    print(json.dumps({"torch": torch.__version__, **found}, indent=4))


if __name__ == "__main__":
    main()

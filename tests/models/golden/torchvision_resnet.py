"""Makes torchvision_resnet.json: what torchvision's and timm's ResNets are and give, for tests that have neither.

    python -m tests.models.golden.torchvision_resnet        needs torch, torchvision and timm

Every tensor is filled by `tests.models.formula`. Logits are computed in float64, in evaluation mode; those of timm must
equal those of torchvision.
"""

from __future__ import annotations

import json
import pathlib
from typing import Any

import numpy as np
import timm
import torch
import torchvision

from tests.models import formula

TARGET = pathlib.Path(__file__).with_suffix(".json")
CLASSES, IMAGES = 10, 2
CASES = [(18, "imagenet", 64), (18, "small", 32), (50, "imagenet", 64)]  # depth, stem, side in pixels


def with_stem(model: torch.nn.Module, stem: str) -> torch.nn.Module:
    """The published change for small images: a 3x3 convolution, and no pooling."""
    if stem == "small":
        model.conv1 = torch.nn.Conv2d(3, 64, 3, 1, 1, bias=False)
        model.maxpool = torch.nn.Identity()
    return model


def built(depth: int, stem: str, classes: int) -> tuple[torch.nn.Module, torch.nn.Module]:
    """torchvision's and timm's."""
    name = f"resnet{depth}"
    ours = getattr(torchvision.models, name)(num_classes=classes)
    return with_stem(ours, stem), with_stem(timm.create_model(name, pretrained=False, num_classes=classes), stem)


def shapes(model: torch.nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


def logits(model: torch.nn.Module, side: int) -> np.ndarray:
    """Of the formula's images."""
    known = {name: shape for name, shape in shapes(model).items() if "num_batches" not in name}
    filled = {name: torch.from_numpy(formula.tensor(name, shape)) for name, shape in known.items()}
    model.load_state_dict(filled)
    with torch.no_grad():
        return model.double().eval()(torch.from_numpy(formula.images(IMAGES, side)).double()).numpy()


def main() -> None:
    """Writes the file."""
    found: dict[str, Any] = {"torch": torch.__version__, "torchvision": torchvision.__version__}
    found |= {"timm": timm.__version__, "sizes": {}, "signatures": {}, "logits": []}
    for depth in (18, 34, 50, 101):
        found["sizes"][depth] = sum(
            each.numel() for each in torchvision.models.get_model(f"resnet{depth}").parameters()
        )
        for stem in ("imagenet", "small"):
            one, other = (formula.signature(shapes(model)) for model in built(depth, stem, CLASSES))
            assert one == other, (depth, stem)
            found["signatures"][f"{depth} {stem}"] = one
    for depth, stem, side in CASES:
        one, other = (logits(model, side) for model in built(depth, stem, CLASSES))
        np.testing.assert_allclose(other, one, rtol=1e-12)
        case = {"depth": depth, "stem": stem, "side": side, "logits": one.round(9).tolist()}
        found["logits"].append(case)
    TARGET.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()

"""torchvision's ResNet written out in torch, of any width and with both stems; the oracle of `test_imported`."""

from __future__ import annotations

import torch
from torch import nn

BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}


def convolution(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)


class Block(nn.Module):
    """A basic block, or a bottleneck with four times the channels."""

    def __init__(self, inputs: int, features: int, stride: int, bottleneck: bool):
        super().__init__()
        outputs = 4 * features if bottleneck else features
        sizes = [(inputs, features, 3, stride), (features, outputs, 3)]
        if bottleneck:
            sizes = [(inputs, features, 1), (features, features, 3, stride), (features, outputs, 1)]
        self.count = len(sizes)
        for number, size in enumerate(sizes, 1):
            setattr(self, f"conv{number}", convolution(*size))
            setattr(self, f"bn{number}", nn.BatchNorm2d(outputs if number == self.count else features))
        self.downsample = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(convolution(inputs, outputs, 1, stride), nn.BatchNorm2d(outputs))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = x
        for number in range(1, self.count + 1):
            y = getattr(self, f"bn{number}")(getattr(self, f"conv{number}")(y))
            y = y if number == self.count else torch.relu(y)
        return torch.relu(y + (x if self.downsample is None else self.downsample(x)))


class ResNet(nn.Module):
    """`width` is that of the first stage, 64 in torchvision."""

    def __init__(self, depth: int, stem: str, width: int, classes: int):
        super().__init__()
        self.conv1 = convolution(3, width, 7, 2) if stem == "imagenet" else convolution(3, width, 3)
        self.bn1 = nn.BatchNorm2d(width)
        self.maxpool = nn.MaxPool2d(3, 2, 1) if stem == "imagenet" else nn.Identity()
        inputs, expansion = width, 4 if depth >= 50 else 1
        for stage, count in enumerate(BLOCKS[depth]):
            blocks = []
            for index in range(count):
                blocks.append(Block(inputs, width << stage, 2 if stage and not index else 1, depth >= 50))
                inputs = expansion * (width << stage)
            setattr(self, f"layer{stage + 1}", nn.Sequential(*blocks))
        self.fc = nn.Linear(inputs, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.maxpool(torch.relu(self.bn1(self.conv1(x))))
        for stage in (1, 2, 3, 4):
            x = getattr(self, f"layer{stage}")(x)
        return self.fc(x.mean((2, 3)))

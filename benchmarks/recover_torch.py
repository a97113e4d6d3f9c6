"""An iteration of recovering images in PyTorch, as plainly as the papers' code does it: `benchmarks.recover`'s rival.

A worker: for each line that it reads it makes one iteration and answers with the seconds that it took, by the clock and
of all threads together, and the most bytes that were held. Arithmetic as in arXiv 2306.13092 and 2311.18838: a frozen
teacher in evaluation mode, hooks on its batch normalisations, one crop, one flip and one roll for the batch, Adam on
the images, a clamp.
"""

import argparse
import math
import pathlib
import random
import sys
import time

import torch
import torch.nn.functional as F
from torch import nn

MEAN, STD = (0.4802, 0.4481, 0.3975), (0.2302, 0.2265, 0.2262)


class Block(nn.Module):
    """The basic block of torchvision's ResNet-18."""

    def __init__(self, inputs: int, features: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, features, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(features)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(features, features, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(features)
        self.downsample = None
        if stride != 1 or inputs != features:
            self.downsample = nn.Sequential(
                nn.Conv2d(inputs, features, 1, stride, bias=False), nn.BatchNorm2d(features)
            )

    def forward(self, x):
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        y += x if self.downsample is None else self.downsample(x)
        return self.relu(y)


class ResNet18(nn.Module):
    """torchvision's, with the stem for small images up to 64 pixels."""

    def __init__(self, classes: int, side: int, width: int = 64):
        super().__init__()
        large = side > 64
        self.conv1 = nn.Conv2d(3, width, 7 if large else 3, 2 if large else 1, 3 if large else 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1) if large else nn.Identity()
        self.layer1 = nn.Sequential(Block(width, width, 1), Block(width, width, 1))
        self.layer2 = nn.Sequential(Block(width, 2 * width, 2), Block(2 * width, 2 * width, 1))
        self.layer3 = nn.Sequential(Block(2 * width, 4 * width, 2), Block(4 * width, 4 * width, 1))
        self.layer4 = nn.Sequential(Block(4 * width, 8 * width, 2), Block(8 * width, 8 * width, 1))
        self.fc = nn.Linear(8 * width, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x):
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(x.mean((2, 3)))


class StatisticsHook:
    """How far the statistics of what enters a batch normalisation are from those it remembers."""

    def __init__(self, module):
        module.register_forward_hook(self.found)

    def found(self, module, inputs, output):
        channels = inputs[0].shape[1]
        mean = inputs[0].mean([0, 2, 3])
        variance = inputs[0].permute(1, 0, 2, 3).contiguous().view([channels, -1]).var(1, unbiased=False)
        self.loss = torch.norm(module.running_var.data - variance, 2) + torch.norm(module.running_mean.data - mean, 2)


def box(side: int, least: float) -> tuple[int, int, int, int]:
    """A window as torchvision's RandomResizedCrop draws it: top, left, height, width."""
    for _ in range(10):
        area = side * side * random.uniform(least, 1)
        ratio = math.exp(random.uniform(math.log(3 / 4), math.log(4 / 3)))
        width, height = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < width <= side and 0 < height <= side:
            return random.randint(0, side - height), random.randint(0, side - width), height, width
    return 0, 0, side, side


class Run:
    """A teacher, a batch of images of distinct classes, Adam."""

    def __init__(self, flags):
        self.flags, device = flags, torch.device(flags.device)
        self.network = ResNet18(flags.classes, flags.side, flags.width // 2).to(device).eval()
        for parameter in self.network.parameters():
            parameter.requires_grad = False
        self.hooks = [StatisticsHook(module) for module in self.network.modules() if isinstance(module, nn.BatchNorm2d)]
        self.images = torch.randn((flags.batch, 3, flags.side, flags.side), requires_grad=True, device=device)
        self.labels = torch.arange(flags.batch, device=device) % flags.classes
        self.adam = torch.optim.Adam([self.images], lr=flags.rate, betas=(0.5, 0.9), eps=1e-8)
        self.done = 0

    def loss(self, x):
        """Cross-entropy and statistics of images as they are seen."""
        cross_entropy = F.cross_entropy(self.network(x), self.labels)
        weights = [10.0] + [1.0] * (len(self.hooks) - 1)
        statistics = sum(weight * hook.loss for weight, hook in zip(weights, self.hooks, strict=True))
        return cross_entropy + self.flags.r_bn * statistics

    def step(self):
        """One iteration."""
        flags, side = self.flags, self.flags.side
        for group in self.adam.param_groups:
            group["lr"] = flags.rate * 0.5 * (1 + math.cos(math.pi * self.done / flags.iterations))
        curriculum = 0.08 + 0.92 * 0.5 * (1 + math.cos(math.pi * self.done / flags.iterations))
        top, left, height, width = box(side, curriculum)
        x = self.images[:, :, top : top + height, left : left + width]
        x = F.interpolate(x, size=(side, side), mode="bilinear", align_corners=False)
        x = torch.flip(x, (3,)) if random.random() < 0.5 else x
        x = torch.roll(x, (random.randint(0, flags.jitter), random.randint(0, flags.jitter)), (2, 3))
        self.adam.zero_grad()
        loss = self.loss(x)
        loss.backward()
        self.adam.step()
        with torch.no_grad():
            for channel, (mean, std) in enumerate(zip(MEAN, STD, strict=True)):
                self.images[:, channel] = torch.clamp(self.images[:, channel], -mean / std, (1 - mean) / std)
        self.done += 1
        loss.item()  # the authors log it


def peak_bytes(device: str) -> int:
    """The most memory held: of the GPU, or of this process."""
    if device != "cpu":
        return torch.cuda.max_memory_allocated()
    lines = pathlib.Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


def parsed(words=None):
    """The flags."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu")
    for name, default in (("side", 64), ("batch", 100), ("classes", 200), ("width", 128), ("jitter", 4)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--iterations", type=int, default=4000)
    parser.add_argument("--rate", type=float, default=0.4)
    parser.add_argument("--r_bn", type=float, default=0.05)
    return parser.parse_args(words)


def main():
    flags = parsed()
    random.seed(0)
    torch.manual_seed(0)
    run = Run(flags)
    print("ready", torch.__version__, flush=True)
    for _ in sys.stdin:
        begun, used = time.perf_counter(), time.process_time()
        run.step()
        if flags.device != "cpu":
            torch.cuda.synchronize()
        print(time.perf_counter() - begun, time.process_time() - used, peak_bytes(flags.device), flush=True)


if __name__ == "__main__":
    main()

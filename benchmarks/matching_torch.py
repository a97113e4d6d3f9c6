"""IDC's inner iteration in PyTorch, as plainly as the papers' code does it: what `benchmarks.matching` compares with.

A worker: it reads one request a line (`sweep` or `train`) and answers with the seconds that it took. The only place
where torch is imported. Arithmetic as in arXiv 2205.14959: class after class, gradients of gradients by autograd, one
SGD over the whole set; networks train on real batches with per-image augmentation and CutMix.
"""

import argparse
import sys
import time

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)


class ConvNet(nn.Module):
    """`depth` blocks of convolution, instance normalisation, ReLU and average pooling."""

    def __init__(self, width: int, classes: int, side: int, depth: int = 3):
        super().__init__()
        layers, channels = [], 3
        for _ in range(depth):
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.GroupNorm(width, width), nn.ReLU(), nn.AvgPool2d(2)]
            channels = width
        self.body, self.head = nn.Sequential(*layers), nn.Linear(width * (side >> depth) ** 2, classes)

    def forward(self, images):
        return self.head(self.body(images).flatten(1))


def colour(x, shared):
    """Brightness, saturation, contrast: one draw for all images or one each."""
    count = 1 if shared else len(x)
    draw = lambda: torch.rand(count, 1, 1, 1, device=x.device)  # noqa: E731
    x = x + (draw() - 0.5)
    mean = x.mean(1, keepdim=True)
    x = (x - mean) * (2 * draw()) + mean
    mean = x.mean((1, 2, 3), keepdim=True)
    return (x - mean) * (draw() + 0.5) + mean


def crop(x, shared):
    """A shift by up to an eighth of the side."""
    reach = int(x.shape[2] * 0.125 + 0.5)
    count = 1 if shared else len(x)
    rows, columns = (torch.randint(-reach, reach + 1, (count, 1, 1), device=x.device) for _ in range(2))
    grid = torch.arange(len(x), device=x.device), torch.arange(x.shape[2], device=x.device)
    index, i, j = torch.meshgrid(grid[0], grid[1], grid[1], indexing="ij")
    i, j = (torch.clamp(place + shift + 1, 0, x.shape[2] + 1) for place, shift in ((i, rows), (j, columns)))
    return F.pad(x, [1, 1, 1, 1]).permute(0, 2, 3, 1)[index, i, j].permute(0, 3, 1, 2)


def cutout(x):
    """One square of half the side, the same in all images."""
    side = int(x.shape[2] * 0.5 + 0.5)
    top, left = np.random.randint(0, x.shape[2] + (1 - side % 2), 2) - side // 2
    mask = torch.ones(x.shape[2:], device=x.device)
    mask[max(top, 0) : max(top + side, 0), max(left, 0) : max(left + side, 0)] = 0
    return x * mask


def cutmix(x, y, loss):
    """Half of the batches are mixed."""
    if np.random.rand() >= 0.5:
        return loss(x, y)
    side, order = x.shape[2], torch.randperm(len(x), device=x.device)
    half = int(side * np.sqrt(1 - np.random.beta(1, 1))) // 2
    row, column = np.random.randint(side, size=2)
    top, bottom, left, right = (
        int(np.clip(v, 0, side)) for v in (row - half, row + half, column - half, column + half)
    )
    x[:, :, top:bottom, left:right] = x[order, :, top:bottom, left:right]
    ratio = 1 - (bottom - top) * (right - left) / side**2
    logits = loss.network(x)
    return ratio * F.cross_entropy(logits, y) + (1 - ratio) * F.cross_entropy(logits, y[order])


class Loss:
    """Mean cross-entropy of a network."""

    def __init__(self, network):
        self.network = network

    def __call__(self, x, y):
        return F.cross_entropy(self.network(x), y)


class Run:
    """A network, a synthetic set and the two optimisers."""

    def __init__(self, images, labels, flags):
        self.flags, self.device = flags, torch.device(flags.device)
        self.images = torch.tensor(images, device=self.device).float().permute(0, 3, 1, 2).contiguous() / 255
        self.labels = torch.tensor(labels, device=self.device).long()
        self.mean, self.std = (torch.tensor(v, device=self.device).view(1, 3, 1, 1) for v in (MEAN, STD))
        self.rows = [torch.nonzero(self.labels == c)[:, 0] for c in range(10)]
        self.network = ConvNet(flags.width, 10, 32).to(self.device)
        first = [rows[: flags.ipc] for rows in self.rows]
        self.synthetic = self.images[torch.cat(first)].clone().requires_grad_(True)
        self.of_images = torch.optim.SGD([self.synthetic], 5e-3 * flags.ipc / 10, momentum=0.5)
        self.of_network = torch.optim.SGD(self.network.parameters(), 0.01, momentum=0.9, weight_decay=5e-4)

    def decode(self, stored):
        f, side = self.flags.factor, 32 // self.flags.factor
        cells = [stored[:, :, side * i : side * (i + 1), side * j : side * (j + 1)] for i in range(f) for j in range(f)]
        return F.interpolate(torch.cat(cells), size=(32, 32), mode="bilinear", align_corners=False)

    def sweep(self):
        """One matching of every class."""
        parameters, loss = list(self.network.parameters()), Loss(self.network)
        for c, rows in enumerate(self.rows):
            chosen = rows[torch.randint(len(rows), (self.flags.batch_real,), device=self.device)]
            real, synthetic = self.images[chosen], self.decode(self.synthetic[c * self.flags.ipc :][: self.flags.ipc])
            both = (torch.cat([real, synthetic]) - self.mean) / self.std
            both = cutout(crop(colour(both, True), True))
            real, synthetic = both[: len(real)], both[len(real) :]
            label = lambda x, c=c: torch.full((len(x),), c, device=self.device)  # noqa: E731
            wanted = [g.detach() for g in torch.autograd.grad(loss(real, label(real)), parameters)]
            found = torch.autograd.grad(loss(synthetic, label(synthetic)), parameters, create_graph=True)
            distance = sum(((a - b) ** 2).sum() for a, b in zip(wanted, found, strict=True) if a.ndim == 4)
            self.of_images.zero_grad()
            distance.backward()
            self.of_images.step()

    def train(self):
        """The network's steps between two sweeps."""
        loss = Loss(self.network)
        for _ in range(self.flags.network_steps):
            chosen = torch.randint(len(self.images), (self.flags.batch_real,), device=self.device)
            x = crop(colour((self.images[chosen] - self.mean) / self.std, False), False)
            self.of_network.zero_grad()
            cutmix(x, self.labels[chosen], loss).backward()
            self.of_network.step()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", help="npz file with images and labels")
    parser.add_argument("--device", default="cpu")
    for name, default in (("ipc", 1), ("factor", 2), ("width", 128), ("batch_real", 64), ("network_steps", 32)):
        parser.add_argument(f"--{name}", type=int, default=default)
    flags = parser.parse_args()
    stored = np.load(flags.data)
    run = Run(stored["images"], stored["labels"], flags)
    print("ready", torch.__version__, flush=True)
    for line in sys.stdin:
        begun = time.perf_counter()
        getattr(run, line.strip())()
        if flags.device != "cpu":
            torch.cuda.synchronize()
        print(time.perf_counter() - begun, flush=True)


if __name__ == "__main__":
    main()

"""DC, DSA, DM, IDC, AccDD, DREAM, DREAM+ and GA-DD as published, one class after another.

The engine is compared with this file, so mathematics and order are written out here: the network and its SGD, the
distances, the one momentum buffer, the average, the stages (decoding and pasting: `formation_literal`). The gradient of
a matching loss is taken by differentiating a distance of gradients directly; what moves by it moves in NumPy. Only what
is drawn is shared with the engine, under the same keys: class indices, augmentations, CutMix, k-means from its first
centroids, fresh networks.

    symbol  here       meaning
    S       images     `[C, m, side, side, channels]`; raw in [0, 1] (IDC family) or standardised (DC, DSA, DM)
    v       buffer     its momentum, one buffer for all classes
    E       average    of S over class steps (GA-DD)
    theta   params     of the network; `velocity` is the momentum of its SGD
    t, T    outer, end outer iteration, and the one at which labels cease to be shifted

    for every outer iteration t:
        S <- clip(S); a new network; its early epochs; t = T?
        for every inner iteration:
            for every class c:     g = dL_c / dS_c;   v <- mu v + g;   S <- S - rate v;   E <- d E + (1 - d) S
            the network's steps
    L_c = GM(c) + [t < T] w GM(c + 1) + [t > T] 0.2 sum_l D(f_l)
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdd import augment
from jaxdd.core.random import key_for, purpose_key
from jaxdd.core.types import Examples
from jaxdd.data.device.sampling import class_indices
from jaxdd.matching import kmeans
from tests.oracles.formation_literal import decode, paste


@dataclasses.dataclass
class Run:
    """Where a run stands, and what it has seen."""

    images: Any
    buffer: Any
    average: Any
    params: Any = None
    velocity: Any = None
    matched: Any = None
    end: int | None = None
    shifted: list = dataclasses.field(default_factory=list)  # of every outer iteration, the sum of the shifted loss
    losses: list = dataclasses.field(default_factory=list)  # of every inner iteration, [own, shifted] over classes
    seen: list = dataclasses.field(default_factory=list)  # (t, which terms the loss has) of every inner iteration


def distil(of: Any, data: Examples, seed: int, outer: int, fresh: Callable[[Any], Any]) -> Run:
    """A run of `outer` outer iterations.

    Arguments:
        of: the settings, under the engine's names; nothing but its fields is read.
        data: real images and labels; early-stage networks.
        fresh: variables of a new network from a key.
    """
    run = start(of, data, key_for(seed, "init"), fresh)
    for t in range(outer):
        for inner in range(of.inner_loop):
            step = t * of.inner_loop + inner
            if inner == 0:
                begin(of, run, data, seed, t, step, fresh)
            if of.selection == "kmean" and inner % of.interval == 0:
                key = key_for(seed, "event/representatives", step)
                clusters = of.batch_real // of.subsample
                run.matched = representatives(of, run.params, data, key, clusters, of.subsample)
            key = key_for(seed, "step", step)
            if of.selection == "random":
                draw = purpose_key(purpose_key(key, "draw"), "matched")
                run.matched = class_indices(data, of.batch_real, draw).reshape(data.classes, -1)
            terms = stage(of, run, t)
            run.seen.append((t, terms))
            losses = match(of, run, data, purpose_key(key, "match"), t, terms)
            run.losses.append(losses)
            run.shifted[-1] += losses[1]
            train(of, run, data, key)
    return run


def begin(of: Any, run: Run, data: Examples, seed: int, t: int, step: int, fresh: Callable) -> None:
    """What happens before the first inner iteration of an outer one."""
    if of.space == "raw":
        run.images = np.minimum(np.maximum(run.images, 0), 1)
    if of.lcs_weight and run.end is None:
        leave = t >= of.exit_at
        if of.exit_mode == "plateau" and t >= 2 * of.exit_window:
            last = sum(run.shifted[t - of.exit_window : t])
            before = sum(run.shifted[t - 2 * of.exit_window : t - of.exit_window])
            leave = leave or before - last < of.exit_tolerance * before
        run.end = t if leave else None
    run.shifted.append(0.0)
    if t % of.fix_iter:
        return
    key = key_for(seed, "event/network", step)
    variables = early_stage(of, data, key) if of.source == "pretrained" else fresh(key)
    if of.source == "pretrained" and of.perturb:
        variables = perturb(of, variables, purpose_key(key, "perturbation"))
    run.params, run.velocity = variables["params"], None
    key = key_for(seed, "event/early training", step)
    for i in range(of.early * -(-len(data) // of.batch_real)):
        own = jax.random.fold_in(key, i)
        rows = jax.random.randint(purpose_key(own, "rows"), (of.batch_real,), 0, len(data))
        descend(of, run, data, data.images[rows], data.labels[rows], own)
    if t == 0 and of.early and way(of) == "kmean":
        first = first_images(of, data, run.params, key_for(seed, "event/first images", 0))
        run.images = run.average = np.asarray(first)


def stage(of: Any, run: Run, t: int) -> str:
    """Which terms the loss has."""
    if of.lcs_weight and run.end is None:
        return "shifted"
    ended = run.end is not None and t > run.end
    return "second" if of.dm_weight and ended else "plain"


def match(of: Any, run: Run, data: Examples, key: Any, t: int, terms: str) -> np.ndarray:
    """The steps of all classes; the loss with the own label and that with the other, summed over classes."""
    rate = of.lr_img
    if of.base_size is not None:
        rate = of.lr_img * of.n_images / 10 * (data.image_shape[0] / of.base_size) ** 2
    total, together = np.zeros(2), np.zeros_like(run.images)
    for c in range(data.classes):
        other = (c + 1) % data.classes
        if of.lcs_shift == "cyclic":
            other = (c + 1 + t % (data.classes - 1)) % data.classes
        real = data.images[run.matched[c]]
        own_key = jax.random.fold_in(key, c)
        found = class_gradient(of, data.constants, terms, run.params, run.images[c], real, c, other, own_key)
        gradient, parts = (np.asarray(array) for array in found)
        total += parts
        if not of.shared_momentum:  # DC, DSA, DM: one step on the sum over classes
            together[c] = gradient
            continue
        own = np.zeros_like(run.images)
        own[c] = gradient
        run.buffer = of.mom_img * run.buffer + own
        run.images = run.images - rate * run.buffer
        if of.ema_decay and of.ema_every == "class":
            run.average = of.ema_decay * run.average + (1 - of.ema_decay) * run.images
    if not of.shared_momentum:
        run.buffer = of.mom_img * run.buffer + together
        run.images = run.images - rate * run.buffer
    if of.ema_decay and of.ema_every == "inner":
        run.average = of.ema_decay * run.average + (1 - of.ema_decay) * run.images
    return total


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def class_gradient(of, constants, terms, params, stored, real, label, other, key):
    """Reverse over reverse: the gradient in `stored` of a distance between two gradients."""

    def loss(stored):
        images = decode(stored, of.factor, of.decode_type, of.batch_syn_max)
        if len(images) > of.batch_syn_max:
            images = images[jax.random.permutation(purpose_key(key, "kept"), len(images))[: of.batch_syn_max]]
        family = augment.dsa if of.aug_family == "dsa" else augment.diffaug
        transform = family(of.aug_type, stored.shape[1], siamese=True)
        syn = transform(purpose_key(key, "augment"), standardise(images, constants))
        fixed = transform(purpose_key(key, "augment"), standardise(real, constants))
        if of.match == "feat":
            own = feature_distance(params, fixed, syn, [of.depth - 1], "mse")
        else:
            own = gradient_distance(of, params, fixed, syn, label)
        if of.match == "bi_match":
            own = own + feature_distance(params, fixed, syn, [of.depth - 1], of.metric)
        if terms == "shifted":
            shifted = gradient_distance(of, params, fixed, syn, other)
            return own + of.lcs_weight * shifted, (own, shifted)
        if terms == "second" and of.compat_released_code:
            own = 1.2 * own + of.dm_weight * feature_distance(params, fixed, syn, [of.depth - 1], of.metric)
        elif terms == "second":
            own = own + of.dm_weight * feature_distance(params, fixed, syn, range(of.depth), of.metric)
        return own, (own, jnp.zeros_like(own))

    gradient, parts = jax.grad(loss, has_aux=True)(stored)
    return gradient, jnp.stack(parts)


def gradient_distance(of, params, real, syn, label):
    """GM(label): over all parameters that count, and of each over its output channels."""

    def cross_entropy(params, images):
        return -jnp.mean(jax.nn.log_softmax(forward(params, images)[0])[:, label])

    fixed = jax.grad(cross_entropy)(params, jax.lax.stop_gradient(real))
    moving = jax.grad(cross_entropy)(params, syn)
    total = 0.0
    for layer in params:
        for name in params[layer]:
            x, y = fixed[layer][name], moving[layer][name]
            if x.ndim == 1 and (of.metric == "ours" or not of.bias):
                continue
            if x.ndim == 2 and of.metric != "ours" and not of.fc:
                continue
            total = total + distance(x, y, "cos" if of.metric == "ours" else of.metric)
    return total


def feature_distance(params, real, syn, blocks, metric):
    """sum_l D(mean f_l(real), mean f_l(syn))."""
    fixed, moving = forward(params, real)[1], forward(params, syn)[1]
    return sum(distance(fixed[block].mean(0), moving[block].mean(0), metric) for block in blocks)


def distance(x, y, metric):
    """D(x, y) of one tensor, output channel by output channel, which is the last axis."""

    def of_channel(a, b):
        if metric == "mse":
            return jnp.sum((a - b) ** 2)
        if metric == "l1":
            return jnp.sum(jnp.abs(a - b))
        if metric == "l1_mean":
            return jnp.mean(jnp.abs(a - b))
        return 1 - jnp.sum(a * b) / (jnp.sqrt(jnp.sum(a * a)) * jnp.sqrt(jnp.sum(b * b)) + 1e-6)

    return jnp.sum(jax.vmap(of_channel, in_axes=-1)(x, y))


def forward(params, images):
    """Logits and block outputs: convolution, instance normalisation, ReLU, 2x2 mean; the classifier."""
    x, blocks = images, []
    depth = sum(name.startswith("Conv") for name in params)
    for i in range(depth):
        layer, norm, pad = params[f"Conv_{i}"], params[f"GroupNorm_{i}"], 3 if i == 0 and images.shape[-1] == 1 else 1
        x = jax.lax.conv_general_dilated(
            x, layer["kernel"], (1, 1), ((pad, pad), (pad, pad)), dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        x = x + layer["bias"][None, None, None]
        mean = x.mean((1, 2), keepdims=True)
        variance = ((x - mean) ** 2).mean((1, 2), keepdims=True)
        x = (x - mean) / jnp.sqrt(variance + 1e-5) * norm["scale"][None, None, None] + norm["bias"][None, None, None]
        x = jnp.where(x > 0, x, 0)
        x = (x[:, 0::2, 0::2] + x[:, 1::2, 0::2] + x[:, 0::2, 1::2] + x[:, 1::2, 1::2]) / 4
        blocks.append(x)
    blocks[-1] = x.reshape(len(x), -1)
    return blocks[-1] @ params["Dense_0"]["kernel"] + params["Dense_0"]["bias"][None], blocks


_forward, _kmeans = jax.jit(forward), jax.jit(kmeans.kmeans, static_argnums=1)


def standardise(images, constants):
    """Raw images as networks see them."""
    if constants is None:
        return images
    mean, std = (jnp.asarray(values, images.dtype)[None, None, None] for values in constants)
    return (images - mean) / std


def train(of: Any, run: Run, data: Examples, step: Any) -> None:
    """The network's steps after a matching; none where the next matching has a new network."""
    if of.inner_loop * of.fix_iter == 1:
        return
    key = purpose_key(step, "train")
    if of.train_on == "synthetic":
        decoded = [decode(own, of.factor, of.decode_type, of.batch_syn_max) for own in run.images]
        images = np.concatenate(decoded)
        labels = np.asarray([c for c in range(data.classes) for _ in decoded[c]])
        for i in range(of.net_epoch):  # one batch of at most 256 is an epoch here
            descend(of, run, data, images, labels, jax.random.fold_in(key, i))
        return
    count = of.net_epoch * -(-of.n_data // of.batch_real)
    bits = jax.random.bits(purpose_key(purpose_key(step, "draw"), "trained"), (len(data),), jnp.uint32)
    order = [int(row) for row in np.argsort(np.asarray(bits), kind="stable")]
    for i in range(count):
        rows = np.asarray([order[j % len(data)] for j in range(i * of.batch_real, (i + 1) * of.batch_real)])
        descend(of, run, data, data.images[rows], data.labels[rows], jax.random.fold_in(key, i))


def descend(of: Any, run: Run, data: Examples, images: Any, labels: Any, key: Any) -> None:
    """One step of PyTorch's SGD: g + wd theta; buf = g, then mom buf + g; theta - lr buf."""
    slope = network_gradient(of, data.constants, data.classes, run.params, images, labels, key)
    slope, run.params = jax.tree.map(np.asarray, (slope, run.params))
    slope = jax.tree.map(lambda g, p: g + of.weight_decay * p, slope, run.params)
    if run.velocity is None:
        run.velocity = slope
    else:
        run.velocity = jax.tree.map(lambda b, g: of.momentum * b + g, run.velocity, slope)
    run.params = jax.tree.map(lambda p, b: p - of.lr * b, run.params, run.velocity)


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def network_gradient(of, constants, classes, params, images, labels, key):
    """Of the mean cross-entropy of one augmented, perhaps mixed batch."""
    family = augment.dsa if of.aug_family == "dsa" else augment.diffaug
    images = standardise(images, constants)
    images = family(of.net_aug, images.shape[1], siamese=False)(purpose_key(key, "augment"), images)
    targets = jnp.eye(classes, dtype=images.dtype)[labels]
    if of.mixup_net == "cut" and of.mix_p:
        mixing = purpose_key(key, "mix")
        images, targets = augment.cutmix(mixing, images, targets, probability=of.mix_p, beta=of.beta)

    def loss(params):
        return -jnp.mean(jnp.sum(targets * jax.nn.log_softmax(forward(params, images)[0]), 1))

    return jax.grad(loss)(params)


def start(of: Any, data: Examples, key: Any, fresh: Callable) -> Run:
    """The first images, class by class."""
    own = purpose_key(key, "synthetic")
    params = fresh(purpose_key(key, "network"))["params"]
    if of.source == "pretrained":
        index = jax.random.randint(purpose_key(own, "network"), (), 0, len(jax.tree.leaves(data.early_networks)[0]))
        params = jax.tree.map(lambda leaf: leaf[index], data.early_networks)["params"]
    images = np.asarray(first_images(of, data, params, own))
    return Run(images, np.zeros_like(images), images)


def way(of: Any) -> str:
    """How the first images are chosen."""
    return of.f2_init if of.factor > 1 else of.initial


def first_images(of: Any, data: Examples, params: Any, own: Any) -> Any:
    """The first images; `params` are those of the network that k-means sees the real ones through."""
    if of.initial == "noise" and of.factor == 1:
        images = jax.random.normal(own, (data.classes, of.n_images, *data.image_shape), data.images.dtype)
        return jnp.clip(images / 4 + 0.5, 0, 1) if of.space == "raw" else images
    count = of.n_images * of.factor**2
    if way(of) == "kmean":
        rows = representatives(of, params, data, own, count)
    elif way(of) == "real":
        rows = class_indices(data, count, own).reshape(data.classes, count)
    else:
        rows = np.asarray([np.flatnonzero(np.asarray(data.labels) == c)[:count] for c in range(data.classes)])
    real, rows = np.asarray(data.images), np.asarray(rows)
    return np.stack([paste(real[rows[c]], of.factor, of.n_images) for c in range(data.classes)])


def representatives(of: Any, params: Any, data: Examples, key: Any, clusters: int, count: int = 1) -> Any:
    """For every class, the images nearest to the centroids of their features; rows of `data`."""
    images = standardise(data.images, None if of.kmean_space == "raw" else data.constants)
    features = np.asarray(_forward(params, images)[1][-1])
    labels = np.asarray(data.labels)
    most = max(int((labels == c).sum()) for c in range(data.classes))
    chosen = []
    for c in range(data.classes):
        rows = np.flatnonzero(labels == c)
        padded = np.concatenate([rows, np.full(most - len(rows), rows[0])])
        there = jnp.arange(most) < len(rows)
        own = jax.random.fold_in(purpose_key(key, "clusters"), c)
        centroids = np.asarray(_kmeans(jnp.asarray(features[padded]), clusters, own, mask=there).centroids)
        distances = [[float(np.sum((features[row] - centroid) ** 2)) for row in rows] for centroid in centroids]
        for nearest in np.sort(distances, axis=1):
            assert nearest[1] - nearest[0] > 1e-4 * nearest[1], "equally near: rounding decides, choose other images"
        if of.rank == "overall":
            chosen.append(rows[np.argsort(np.min(distances, 0), kind="stable")[: clusters * count]])
        else:
            chosen.append(rows[np.argsort(distances, axis=1, kind="stable")[:, :count]].ravel())
    return np.stack(chosen)


def early_stage(of: Any, data: Examples, key: Any) -> Any:
    """One of the networks trained beforehand."""
    count = len(jax.tree.leaves(data.early_networks)[0])
    which = int(jax.random.randint(purpose_key(key, "which"), (), 0, count))
    return jax.tree.map(lambda leaf: leaf[which], data.early_networks)


def perturb(of: Any, variables: Any, key: Any) -> Any:
    """theta + a_x d_x + a_y d_y; every output channel's direction as long as the channel, vectors stay."""
    moved = {}
    for layer, tensors in variables["params"].items():
        moved[layer] = dict(tensors)
        for name, weights in tensors.items():
            for axis in ("x", "y") if weights.ndim > 1 else ():
                drawing = purpose_key(purpose_key(key, axis), f"params/{layer}/{name}")
                d = np.array(jax.random.normal(drawing, weights.shape, jnp.float32), weights.dtype)
                w = np.asarray(weights)
                for j in range(w.shape[-1]):
                    d[..., j] *= np.linalg.norm(w[..., j]) / (np.linalg.norm(d[..., j]) + 1e-10)
                own = purpose_key(key, f"a_{axis}")
                sign = float(jax.random.rademacher(purpose_key(own, "sign"), (), jnp.float32))
                size = float(jax.random.uniform(purpose_key(own, "size"), (), jnp.float32, of.vmin, of.vmax))
                moved[layer][name] = moved[layer][name] + (sign * size * d).astype(w.dtype)
    return {**variables, "params": moved}

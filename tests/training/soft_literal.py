"""A student's training from soft labels, written out: epochs, rates, loss and optimiser in plain loops over float64."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np

from jaxdd.core.random import key_for


def rows(seed: int, step: int, count: int, batch: int) -> list[int]:
    """Which images step `step` shows."""
    per_epoch = math.ceil(count / batch)
    epoch, place = step // per_epoch, step % per_epoch
    order = [int(i) for i in jax.random.permutation(key_for(seed, "order", epoch), count)]
    own = order[place * batch : (place + 1) * batch]
    return [own[i % len(own)] for i in range(batch)]


def cosine(peak: float, epoch: int, epochs: int, eta: float = 1.0) -> float:
    return peak * 0.5 * (1 + math.cos(math.pi * epoch / (eta * epochs)))


def kl(logits, teacher, temperature: float):
    """Mean over images, one class after the other."""
    total = 0.0
    for z, t in zip(logits, teacher, strict=True):
        p = jnp.exp(t / temperature) / jnp.exp(t / temperature).sum()
        q = jnp.exp(z / temperature) / jnp.exp(z / temperature).sum()
        total += sum(p[k] * (jnp.log(p[k]) - jnp.log(q[k])) for k in range(len(p)))
    return total / len(logits)


def train(net, variables, teach, data, *, loss, rates, batch, micro, seed, rule, weight_decay, every, momentum=0.9):
    """The variables after one step per rate, and the mean loss before each.

    Arguments:
        teach: images -> logits.
        loss: (logits, teacher's logits, classes) -> mean.
        rule: `adamw` or `sgd`.
        every: whether tensors with one axis decay too.
    """
    images = np.asarray(data.standardise(data.images))
    losses = []
    params, tree = jax.tree.flatten(variables["params"])
    params = [np.array(leaf) for leaf in params]
    first = [np.zeros_like(leaf) for leaf in params]
    second = [np.zeros_like(leaf) for leaf in params]

    def value(params, variables, *part):
        outputs = net.apply({**variables, "params": params}, part[0], train=True)
        return loss(outputs.logits, *part[1:]), outputs.variables

    slope_of = jax.jit(jax.value_and_grad(value, has_aux=True))
    for step, rate in enumerate(rates):
        chosen = rows(seed, step, len(images), batch)
        shown, classes = jnp.asarray(images[chosen]), jnp.asarray(np.asarray(data.labels)[chosen])
        teacher = teach(shown)
        slopes, total = [np.zeros_like(leaf) for leaf in params], 0.0
        for start in range(0, batch, micro):
            part = slice(start, start + micro)
            own = jax.tree.unflatten(tree, params)
            (found, variables), slope = slope_of(own, variables, shown[part], teacher[part], classes[part])
            slopes = [s + np.asarray(g) * micro / batch for s, g in zip(slopes, jax.tree.leaves(slope), strict=True)]
            total += float(found) * micro / batch
        losses.append(total)
        for i, g in enumerate(slopes):
            decay = weight_decay if every or params[i].ndim > 1 else 0.0
            if rule == "adamw":
                params[i] = params[i] * (1 - rate * decay)
                first[i] = 0.9 * first[i] + 0.1 * g
                second[i] = 0.999 * second[i] + 0.001 * g**2
                corrected = first[i] / (1 - 0.9 ** (step + 1)), second[i] / (1 - 0.999 ** (step + 1))
                params[i] = params[i] - rate * corrected[0] / (np.sqrt(corrected[1]) + 1e-8)
            else:
                first[i] = momentum * first[i] + g + decay * params[i]
                params[i] = params[i] - rate * first[i]
        variables = {**variables, "params": jax.tree.unflatten(tree, params)}
    return variables, losses

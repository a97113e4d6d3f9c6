"""Gradient and distribution matching: DC, DSA, DM, IDC, AccDD, DREAM, DREAM+ and GA-DD are compositions of these parts.

One step is an inner iteration, at a network theta, on synthetic images S = {S_c}, one set for each class c:

    R_c    real images of the class             random, or representatives (`dream`)
    X_c    decode(S_c)                          f^2 training images from each (`core.formation`)
    L_c    D(moments(A(R_c)), moments(A(X_c)))  one augmentation A for both; gradients, mean features, or both
    S_c <- SGD(S_c, dL_c / dS_c)                class after class (`matching.momentum`)
    theta <- SGD(theta)                         on real images (IDC), on S (DC), or not at all (DM)

An outer iteration is `inner_loop` of them; it begins with S clipped to [0, 1] and a network that is new, or trained
beforehand (`accdd`), or trained for `early` epochs first. `gradient_amplification` adds shifted labels, an early exit
from them, features in a second stage, and an average of S as the result.

| method        | R_c             | L_c                 | network                      | source     |
|---------------|-----------------|---------------------|------------------------------|------------|
| `dc`, `dsa`   | random          | gradients, `ours`   | new; trained on S            | 2006.05929, 2102.08259 |
| `dm`          | random          | last features       | new in every step, untrained | 2110.04181 |
| `idc`         | random          | gradients           | new; trained on real images  | 2205.14959 |
| `accdd`       | random          | gradients           | pretrained, perturbed        | 2212.06152 |
| `dream`       | representatives | gradients           | as IDC                       | 2302.14416 |
| `dream_plus`  | representatives | gradients, features | as IDC, after an epoch       | 2310.15052 |
| `ga`          | representatives | both, in two stages | as AccDD                     | 10.1016/j.neunet.2025.107819 |

Other combinations of the settings are possible too. From the authors' code differs: real images are independent draws
without replacement, not a shuffled cycle; nothing depends on the order of calls to a global random generator. With
batch normalisation networks normalise by each batch's own statistics in all methods; DC's code does it in another way.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdd.augment import cutmix
from jaxdd.core import formation, sharding
from jaxdd.core.distilled import Decode, DistilledSet, Space
from jaxdd.core.procedure import BatchRule, Demand, Event, Implied, Method, Part, in_parts
from jaxdd.core.random import purpose_key
from jaxdd.core.types import Array, Examples, Key, Metrics, PyTree
from jaxdd.methods.condensation import accdd, draws, dream, gradient_amplification, published
from jaxdd.methods.condensation.settings import ARCHITECTURES, CondensationSettings
from jaxdd.methods.condensation.state import CondensationState
from jaxdd.methods.condensation.sweep import memory_of_class, sweep, together
from jaxdd.training import sgd

SYNTHETIC_BATCH = 256  # of DC's network training on the synthetic set
NEVER_AGAIN = 2**31 - 1  # period of what happens before the first step only


@dataclasses.dataclass(frozen=True)
class Condensation(CondensationSettings, Method[CondensationState]):
    """The functions of the matching methods; their settings are the fields of `CondensationSettings`."""

    @property
    def family(self) -> str:
        """The family whose normalisation constants it uses, IDC's or DC's."""
        return "idc" if self.space == "raw" else "dc"

    @property
    def kind(self) -> Space:
        """The space that `space` names; raw images are standardised on their way into a network."""
        return self.space

    @property
    def batch_rule(self) -> BatchRule:
        """The whole data set: a step draws itself what it reads."""
        return BatchRule("all")

    @classmethod
    def implied(cls, values: Mapping[str, Any]) -> Implied:
        """Returns the settings that the method's name, the data set and the number of images imply (`published`)."""
        return published.implied(values)

    def describe(self, image_shape: tuple[int, int, int], classes: int) -> str:
        """Describes its networks and what is matched."""
        what = {
            "grad": f"gradients ({self.metric})",
            "feat": "features",
            "bi_match": f"gradients and features ({self.metric})",
        }
        which = {"random": "random images", "kmean": "representatives"}[self.selection]
        network = f"{self.network(image_shape, classes)}, {self.norm_type} norm"
        return f"{network}; matches {what[self.match]} of {self.batch_real} {which} per class"

    @property
    def protocol(self) -> str:
        """IDC's protocol, or DC's."""
        return self.family

    def recipe(self, protocol: str) -> dict[str, Any]:
        """Returns size, architecture and normalisation of its networks; for DC's protocol, the augmentation too."""
        recipe = super().recipe(protocol)
        recipe |= {} if self.net_type == "convnet" else {"eval_arch": ARCHITECTURES.get(self.net_type, self.net_type)}
        recipe |= {} if self.norm_type == "instance" else {"normalization": self.norm_type}
        return recipe | ({"dsa_strategy": self.aug_type} if self.aug_type and protocol == "dc" else {})

    def demand(self, image_shape: tuple[int, int, int], classes: int) -> Demand:
        """Returns the memory for matching the classes that go together."""
        k = together(self, image_shape, classes)
        note = f"{k} of {classes} classes at a time" if 1 < k < classes else ""
        needed = -(-k // sharding.ways()) * memory_of_class(self, image_shape, classes)
        return Demand(needed, note, "lower batch_real, batch_syn_max or width, or set precision=bfloat16")

    def init(self, key: Key, data: Examples) -> CondensationState:
        """Returns the state at a new network, with the first images that the settings name."""
        classes, dtype = data.classes, data.dtype
        theta = sgd.fresh(self.network(data.image_shape, classes), purpose_key(key, "network"), dtype)
        images = self._first_images(theta.variables, data, purpose_key(key, "synthetic"))
        rows = self._network_steps(data) * self.batch_real if self.train_on == "real" else 0
        return CondensationState(
            step=jnp.zeros((), jnp.int32),
            images=images,
            buffer=jnp.zeros_like(images),
            average=images if self.ema_decay else None,
            network=theta,
            matched=jnp.zeros((classes, self.batch_real), jnp.int32),
            trained=jnp.zeros(rows, jnp.int32),
            stage=gradient_amplification.begin(self, dtype),
            losses=jnp.zeros(2, dtype),
        )

    def events(self, data: Examples) -> tuple[Event, ...]:
        """Returns what happens at the start of outer iterations, and when representatives are chosen."""
        epoch = -(-len(data) // self.batch_real)
        span = self.inner_loop * self.fix_iter
        events = [Event("outer iteration", self.inner_loop, self.begin_outer), Event("network", span, self.renew)]
        if self.early:
            events.append(Event("early training", span, self.train_early, self.early * epoch))
        if self.early and self.embeds_first_images:  # by a network that has trained
            events.append(Event("first images", NEVER_AGAIN, self.start_anew))
        if self.selection == "kmean":
            events.append(Event("representatives", min(self.interval, self.inner_loop), self.choose))
        return tuple(events)

    def parts(self, data: Examples) -> tuple[Part, ...]:
        """Returns the parts: random choices, the sweep over the classes, the network's training."""
        turns = data.classes // together(self, data.image_shape, data.classes)
        parts = [Part("draw", 1, self.draw), Part("match", turns, self.match_classes)]
        if self.averages == "inner":
            parts.append(Part("average", 1, self.average))
        if count := self._network_steps(data):
            parts.append(Part("train", count, self.train))
        return tuple(parts)

    def step(self, state: CondensationState, batch: Examples, key: Key) -> tuple[CondensationState, Metrics]:
        """Makes one inner iteration; `batch` is the whole data set."""
        return in_parts(self, state, batch, key)

    def metrics(self, state: CondensationState) -> Metrics:
        """Returns the matching loss per class."""
        classes = len(state.images)
        shifted = {"shifted_loss": state.losses[1] / classes} if self.shifts_labels else {}
        return {"loss": state.losses[0] / classes, **shifted}

    def result(self, state: CondensationState) -> DistilledSet:
        """Returns the images, or their average where there is one, clipped to what can be shown; labels are one-hot."""
        images = np.asarray(state.images if state.average is None else state.average, np.float32)
        images = np.clip(images, 0, 1) if self.space == "raw" else images
        classes = len(images)
        labels = np.repeat(np.eye(classes, dtype=np.float32), self.n_images, axis=0)
        how = "multi" if self.decode_type == "multi" else "single"
        return DistilledSet(images.reshape(-1, *images.shape[2:]), labels, decode=Decode(False, self.factor, how))

    def begin_outer(self, state: CondensationState, data: Examples, key: Key) -> CondensationState:
        """Clips raw images to [0, 1], and leaves the first stage where it ends."""
        images = jnp.clip(state.images, 0, 1) if self.space == "raw" else state.images
        stage = gradient_amplification.advance(self, state.stage, state.step // self.inner_loop)
        return state._replace(images=images, stage=stage)

    def renew(self, state: CondensationState, data: Examples, key: Key) -> CondensationState:
        """Takes a new network, or another one trained beforehand, with no momentum."""
        variables = self.network(data.image_shape, data.classes).init(key, state.images.dtype)
        if self.source == "pretrained":
            variables = accdd.early_stage(self, key, data, variables)
        return state._replace(network=sgd.at_rest(variables))

    def train_early(self, state: CondensationState, data: Examples, key: Key) -> CondensationState:
        """Trains a new network for one step on random real images."""
        rows = jax.random.randint(purpose_key(key, "rows"), (self.batch_real,), 0, len(data))
        return self._train(state, data, rows, key)

    def start_anew(self, state: CondensationState, data: Examples, key: Key) -> CondensationState:
        """Chooses the first images again, by the network as it is now."""
        images = self._first_images(state.network.variables, data, key)
        return state._replace(images=images, average=None if state.average is None else images)

    def choose(self, state: CondensationState, data: Examples, key: Key) -> CondensationState:
        """Chooses the representatives of every class by the current network."""
        network = self.network(data.image_shape, data.classes)
        return state._replace(matched=dream.choose(self, network, state.network.variables, data, key))

    def draw(self, state: CondensationState, data: Examples, key: Key, index: Array) -> CondensationState:
        """Draws the real images of this step, and counts the step."""
        matched = draws.to_match(self, data, key) if self.selection == "random" else state.matched
        trained = draws.to_train(data, key, len(state.trained))
        nothing = jnp.zeros_like(state.losses)
        return state._replace(step=state.step + 1, matched=matched, trained=trained, losses=nothing)

    def match_classes(self, state: CondensationState, data: Examples, key: Key, index: Array) -> CondensationState:
        """Takes the steps of some of the classes."""
        return sweep(self, state, data, key, index)

    def train(self, state: CondensationState, data: Examples, key: Key, index: Array) -> CondensationState:
        """Trains the network for one step, on real images or on the synthetic ones."""
        key = jax.random.fold_in(key, index)
        if self.train_on == "real":
            rows = jax.lax.dynamic_slice_in_dim(state.trained, index * self.batch_real, self.batch_real)
            return self._train(state, data, rows, key)
        decode = lambda own: formation.decode(own, self.factor, self.decode_type, bound=self.batch_syn_max)  # noqa: E731
        decoded = jax.vmap(decode)(state.images)
        images = decoded.reshape(-1, *data.image_shape)
        labels = jnp.repeat(jnp.arange(data.classes, dtype=jnp.int32), decoded.shape[1])
        kept = draws.some_of(len(images), SYNTHETIC_BATCH, purpose_key(key, "rows"))
        rows = jnp.arange(len(images)) if kept is None else kept
        return self._train(state, dataclasses.replace(data, images=images, labels=labels), rows, key)

    def average(self, state: CondensationState, data: Examples, key: Key, index: Array) -> CondensationState:
        """Moves the average of the images, after a sweep over all classes."""
        assert state.average is not None
        kept = self.ema_decay * state.average + (1 - self.ema_decay) * state.images
        return state._replace(average=kept)

    def _first_images(self, variables: PyTree, data: Examples, key: Key) -> Array:
        if self.source == "pretrained" and data.early_networks is not None:
            variables = accdd.one_of(data.early_networks, purpose_key(key, "network"))
        network = self.network(data.image_shape, data.classes)
        images = draws.first_images(self, network, variables, data, key)
        return images.reshape(data.classes, self.n_images, *data.image_shape)

    def _train(self, state: CondensationState, data: Examples, rows: Array, key: Key) -> CondensationState:
        network = self.network(data.image_shape, data.classes)
        augment = self.augmentation(self.net_aug, data.image_shape[0], siamese=False)
        images = augment(purpose_key(key, "augment"), data.standardise(data.take(rows)))
        targets = jax.nn.one_hot(data.labels[rows], data.classes, dtype=images.dtype)
        if self.mixup_net == "cut" and self.mix_p:
            mixing = purpose_key(key, "mix")
            images, targets = cutmix(mixing, images, targets, probability=self.mix_p, beta=self.beta)
        rates = {"learning_rate": self.lr, "momentum": self.momentum, "weight_decay": self.weight_decay}
        return state._replace(network=sgd.update(network, state.network, images, targets, **rates)[0])

    def _network_steps(self, data: Examples) -> int:
        """Returns how many steps the network trains after each matching; 0 where the next meets a new network."""
        if self.inner_loop * self.fix_iter == 1:
            return 0
        count, size = self.n_data, self.batch_real
        if self.train_on == "synthetic":
            decoded = formation.sources(self.n_images, self.factor, self.decode_type, bound=self.batch_syn_max)
            count, size = len(decoded) * data.classes, SYNTHETIC_BATCH
        return self.net_epoch * -(-count // size)

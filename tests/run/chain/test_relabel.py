"""Labels on disk: their size, what a kill or a flipped bit does to them, and that a student cannot tell."""

import dataclasses
import functools
import json

import jax
import numpy as np
import pytest
import safetensors.numpy

from jaxdd import data as data_room
from jaxdd.core import backend, io
from jaxdd.core.distilled import DistilledSet
from jaxdd.core.errors import CheckpointError, UsageError
from jaxdd.data.streaming import Stream
from jaxdd.evaluation import protocol
from jaxdd.evaluation.students import SoftRecipe
from jaxdd.run import loop
from jaxdd.run.chain.relabel import Relabelling, store_bytes
from jaxdd.run.control import Control, Reporter, Stopped

pytestmark = pytest.mark.quick

GIB = 2**30
RECIPE = SoftRecipe(
    eval_arch="conv", width=2, depth=1, epochs=3, batch_size=4, models_to_test=1, tests=1, label_seed=42, half=True
)


@functools.cache
def small():
    """Random images of three classes, and a network that labels them."""
    rng = np.random.default_rng(0)
    arrays = [(rng.integers(0, 256, (n, 8, 8, 1), np.uint8), np.arange(n, dtype=np.int32) % 3) for n in (30, 12)]
    dataset = data_room.Dataset.of_arrays(*arrays[0], *arrays[1], name="random")
    network = RECIPE.network(dataset.image_shape, 3)
    return dataset, data_room.fit(dataset, family="sre2l", kind="raw"), network, network.init(jax.random.key(5))


def relabelling(keep: int | None = None, **changes) -> Relabelling:
    dataset, preprocessing, network, variables = small()
    order = np.argsort(dataset.train_labels[:9], kind="stable")
    distilled = DistilledSet(
        dataset.train_images[:9][order],
        dataset.train_labels[:9][order],
        dataset=dataset.name,
        class_names=dataset.class_names,
        preprocessing=preprocessing.describe(),
    )
    recipe = dataclasses.replace(RECIPE, teachers=(network,), **changes)
    return Relabelling(recipe, distilled, preprocessing, (variables,), keep)


def student(given: Relabelling, labels: Stream | None = None) -> list[np.ndarray]:
    """The variables of a student."""
    found = []

    def run(procedure, data, *, steps, seed, stream=None):
        assert stream is labels
        found.append(loop.run(procedure, data, steps=steps, seed=seed, stream=stream))
        return found[-1]

    options = {"run": run, "seed": 0, "baselines": (), "teachers": given.networks, "labels": labels}
    dataset, preprocessing, *_ = small()
    protocol.evaluate(given.distilled, dataset, preprocessing, given.recipe, **options)
    return jax.tree.leaves(found[0])


class Told(Reporter):
    """Remembers the epochs that were labelled, and warnings."""

    def __init__(self, heard: list):
        self.heard = heard

    def ends(self, piece, facts):
        self.heard.append(facts["number"])

    def warning(self, text):
        self.heard.append(text)


class TestSizes:
    def test_imagenet_at_50_images_per_class_and_300_epochs_fits_into_28_gib(self):
        assert pytest.approx(27.94, abs=0.005) == 50_000 * 300 * 1_000 * 2 / GIB
        assert 50_000 * 300 * 1_000 * 2 < store_bytes(50_000, 300, 1_000) <= 28.0 * GIB
        pool, pruned = store_bytes(50_000, 30, 1_000), store_bytes(50_000, 30, 1_000, keep=100)
        assert 300 / 30 * pool == pytest.approx(store_bytes(50_000, 300, 1_000), rel=1e-3)
        assert pruned == pytest.approx(store_bytes(50_000, 300, 1_000) / 50, rel=1e-3)  # ids take as much as logits

    @pytest.mark.parametrize("keep", [None, 2])
    def test_a_shard_holds_exactly_what_is_predicted_and_the_folder_no_more(self, keep, tmp_path):
        given = relabelling(keep)
        given.make(tmp_path)
        payload = 9 * (3 * 2 if keep is None else keep * 4)  # in batches of four: the last one repeats its own view
        for epoch in range(3):
            raw = (tmp_path / f"epoch-{epoch:03d}.safetensors").read_bytes()
            assert len(raw) - 8 - int.from_bytes(raw[:8], "little") == payload
        written = sum(path.stat().st_size for path in tmp_path.iterdir() if path.name != ".lock")
        assert 3 * payload < written <= given.bytes == store_bytes(9, 3, 3, keep=keep)

    @pytest.mark.slow
    def test_a_teacher_that_is_asked_stores_nothing(self):
        assert student(relabelling()) and store_bytes(50_000, 0, 1_000) < 2**15


class TestStore:
    @pytest.mark.slow
    def test_a_student_that_reads_is_bit_equal_to_one_that_asks(self, tmp_path):
        if not backend.on_cpu():
            pytest.skip("bit-equal on CPU")
        given = relabelling()
        labels = given.make(tmp_path)
        for path in labels.files:
            told = {name: (a.shape, str(a.dtype)) for name, a in safetensors.numpy.load_file(path).items()}
            assert told == {"logits": ((9, 3), "float16")}
        for asked, read in zip(student(given), student(given, labels), strict=True):
            np.testing.assert_array_equal(asked, read)
        moved = dataclasses.replace(labels, files=labels.files[::-1])
        assert any((a != b).any() for a, b in zip(student(given), student(given, moved), strict=True))

    def test_a_batch_is_the_labels_of_its_views_and_one_file_is_read_for_it(self, tmp_path):
        given = relabelling()
        labels = given.make(tmp_path)
        first = safetensors.numpy.load_file(labels.files[1])["logits"]
        np.testing.assert_array_equal(labels.batch(4)["answers"].logits, first[4:8])
        np.testing.assert_array_equal(labels.batch(5)["answers"].logits, first[[8, 8, 8, 8]])
        assert labels.nbytes == sum(path.stat().st_size for path in labels.files)
        for path in (labels.files[0], labels.files[2]):
            path.unlink()
        assert labels.batch(3)["answers"].classes is None
        with pytest.raises(CheckpointError, match="run relabel again"):
            labels.batch(0)

    def test_a_stop_keeps_finished_epochs_which_are_never_made_again(self, tmp_path):
        whole, heard = relabelling().make(tmp_path / "whole"), []
        calls = iter(range(100))

        def stop():
            return 15 if next(calls) >= 5 else None  # in the second epoch

        with pytest.raises(Stopped):
            relabelling().make(tmp_path / "cut", Control(Told(heard), stop))
        assert heard == [0]
        with pytest.raises(CheckpointError, match="2 of 3 epochs are not labelled yet, the first is 1"):
            relabelling().read(tmp_path / "cut")
        first = (tmp_path / "cut" / "epoch-000.safetensors").stat()
        relabelling().make(tmp_path / "cut", Control(Told(heard)))
        assert heard == [0, 1, 2]
        assert (tmp_path / "cut" / "epoch-000.safetensors").stat().st_mtime_ns == first.st_mtime_ns
        for path in whole.folder.glob("*.*s*"):
            assert path.read_bytes() == (tmp_path / "cut" / path.name).read_bytes()

    def test_a_flipped_bit_is_found_and_only_that_epoch_is_made_again(self, tmp_path):
        given = relabelling()
        given.make(tmp_path)
        path = tmp_path / "epoch-001.safetensors"
        before = path.read_bytes()
        path.write_bytes(before[:-3] + bytes([before[-3] ^ 4]) + before[-2:])
        with pytest.raises(CheckpointError, match="damaged"):
            given.read(tmp_path)
        heard = []
        given.make(tmp_path, Control(Told(heard)))
        assert heard[1:] == [1] and "epoch 1" in heard[0]
        assert path.read_bytes() == before

    @pytest.mark.parametrize("changes", [{"label_seed": 43}, {"mix": "none"}, {"batch_statistics": True}])
    def test_labels_of_another_recipe_are_refused(self, changes, tmp_path):
        relabelling().make(tmp_path)
        (name,) = changes
        for act in (relabelling(**changes).read, relabelling(**changes, epochs=2).make):
            with pytest.raises(CheckpointError, match=f"other labels\n.*{name}"):
                act(tmp_path)
        assert json.loads((tmp_path / "epochs.json").read_text())["epochs"] == RECIPE.epochs

    def test_labels_by_another_teacher_or_of_another_set_are_refused(self, tmp_path):
        given = relabelling()
        given.make(tmp_path)
        other = jax.tree.map(lambda leaf: leaf + 1, given.networks)
        turned = given.distilled.replace(images=given.distilled.images[::-1])
        for changed, named in (({"networks": other}, "teachers"), ({"distilled": turned}, "set.digest")):
            with pytest.raises(CheckpointError, match=named):
                dataclasses.replace(given, **changed).read(tmp_path)

    @pytest.mark.slow
    def test_pruned_labels_are_the_largest_logits_and_their_classes(self, tmp_path):
        given = relabelling(2)
        both = [r.make(tmp_path / str(r.keep)) for r in (relabelling(), given)]
        full, some = (safetensors.numpy.load_file(labels.files[2]) for labels in both)
        largest = np.sort(full["logits"], axis=-1)[..., -2:]
        np.testing.assert_array_equal(np.sort(some["logits"], axis=-1), largest)
        np.testing.assert_array_equal(
            np.take_along_axis(full["logits"], some["classes"].astype(int), -1), some["logits"]
        )
        assert all(np.isfinite(leaf).all() for leaf in student(given, both[1]))

    @pytest.mark.slow
    @pytest.mark.parametrize("replacement", [False, True])
    def test_a_pool_is_labelled_once_and_used_in_every_epoch(self, replacement, tmp_path):
        given = relabelling(pool=2, epochs=4, replacement=replacement)
        labels = given.make(tmp_path)
        assert len(labels.files) == 2
        for asked, read in zip(student(given), student(given, labels), strict=True):
            np.testing.assert_array_equal(asked, read)

    @pytest.mark.slow
    def test_students_that_are_trained_at_once_read_the_same_labels(self, tmp_path, monkeypatch):
        given = relabelling(models_to_test=2)
        labels = given.make(tmp_path)
        monkeypatch.setattr(backend, "maps_networks", lambda: True)
        for asked, read in zip(student(given), student(given, labels), strict=True):
            assert len(read) == 2 and (read[0] != read[1]).any()
            np.testing.assert_allclose(asked, read, rtol=1e-4, atol=1e-5)

    def test_what_cannot_be_stored_is_refused(self, tmp_path):
        with pytest.raises(UsageError, match="of a seed"):
            relabelling(label_seed=None)
        with pytest.raises(UsageError, match="4 logits"):
            relabelling(4)
        huge = jax.tree.map(lambda leaf: leaf * 1e6, relabelling().networks)
        with pytest.raises(CheckpointError, match="not finite as a float16"):
            dataclasses.replace(relabelling(), networks=huge).make(tmp_path)
        assert not (tmp_path / "manifest.json").exists()

    def test_the_manifest_tells_and_the_shard_is_plain(self, tmp_path):
        relabelling().make(tmp_path)
        told = json.loads((tmp_path / "manifest.json").read_text())
        assert told["recipe"]["label_seed"] == 42 and list(told["epochs"]) == ["0", "1", "2"]
        assert set(safetensors.numpy.load((tmp_path / "epoch-000.safetensors").read_bytes())) == {"logits"}


def test_labels_of_the_older_format_are_read_and_unfinished_ones_are_refused(tmp_path):
    given = relabelling()
    given.make(tmp_path)
    path = tmp_path / "manifest.json"
    content = io.read_json(path)  # without its checksum, which the older one did not have
    content["teachers"] = [{**each, "network": str(small()[2])} for each in content["teachers"]]
    path.write_text(json.dumps({**content, "jaxdd_labels": 2}))
    assert given.read(tmp_path).digest
    given.make(tmp_path)  # nothing is left to do
    del content["epochs"]["1"]
    path.write_text(json.dumps({**content, "jaxdd_labels": 2}))
    with pytest.raises(CheckpointError, match=r"(?s)format 2.*format 3"):
        given.make(tmp_path)

"""The artefact on disk: what is saved comes back, and damage is found."""

import json
import shutil

import jax.numpy as jnp
import numpy as np
import pytest

from jaxdd.core import distilled, io
from jaxdd.core.distilled import Decode, DistilledSet
from jaxdd.core.errors import CheckpointError
from jaxdd.core.types import Examples

pytestmark = pytest.mark.quick


def example(**changes) -> DistilledSet:
    """A small set with every field."""
    random = np.random.default_rng(0)
    fields = {
        "images": random.normal(size=(4, 3, 3, 1)).astype(np.float32),
        "labels": random.normal(size=(4, 2)).astype(np.float32),
        "space": "standardised",
        "log_temperature": 0.25,
        "decode": Decode(flip=True),
        "pixels": random.uniform(size=(4, 3, 3, 1)).astype(np.float32),
        "dataset": "digits",
        "class_names": ("nought", "one"),
        "preprocessing": {"digest": "ab", "mean": [0.5]},
        "recipe": {"width": 4},
        "provenance": {"seed": 3},
    }
    return DistilledSet(**{**fields, **changes})


def assert_equal(found: DistilledSet, expected: DistilledSet):
    for name, value in vars(expected).items():
        if isinstance(value, np.ndarray):
            np.testing.assert_array_equal(getattr(found, name), value)
        else:
            assert getattr(found, name) == value, name


@pytest.mark.parametrize("changes", [{}, {"pixels": None, "class_names": (), "decode": Decode()}], ids=["all", "few"])
def test_everything_comes_back_from_folder_and_manifest(changes, tmp_path):
    saved = example(**changes)
    assert saved.save(tmp_path / "set") == tmp_path / "set"
    assert_equal(DistilledSet.load(tmp_path / "set"), saved)
    assert_equal(DistilledSet.load(tmp_path / "set" / "manifest.json"), saved)


@pytest.mark.parametrize("name", ["run[1]*", "数据", 'it\'s "q"', "back\\slash", "\udcca\udcfd", "x" * 255])
def test_a_folder_by_any_name(name, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for changed, folder in enumerate((f"~/{name}", name, tmp_path / name)):
        saved = example(log_temperature=float(changed))
        assert saved.save(folder) == tmp_path / name
        assert_equal(DistilledSet.load(folder), saved)
    assert len(list((tmp_path / name).iterdir())) == 2


def test_saving_again_leaves_one_shard_that_of_the_new_set(tmp_path):
    example().save(tmp_path)
    changed = example(images=np.ones((4, 3, 3, 1), np.float32))
    changed.save(tmp_path)
    assert len(list(tmp_path.glob("*.safetensors"))) == 1
    assert_equal(DistilledSet.load(tmp_path), changed)


class TestForeignFiles:
    """What a folder holds beside a set: no manifest names it, so nothing may remove it."""

    @pytest.mark.parametrize("name", ["data-embeddings.safetensors", "data-0123456789ab.safetensors", "notes.txt"])
    def test_they_stay_whenever_a_set_is_written_there(self, name, tmp_path):
        (tmp_path / name).write_bytes(b"a user's own")
        example().save(tmp_path)
        example(images=np.ones((4, 3, 3, 1), np.float32)).save(tmp_path)
        assert (tmp_path / name).read_bytes() == b"a user's own" and len(list(tmp_path.iterdir())) == 3

    def test_a_manifest_that_names_one_of_them_does_not_make_it_a_shard(self, tmp_path):
        (tmp_path / "notes.txt").write_text("a user's own")
        example().save(tmp_path)
        path = tmp_path / "manifest.json"
        manifest = json.loads(path.read_text())
        manifest["shards"][0]["file"] = "notes.txt"
        path.write_text(json.dumps(manifest))
        example(images=np.ones((4, 3, 3, 1), np.float32)).save(tmp_path)
        assert (tmp_path / "notes.txt").exists()

    @pytest.mark.parametrize("text", ["{", "[]", '{"jaxdd_format": 1}', '{"jaxdd_format": 1, "shards": [7]}', "{}"])
    def test_a_damaged_manifest_names_nothing_and_is_replaced(self, text, tmp_path):
        shard = example().save(tmp_path) / "data-embeddings.safetensors"
        shard.write_bytes(b"")
        (tmp_path / "manifest.json").write_text(text)
        example().save(tmp_path)
        assert shard.exists()
        assert_equal(DistilledSet.load(tmp_path), example())


def test_equal_sets_give_equal_files(tmp_path):
    for name in ("a", "b"):
        example().save(tmp_path / name)
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


def test_decoding_appends_mirror_images_with_the_same_labels():
    images, labels = example().decoded()
    np.testing.assert_array_equal(images[4:], images[:4, :, ::-1])
    np.testing.assert_array_equal(labels[4:], labels[:4])
    assert len(example(decode=Decode()).decoded()[0]) == 4
    assert (len(example()), example().classes, example().ipc) == (4, 2, 2)


class TestCompact:
    """uint8 images and class indices: smaller, and the same to everybody who does not ask for them."""

    def compact(self, **changes) -> DistilledSet:
        pixels = np.random.default_rng(1).integers(0, 256, (4, 3, 3, 1), np.uint8)
        fields = {"images": pixels, "labels": np.array([0, 0, 1, 1], np.int32), "space": "raw", "pixels": None}
        return example(**{**fields, **changes})

    @pytest.mark.parametrize("labels", [np.array([0, 0, 1, 1], np.int32), np.eye(2, dtype=np.float32)[[0, 0, 1, 1]]])
    def test_they_come_back_as_they_are(self, labels, tmp_path):
        given = self.compact(labels=labels)
        found = DistilledSet.load(given.save(tmp_path))
        assert_equal(found, given)
        assert (found.images.dtype, found.labels.dtype) == (np.uint8, labels.dtype)
        assert (found.classes, found.ipc) == (2, 2)
        np.testing.assert_array_equal(found.class_indices, [0, 0, 1, 1])

    def test_the_file_is_a_quarter_of_that_of_floats(self, tmp_path):
        images = np.zeros((4, 64, 64, 3), np.uint8)
        sizes = []
        for name, array in (("bytes", images), ("floats", images.astype(np.float32))):
            (shard,) = self.compact(images=array).save(tmp_path / name).glob("*.safetensors")
            sizes.append(shard.stat().st_size)
        assert 3.9 < sizes[1] / sizes[0] < 4

    def test_decoded_they_are_floats_and_one_hot(self):
        given = self.compact()
        images, labels = given.decoded()
        assert images.dtype == labels.dtype == np.float32
        np.testing.assert_array_equal(
            images[:4], np.asarray(Examples(jnp.asarray(given.images), jnp.asarray(given.labels), 2).take(slice(None)))
        )
        np.testing.assert_array_equal(images[4:], images[:4, :, ::-1])
        np.testing.assert_array_equal(labels[:4], np.eye(2)[[0, 0, 1, 1]])
        np.testing.assert_array_equal(given.colours, images[:4])

    def test_who_asks_gets_them_as_they_are(self):
        given = self.compact()
        images, labels = given.decoded(compact=True)
        assert images.dtype == np.uint8 and labels.shape == (8,)
        np.testing.assert_array_equal(images[4:], given.images[:, :, ::-1])
        enlarged, _ = self.compact(images=np.zeros((4, 4, 4, 1), np.uint8), decode=Decode(factor=2)).decoded(
            compact=True
        )
        assert enlarged.dtype == np.float32 and len(enlarged) == 16

    def test_a_large_set_is_written_as_several_shards_of_consecutive_images(self, tmp_path, monkeypatch):
        given = self.compact(images=np.arange(10 * 12, dtype=np.uint8).reshape(10, 2, 2, 3), labels=np.arange(10) % 2)
        monkeypatch.setattr(distilled, "SHARD_BYTES", 4 * (12 + 8))
        given.save(tmp_path)
        entries = json.loads((tmp_path / "manifest.json").read_text())["shards"]
        assert [entry["shapes"]["images"][0] for entry in entries] == [4, 4, 2]
        assert_equal(DistilledSet.load(tmp_path), given)
        monkeypatch.undo()
        given.save(tmp_path)
        assert len(list(tmp_path.glob("*.safetensors"))) == 1
        assert_equal(DistilledSet.load(tmp_path), given)

    def test_a_manifest_that_names_no_types_means_floats(self, tmp_path):
        example().save(tmp_path)
        path = tmp_path / "manifest.json"
        manifest = io.read_json(path)  # without its checksum, which the older one did not have
        del manifest["shards"][0]["types"]
        path.write_text(json.dumps(manifest))
        assert_equal(DistilledSet.load(tmp_path), example())
        self.compact().save(tmp_path)
        manifest = io.read_json(path)
        manifest["shards"][0]["types"]["images"] = "float32"
        io.write_json(path, manifest)
        assert "float32" in refuse(tmp_path).expected

    @pytest.mark.parametrize(
        "changes",
        [
            {"space": "standardised"},
            {"labels": np.array([0, 0, 1, 2], np.int32)},
            {"labels": np.array([0, -1, 1, 1], np.int32)},
            {"labels": np.zeros(4, np.int32), "class_names": ()},
            {"labels": np.zeros(4, np.float32)},
        ],
        ids=["space", "too large", "negative", "no names", "floats"],
    )
    def test_what_makes_no_sense_is_refused_at_once(self, changes):
        with pytest.raises(CheckpointError):
            self.compact(**changes)


@pytest.fixture
def saved(tmp_path):
    """A saved set whose shard can be damaged."""
    folder = example().save(tmp_path / "set")
    (shard,) = folder.glob("*.safetensors")
    return folder, shard


def refuse(folder) -> CheckpointError:
    with pytest.raises(CheckpointError) as refusal:
        DistilledSet.load(folder)
    return refusal.value


class TestDamage:
    def test_a_shard_that_is_not_what_the_manifest_says_is_never_read(self, saved):
        """What else `core.shards` finds is in its own tests."""
        folder, shard = saved
        whole = bytearray(shard.read_bytes())
        whole[-3] ^= 4
        shard.write_bytes(whole)
        assert "sha256" in refuse(folder).expected and str(shard) in refuse(folder).where
        shard.unlink()
        assert "missing" in refuse(folder).what and "copy the whole folder" in refuse(folder).remedy

    def test_a_flipped_bit_of_the_manifest_is_refused(self, saved):
        """Where JSON has two words for one thing (1e-05 and 1E-05), the very same set may come of it."""
        folder, _ = saved
        path = folder / "manifest.json"
        whole = path.read_bytes()
        for position in range(len(whole)):
            damaged = bytearray(whole)
            damaged[position] ^= 1 << (position % 8)
            path.write_bytes(damaged)
            try:
                assert_equal(DistilledSet.load(folder), example())
            except CheckpointError:
                continue
            assert whole[position : position + 1] in b"eE", position

    def test_a_manifest_of_before_has_no_checksum_and_is_read(self, saved):
        folder, _ = saved
        path = folder / "manifest.json"
        path.write_text(json.dumps(io.read_json(path), indent=2))
        assert "sha256" not in json.loads(path.read_text())
        assert_equal(DistilledSet.load(folder), example())

    def test_a_missing_manifest_or_folder(self, saved):
        folder, _ = saved
        (folder / "manifest.json").unlink()
        assert "not found" in refuse(folder).what
        shutil.rmtree(folder)
        refuse(folder)

    @pytest.mark.parametrize(
        "change",
        [
            {"jaxdd_format": 99},
            {"shards": []},
            {"shards": None},
            {"shards": [{}]},
            {"shards": [7]},
            {"decode": {"spin": True}},
            {"decode": None},
            {"class_names": None},
            {"space": "hyper"},
            {"log_temperature": "hot"},
        ],
        ids=str,
    )
    def test_a_garbled_manifest(self, saved, change):
        folder, _ = saved
        io.write_json(folder / "manifest.json", {**io.read_json(folder / "manifest.json"), **change})
        assert "manifest.json" in refuse(folder).where

    def test_shapes_that_are_not_those_of_the_manifest(self, saved):
        folder, _ = saved
        manifest = io.read_json(folder / "manifest.json")
        manifest["shards"][0]["shapes"]["images"] = [4, 9, 1, 1]
        io.write_json(folder / "manifest.json", manifest)
        assert "images" in refuse(folder).what


@pytest.mark.parametrize("name", ["images", "labels", "pixels", "log_temperature"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_value_that_is_not_finite_is_never_written(name, value, tmp_path):
    bad = value if name == "log_temperature" else np.full_like(getattr(example(), name), value)
    with pytest.raises(CheckpointError, match="not finite"):
        example(**{name: bad}).save(tmp_path / "set")
    assert not (tmp_path / "set").exists()


def test_shapes_that_do_not_fit_are_refused_at_once():
    for changes in ({"images": np.zeros((4, 3, 3))}, {"labels": np.zeros(4)}, {"labels": np.zeros((3, 2))}):
        with pytest.raises(CheckpointError, match="do not fit"):
            example(**changes)

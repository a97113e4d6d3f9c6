"""The driver of the recovery: chunks, shards, kills, merging, and what is refused."""

import dataclasses
import itertools
import json
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pytest

from jaxdd.core.distilled import DistilledSet
from jaxdd.core.errors import CheckpointError, ConfigError, UsageError
from jaxdd.core.shards import Pieces
from jaxdd.data.readers import images as decoding
from jaxdd.methods.recovery.chunks import Chunk, chunks, require_complete, share
from jaxdd.publish import image_folder
from jaxdd.run.chain.pieces import INITIAL, merge
from jaxdd.run.control import Control, Reporter, Stopped
from tests.limits import TIMEOUT
from tests.run.chain.tiny import CLASSES, IPC, SIDE, dataset, recovering

DRIVER = pathlib.Path(__file__).with_name("driver.py")


class Heard(Reporter):
    """Remembers the chunks that were made, and those that began with their numbers."""

    def __init__(self, made: list | None = None, begun: list | None = None):
        self.made, self.begun = [] if made is None else made, [] if begun is None else begun

    def begins(self, piece, number, pieces):
        if isinstance(piece, Chunk):
            self.begun.append((piece, number, pieces))

    def ends(self, piece, facts):
        self.made.append(piece)


def pieces_of(folder: pathlib.Path) -> dict[str, bytes]:
    """Every safetensors file of a recovered folder by its name, initial images included."""
    return {path.name: path.read_bytes() for path in sorted(folder.rglob("*.safetensors"))}


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> pathlib.Path:
    """A recovery that nothing disturbed."""
    folder = tmp_path_factory.mktemp("whole") / "recovered"
    recovering().recover(folder)
    return folder


class TestChunks:
    def test_indices_are_outside_and_classes_inside(self):
        found = chunks(5, range(2), 2, 1)
        assert found == tuple(Chunk(i, a, b) for i in range(2) for a, b in ((0, 2), (2, 4), (4, 5)))

    @pytest.mark.parametrize(
        ("classes", "size", "group", "bounds"),
        [
            (100, 100, 100, [0, 100]),
            (10, 100, 100, [0, 10]),
            (27, 20, 4, [0, 20, 24, 27]),
            (27, 10, 4, [0, 8, 16, 24, 27]),
            (3, 4, 2, [0, 2, 3]),
        ],
    )
    def test_every_chunk_holds_whole_groups_or_less_than_one(self, classes, size, group, bounds):
        found = chunks(classes, [0], size, group)
        assert [(chunk.first, chunk.stop) for chunk in found] == list(itertools.pairwise(bounds))
        assert all(len(chunk) % group == 0 or len(chunk) < group for chunk in found)
        numbers = np.concatenate([chunk.groups(min(group, size)) for chunk in found])
        np.testing.assert_array_equal(numbers, np.arange(len(numbers)))

    def test_shards_share_them_out(self):
        every = chunks(7, range(3), 2, 1)
        parts = [share(every, (i, 5)) for i in range(5)]
        assert sorted(itertools.chain(*parts)) == sorted(every) and parts[1] == (every[1], every[6], every[11])
        with pytest.raises(UsageError, match="shard"):
            share(every, (5, 5))

    def test_seeds_differ_by_index_and_run(self):
        seeds = {Chunk(index, 0, 2).seed(seed) for index in range(3) for seed in range(2)}
        assert len(seeds) == 6 and Chunk(1, 0, 2).seed(0) == Chunk(1, 4, 6).seed(0)

    def test_what_is_missing_is_named_in_ranges(self):
        missing = [Chunk(3, 4, 6), Chunk(3, 2, 4), Chunk(0, 8, 9), Chunk(3, 8, 10)]
        with pytest.raises(CheckpointError) as refusal:
            require_complete(missing, "here", "missing are")
        lines = refusal.value.what.splitlines()
        assert lines == ["missing are", "  image 0 of classes 8", "  image 3 of classes 2 to 5, 8 to 9"]
        require_complete([], "here", "missing are")


class TestWhole:
    def test_the_set_is_class_major_and_what_its_jpegs_decode_to(self, whole, tmp_path):
        found = merge([whole], tmp_path, publish=image_folder.write, recipe={"protocol": "soft", "temperature": 20.0})
        assert found.images.shape == (CLASSES * IPC, SIDE, SIDE, 3) and found.images.dtype == np.uint8
        np.testing.assert_array_equal(found.labels, np.repeat(np.arange(CLASSES), IPC))
        assert (found.space, found.dataset, found.ipc) == ("raw", "tiny", IPC)
        assert found.recipe == {"protocol": "soft", "temperature": 20.0}
        assert len(found.provenance["teachers"]) == 1 and found.preprocessing["family"] == "sre2l"
        published = image_folder.read(tmp_path / "images")
        np.testing.assert_array_equal(published.images, found.images)
        np.testing.assert_array_equal(published.labels, found.labels)
        np.testing.assert_array_equal(published.ipc_indices, np.tile(np.arange(IPC), CLASSES))

    def test_images_have_moved_from_where_they_started_and_losses_are_kept(self, whole):
        kept, initial = Pieces(whole, ("ipc_index", "first")), Pieces(whole / "initial", INITIAL)
        for (index, first), entry in kept.entries().items():
            arrays = kept.read(entry)
            assert entry["seconds"] > 0 and set(entry["losses"]) == {"loss", "ce", "statistics"}
            began = [
                initial.read(initial.entries()[(label, 0, IPC)])["images"][index] for label in range(first, first + 2)
            ]
            assert np.abs(arrays["images"].astype(float) - np.stack(began)).mean() > 3
        assert not list((whole / "active").glob("*")), "a finished run leaves no states"

    def test_nothing_is_made_twice(self, whole, tmp_path):
        folder = tmp_path / "recovered"
        shutil.copytree(whole, folder)
        before, made = pieces_of(folder), []
        recovering().recover(folder, Control(Heard(made)))
        assert not made and pieces_of(folder) == before
        lost = next(folder.glob("chunk-001-00002-*"))
        lost.unlink()
        (folder / "initial" / next((folder / "initial").glob("class-00003-*")).name).write_bytes(b"damaged")
        recovering().recover(folder, Control(Heard(made)))
        assert made == [Chunk(1, 2, 4)] and pieces_of(folder) == before

    def test_shards_make_the_same_files_in_one_folder_or_in_several(self, whole, tmp_path):
        seen = []
        for i in (1, 0):
            recovering().recover(tmp_path / "shared", Control(Heard(begun=seen)), shard=(i, 2))
            recovering().recover(tmp_path / f"own{i}", shard=(i, 2))
        assert [(chunk.name, number, count) for chunk, number, count in seen] == [
            ("chunk-000-00002", 0, 2),
            ("chunk-001-00002", 1, 2),
            ("chunk-000-00000", 0, 2),
            ("chunk-001-00000", 1, 2),
        ]
        assert pieces_of(tmp_path / "shared") == pieces_of(whole)
        both = pieces_of(tmp_path / "own0") | pieces_of(tmp_path / "own1")
        assert both == pieces_of(whole)
        alone = merge([whole], tmp_path / "a")
        merge([tmp_path / "own1", tmp_path / "own0"], tmp_path / "b")
        found = DistilledSet.load(tmp_path / "b" / "distilled")
        np.testing.assert_array_equal(found.images, alone.images)

    def test_some_images_of_every_class_at_a_time(self, whole, tmp_path):
        folder = tmp_path / "recovered"
        for index in (1, 0):
            recovering().recover(folder, ipc_indices=[index])
        assert pieces_of(folder) == pieces_of(whole)

    @pytest.mark.slow
    @pytest.mark.parametrize("initialise", ["noise", "random", "medium"])
    def test_a_set_grows_by_more_images_of_every_class(self, initialise, tmp_path):
        given, seen = {"initialise": initialise, "merge": 1.0 if initialise == "noise" else 0.5}, []
        recovering(n_images=3, **given).recover(tmp_path / "once")
        for ipc in (1, 3, 2):
            made = recovering(n_images=ipc, **given)
            made.recover(tmp_path / "grown", Control(Heard(seen)))
            assert made.complete(tmp_path / "grown")
            found = merge([tmp_path / "grown"], tmp_path / str(ipc), ipc=ipc, recipe=made.recipe)
            assert found.ipc == found.provenance["settings"]["n_images"] == ipc
        assert [chunk.ipc_index for chunk in seen] == [0, 0, 1, 1, 2, 2], "no image was made twice"
        grown, once = (
            {name: held for name, held in pieces_of(tmp_path / place).items() if name.startswith("chunk")}
            for place in ("grown", "once")
        )
        assert len(once) == 6 and grown == once
        part = recovering(n_images=3, **given)
        part.recover(tmp_path / "first", ipc_indices=[0])
        part.recover(tmp_path / "others", ipc_indices=[1, 2])
        assert not part.complete(tmp_path / "first")
        both = merge([tmp_path / "first", tmp_path / "others"], tmp_path / "both")
        np.testing.assert_array_equal(both.images, merge([tmp_path / "once"], tmp_path / "again").images)

    def test_a_set_of_ranges_has_the_recipe_of_the_whole(self, tmp_path):
        options = {"initialise": "random", "iterations": 0, "stages": None}

        def run(ipc):
            return dataclasses.replace(recovering(**options, n_images=ipc), recipe={"protocol": "soft", "epochs": ipc})

        for ipc, indices in ((1, [0]), (3, [1, 2])):
            run(ipc).recover(tmp_path / str(ipc), ipc_indices=indices)
        places = [tmp_path / "1", tmp_path / "3"]
        assert merge(places, tmp_path / "both").recipe["epochs"] == 3
        assert merge(places, tmp_path / "one", ipc=1).recipe["epochs"] == 1
        with pytest.raises(CheckpointError, match="recipe for 2 images per class is not known"):
            merge(places, tmp_path / "two", ipc=2)
        run(3).recover(tmp_path / "1")
        run(1).recover(tmp_path / "1")  # the small one again: what is known of the large one stays
        assert run(1).exceeded(tmp_path / "1") and not run(3).exceeded(tmp_path / "1")
        assert merge(places[:1], tmp_path / "again").recipe["epochs"] == 3
        next((tmp_path / "1").glob("chunk-002-*")).unlink()  # which a set of one image does not need
        assert merge(places[:1], tmp_path / "first", ipc=1, recipe={}).ipc == 1

    def test_weights_for_other_teachers_are_refused(self):
        with pytest.raises(ConfigError, match="2 weights of the statistics for 1 teachers"):
            recovering(r_bn=(0.1, 0.2))

    @pytest.mark.slow
    def test_mosaics_share_the_best_crops_out_and_cannot_grow(self, tmp_path):
        options = {"initialise": "mosaic", "iterations": 0, "stages": None, "mosaic": 1, "crops": 2}
        recovering(**options).recover(tmp_path)
        with pytest.raises(CheckpointError, match="n_images: 2 -> 3"):
            recovering(**options, n_images=3).recover(tmp_path)

    def test_a_lost_file_of_initial_images_is_made_again_between_others(self, whole, tmp_path):
        for ipc in (1, 2, 4):
            recovering(n_images=ipc).recover(tmp_path, ipc_indices=[0])
        initial = tmp_path / "initial"
        before = pieces_of(initial)
        assert len(before) == 3 * CLASSES
        next(initial.glob("class-00001-001-*")).unlink()
        recovering(n_images=4).recover(tmp_path, ipc_indices=[0])
        assert pieces_of(initial) == before

    @pytest.mark.slow
    def test_groups_do_not_depend_on_how_they_are_put_into_chunks(self, tmp_path):
        """A device that holds more takes more groups at a time: the same images, to rounding and its JPEG."""
        small, large = tmp_path / "small", tmp_path / "large"
        recovering(store="none").recover(small)
        recovering(store="none", batch_size=4).recover(large)
        one, other = (merge([place], place).images.astype(int) for place in (small, large))
        assert np.abs(one - other).max() <= 1

    def test_a_signal_ends_it_between_chunks(self, tmp_path):
        made = []
        with pytest.raises(Stopped):
            control = Control(Heard(made), lambda: 15 if len(made) == 2 else None)
            recovering(iterations=0, stages=None).recover(tmp_path, control)
        assert len(made) == 2 and len(Pieces(tmp_path, ("ipc_index", "first")).present()) == 2


@pytest.mark.parametrize("initialise", ["random", "mosaic", "medium"])
def test_without_iterations_the_set_is_what_was_selected(initialise, tmp_path):
    options = {"initialise": initialise, "iterations": 0, "stages": None, "store": "png", "mosaic": 1, "crops": 2}
    recovering(**options).recover(tmp_path / "recovered")
    found = merge([tmp_path / "recovered"], tmp_path, publish=image_folder.write)
    chosen = Pieces(tmp_path / "recovered" / "initial", INITIAL)
    selected = [chosen.read(entry)["images"] for entry in chosen.entries().values()]
    np.testing.assert_array_equal(found.images, np.concatenate(selected))
    if initialise != "mosaic":
        real = dataset().train_images[dataset().train_labels == 2]
        assert all(any((image == one).all() for one in real) for image in found.images[2 * IPC : 3 * IPC])


def test_a_lossy_file_is_what_the_set_holds(tmp_path):
    recovering(initialise="random", iterations=0, stages=None, quality=20).recover(tmp_path / "recovered")
    found = merge([tmp_path / "recovered"], tmp_path, publish=image_folder.write)
    file = (tmp_path / "images" / "new002" / "class002_id001.jpg").read_bytes()
    np.testing.assert_array_equal(found.images[2 * IPC + 1], decoding.decode(file, "here"))


class TestRefused:
    @pytest.mark.parametrize(
        ("other", "named"),
        [({"seed": 1}, "seed"), ({"r_bn": 0.5}, "settings.r_bn"), ({"classes": 5}, "dataset.digest")],
        ids=["seed", "settings", "data"],
    )
    def test_a_folder_of_another_run(self, whole, other, named):
        with pytest.raises(CheckpointError, match=named):
            recovering(**other).recover(whole)

    def test_an_incomplete_set_names_what_is_missing(self, tmp_path):
        recovering(iterations=0, stages=None).recover(tmp_path / "part", shard=(2, 4))
        with pytest.raises(CheckpointError) as refusal:
            merge([tmp_path / "part"], tmp_path)
        assert refusal.value.what.splitlines()[1:] == ["  image 0 of classes 0 to 3", "  image 1 of classes 2 to 3"]
        assert not (tmp_path / "distilled").exists()

    def test_a_damaged_file_is_named_with_its_images(self, whole, tmp_path):
        folder = tmp_path / "recovered"
        shutil.copytree(whole, folder)
        (bad,) = folder.glob("chunk-001-00000-*")
        content = bytearray(bad.read_bytes())
        content[-5] ^= 4
        bad.write_bytes(content)
        with pytest.raises(CheckpointError, match="image 1 of classes 0 to 1") as refusal:
            merge([folder], tmp_path)
        assert bad.name in refusal.value.where and "damaged" in refusal.value.what
        assert len(merge([folder, whole], tmp_path)) == CLASSES * IPC  # the other copy is whole
        made = []
        recovering().recover(folder, Control(Heard(made)))  # as the remedy says
        assert [chunk[:2] for chunk in made] == [(1, 0)] and pieces_of(folder) == pieces_of(whole)

    def test_folders_of_different_runs(self, whole, tmp_path):
        recovering(seed=1, iterations=0, stages=None).recover(tmp_path / "other")
        with pytest.raises(CheckpointError, match="different runs"):
            merge([whole, tmp_path / "other"], tmp_path)
        with pytest.raises(CheckpointError, match="no recovered chunks"):
            merge([tmp_path], tmp_path)

    def test_a_folder_with_another_set_or_a_larger_one(self, whole, tmp_path):
        recovering(seed=1, iterations=0, stages=None).recover(tmp_path / "recovered")
        before = merge([tmp_path / "recovered"], tmp_path, publish=image_folder.write)
        with pytest.raises(CheckpointError, match="set of another run") as refusal:
            merge([whole], tmp_path, publish=image_folder.write)
        assert "seed: 1 -> 0" in refusal.value.what
        with pytest.raises(CheckpointError, match="larger set: 2 images per class instead of 1"):
            merge([tmp_path / "recovered"], tmp_path, ipc=1, recipe={"protocol": "soft"})
        np.testing.assert_array_equal(DistilledSet.load(tmp_path / "distilled").images, before.images)
        assert len(list((tmp_path / "images").rglob("*.jpg"))) == CLASSES * IPC

    def test_noise_that_is_not_optimised(self):
        with pytest.raises(ConfigError, match="noise"):
            recovering(initialise="noise", iterations=0, stages=None)

    def test_noise_that_would_meet_its_patches_between_stages(self):
        with pytest.raises(ConfigError, match="no patches"):
            recovering(initialise="noise", merge=0.5)


@pytest.mark.slow
def test_killed_runs_finish_byte_equal(whole, tmp_path):
    folder = tmp_path / "recovered"
    command = [sys.executable, str(DRIVER), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(json.loads(done.stdout)) == 5, "every kill should have met a run under way"
    assert pieces_of(folder) == pieces_of(whole)
    merge([folder], tmp_path / "killed", publish=image_folder.write)
    merge([whole], tmp_path / "whole", publish=image_folder.write)
    one, other = (
        {
            path.relative_to(tmp_path / name): path.read_bytes()
            for path in (tmp_path / name).rglob("*")
            if path.is_file() and path.name != ".set.lock"
        }
        for name in ("killed", "whole")
    )
    assert one == other and len(one) == CLASSES * IPC + 2
    assert not list(folder.rglob("*.partial")) and not list((folder / "active").glob("*"))

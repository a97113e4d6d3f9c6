"""From the recovered chunks of one or several processes to what is published: the set and its image folder."""

from __future__ import annotations

import os
import pathlib
import tempfile
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from jaxdd.core import io
from jaxdd.core.distilled import DistilledSet
from jaxdd.core.errors import CheckpointError
from jaxdd.core.shards import Pieces, alone
from jaxdd.methods.recovery.chunks import Chunk, chunks
from jaxdd.run.chain.chunks import KEYS, files_of, of_entry, require_complete
from jaxdd.run.storage import identity as identities
from jaxdd.run.storage.precheck import refuse_other_set

Publish = Callable[..., Any]  # `publish.image_folder.write`


def merge(
    folders: Sequence[str | os.PathLike],
    out: str | os.PathLike,
    *,
    publish: Publish | None = None,
    recipe: Mapping[str, Any] | None = None,
    ipc: int | None = None,
) -> DistilledSet:
    """Puts a set together: `out/distilled`, class-major, and `out/images`.

    Arguments:
        folders: what `Recovering.recover` wrote into: one folder, or those of several processes.
        out: the output folder.
        publish: writes image files (`publish.image_folder.write`); None writes none.
        recipe: of evaluation; None for the one that the run was begun with.
        ipc: images per class; None for the most that any of the processes was asked for.

    Raises:
        CheckpointError: a folder is none, or of another run; chunks are missing or damaged, which are named; there is
            another run's set in `out`, or a larger one; or there is no recipe, and none of the processes was asked for
            just so many images.
    """
    places, out = [io.absolute(folder) for folder in folders], pathlib.Path(out)
    about, ipc = _common(places, ipc, recipe is None)
    settings, meaning = about["identity"]["settings"], about["other"]
    classes = len(meaning["class_names"])
    wanted = chunks(classes, range(ipc), settings["batch_size"], settings["statistics_group"])
    provenance = _provenance(about, ipc)
    refuse_other_set(out, provenance)
    sources = _intact(places, wanted)
    with alone(out, "set"), tempfile.TemporaryFile(dir=out) as room:  # on disk: a large set need not fit into memory
        images = np.memmap(room, np.uint8, "w+", shape=(classes, ipc, *meaning["image_shape"]))
        for chunk, (pieces, entry) in sources.items():
            arrays = pieces.read(entry)
            images[chunk.first : chunk.stop, chunk.ipc_index] = arrays["images"]
            if publish is not None and (files := files_of(arrays)):
                numbers = (arrays["images"], arrays["labels"], arrays["ipc_index"])
                publish(out / "images", *numbers, classes=classes, store=settings["store"], encoded=files)
        made = DistilledSet(
            images.reshape(-1, *meaning["image_shape"]),
            np.repeat(np.arange(classes, dtype=np.int32), ipc),
            dataset=about["identity"]["dataset"]["name"],
            class_names=tuple(meaning["class_names"]),
            preprocessing=meaning["preprocessing"],
            recipe=dict(meaning["recipe"] if recipe is None else recipe),
            provenance=provenance,
        )
        made.save(out / "distilled")
    return DistilledSet.load(out / "distilled")


def _common(places: Sequence[pathlib.Path], ipc: int | None, with_recipe: bool) -> tuple[dict[str, Any], int]:
    """Returns the content of `config.json` for a set of this size, and the size: the largest, if none is given."""
    contents = []
    for place in places:
        path = place / "config.json"
        content = io.read_json(path) if path.is_file() else None
        known = isinstance(content, dict) and {"settings", "teachers"} <= set(content.get("identity") or {})
        if not known or not {"class_names", "n_images"} <= set((content or {}).get("other", {})):
            raise CheckpointError(
                "no recovered chunks",
                where=str(place),
                expected="a folder that `recover` wrote: OUT/recovered",
                remedy="check the path, or run recover first",
            )
        contents.append(content)
        what, where = "the folders belong to different runs", f"{places[0]} and {place}"
        first, this = contents[0]["identity"], contents[-1]["identity"]
        identities.require_same(first, this, what, where=where, remedy="merge the shards of one run")
    if not contents:
        raise CheckpointError(
            "nothing to merge",
            expected="one folder of recovered chunks or more",
            remedy="name the folders that `recover` wrote",
        )
    sizes = {content["other"]["n_images"]: content for content in contents}
    wanted = ipc or max(sizes)
    if with_recipe and wanted not in sizes:
        raise CheckpointError(
            f"the students' recipe for {wanted} images per class is not known",
            where=", ".join(map(str, places)),
            expected=f"{' or '.join(map(str, sorted(sizes)))} images, for which the run was begun",
            remedy="name the recipe, or add `merge` to the command that these images were made by",
        )
    return sizes.get(wanted, contents[0]), wanted


def _intact(places: Sequence[pathlib.Path], wanted: Sequence[Chunk]) -> dict[Chunk, tuple[Pieces, dict[str, Any]]]:
    """Returns the place of each chunk, verified; of two copies the first one that is whole."""
    whole: dict[Chunk, tuple[Pieces, dict[str, Any]]] = {}
    needed = set(wanted)
    damaged: dict[Chunk, str] = {}
    for place in places:
        pieces = Pieces(place, KEYS)
        for entry in pieces.entries().values():
            chunk = of_entry(entry)
            if chunk in needed and chunk not in whole:
                if pieces.intact(entry):
                    whole[chunk] = pieces, entry
                else:
                    damaged[chunk] = str(pieces.path(entry))
    where = ", ".join(map(str, places))
    bad = [chunk for chunk in damaged if chunk not in whole]
    require_complete(bad, ", ".join(damaged[chunk] for chunk in bad[:3]), "damaged files of the set")
    require_complete([chunk for chunk in wanted if chunk not in whole], where, "the set is not complete; missing are")
    return {chunk: whole[chunk] for chunk in wanted}


def _provenance(about: Mapping[str, Any], ipc: int) -> dict[str, Any]:
    """Returns the provenance of the set."""
    identity = about["identity"]
    return {
        "method": identity["settings"]["method"],
        "step": identity["settings"]["iterations"],
        "settings": {**identity["settings"], "n_images": ipc},
        **{key: identity[key] for key in ("seed", "teachers")},
        "dataset_digest": identity["dataset"]["digest"],
        "versions": about["versions"],
    }

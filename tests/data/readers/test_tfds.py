"""A real TFDS set, prepared as array_record in the test and read back, all without TensorFlow."""

from __future__ import annotations

import io
import json
import sys
import warnings

import numpy as np
import pytest

from jaxdd.core.errors import DataError
from jaxdd.data import load

pytest.importorskip("array_record", reason="needs the extra 'tfds'")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    tensorflow_datasets = pytest.importorskip("tensorflow_datasets", reason="needs the extra 'tfds'")

pytestmark = pytest.mark.filterwarnings("ignore")  # TFDS's own warnings are not ours to mend


def _images(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 28, 28, 1), np.uint8)


class Mnist(tensorflow_datasets.core.GeneratorBasedBuilder):
    """Ten classes of noise under MNIST's name."""

    __module__ = "a_users_script"  # TFDS looks for checksum files beside builders that stand in a package
    VERSION = tensorflow_datasets.core.Version("3.0.1")
    image = tensorflow_datasets.features.Image(shape=(28, 28, 1))

    def _info(self):
        label = tensorflow_datasets.features.ClassLabel(num_classes=10)
        features = tensorflow_datasets.features.FeaturesDict({"image": self.image, "label": label})
        return tensorflow_datasets.core.DatasetInfo(builder=self, features=features, disable_shuffling=True)

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples(30, 0), "test": self._generate_examples(10, 1)}

    def _generate_examples(self, count, seed):
        from PIL import Image

        for index, image in enumerate(_images(count, seed)):
            buffer = io.BytesIO()
            Image.fromarray(image[..., 0]).save(buffer, "PNG")
            buffer.seek(0)
            yield index, {"image": buffer, "label": index % 10}


with tensorflow_datasets.core.registered.skip_registration():  # the name is taken

    class TensorMnist(Mnist):
        """The same with a tensor feature in place of an encoded image."""

        __module__ = "a_users_script"
        name = "mnist"
        image = tensorflow_datasets.features.Tensor(shape=(28, 28, 1), dtype=np.uint8)

        def _generate_examples(self, count, seed):
            for index, image in enumerate(_images(count, seed)):
                yield index, {"image": image, "label": index % 10}


@pytest.mark.parametrize("builder", [Mnist, TensorMnist])
def test_a_prepared_set_is_read_without_tensorflow(tmp_path, builder):
    builder(data_dir=tmp_path, file_format="array_record").download_and_prepare()
    data = load("mnist", tmp_path)
    np.testing.assert_array_equal(data.train_images, _images(30, 0))
    np.testing.assert_array_equal(data.test_images, _images(10, 1))
    np.testing.assert_array_equal(data.train_labels, np.arange(30) % 10)
    assert data.class_names == tuple("0123456789")
    assert "tensorflow" not in sys.modules


def test_damaged_and_unreadable_prepared_sets_are_refused(tmp_path):
    Mnist(data_dir=tmp_path, file_format="array_record").download_and_prepare()
    folder = tmp_path / "mnist" / "3.0.1"
    info = folder / "dataset_info.json"
    whole = info.read_text()
    info.write_text(json.dumps({**json.loads(whole), "splits": json.loads(whole)["splits"][:1]}))
    with pytest.raises(DataError, match=r"splits \['train'\]"):
        load("mnist", tmp_path)
    info.write_text(whole)
    record = next(folder.glob("*train*array_record*"))
    record.write_bytes(record.read_bytes()[:100])
    with pytest.raises(DataError) as caught:
        load("mnist", tmp_path)
    assert str(folder) in caught.value.where

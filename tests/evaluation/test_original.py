"""Reading the checkpoints that the RCIG authors published, and refusing everything else."""

import pickle

import msgpack
import numpy as np
import pytest

from jaxdd.core.errors import CheckpointError
from jaxdd.evaluation.original import is_rcig_checkpoint, load_rcig_checkpoint

PUBLISHED = "rcig_original/cifar10_1_checkpoint_15000"


def array(shape, dtype, buffer) -> msgpack.ExtType:
    """An array as flax writes it."""
    return msgpack.ExtType(1, msgpack.packb((shape, dtype, buffer)))


def packed(values: np.ndarray) -> msgpack.ExtType:
    return array(values.shape, values.dtype.name, values.tobytes())


IMAGES = np.random.default_rng(0).normal(size=(3, 4, 4, 1)).astype(np.float32)
LABELS = np.eye(3, dtype=np.float32)


def checkpoint(step=7, **average) -> bytes:
    """A small checkpoint, with some prototypes replaced."""
    whole = {"x_proto": packed(IMAGES), "y_proto": packed(LABELS), "log_temp": packed(np.float32(0.25)[None][0])}
    tree = {"ema_average": {**whole, **average}, "train_it": 7, "params": whole, "step": step}
    return msgpack.packb({name: value for name, value in tree.items() if value is not None})


@pytest.fixture
def distilled(real_data):
    """The set published with the paper."""
    path = real_data(PUBLISHED)
    assert is_rcig_checkpoint(path)
    return load_rcig_checkpoint(path, dataset="cifar10")


class TestThePublishedSet:
    def test_is_the_average_with_its_known_statistics(self, distilled):
        assert distilled.images.shape == (10, 32, 32, 3)
        assert distilled.labels.argmax(1).tolist() == list(range(10))
        assert round(distilled.log_temperature, 3) == 0.342  # 0.284 are the parameters, not the average
        highest = np.sort(distilled.labels, axis=1)
        assert round(float((highest[:, -1] - highest[:, -2]).min()), 3) == 0.089
        assert round(float(distilled.images.std()), 2) == 0.46
        assert (round(float(distilled.images.min()), 2), round(float(distilled.images.max()), 2)) == (-2.79, 3.28)
        assert not np.allclose(distilled.labels.sum(1), 0, atol=0.1)  # learned labels do not sum to 0

    def test_says_where_it_comes_from(self, distilled):
        assert (distilled.space, distilled.dataset, distilled.decode.flip) == ("zca", "cifar10", True)
        assert distilled.provenance["step"] == 15000
        assert not distilled.preprocessing  # the file knows no digest


def test_a_grey_set_is_standardised_and_keeps_its_numbers(tmp_path):
    path = tmp_path / "checkpoint_7"
    path.write_bytes(checkpoint())
    distilled = load_rcig_checkpoint(path, dataset="mnist", flip=False)
    np.testing.assert_array_equal(distilled.images, IMAGES)
    np.testing.assert_array_equal(distilled.labels, LABELS)
    assert (distilled.space, distilled.log_temperature, distilled.decode.flip) == ("standardised", 0.25, False)
    assert distilled.provenance["step"] == 7


HOSTILE = {
    "empty": b"",
    "cut short": checkpoint()[:-9],
    "followed by more": checkpoint() + b"\0",
    "a pickle": pickle.dumps({"ema_average": 1}),
    "JSON": b'{"ema_average": {}}',
    "a list": msgpack.packb([1, 2]),
    "lists nested deeply": b"\x91" * 200_000,
    "maps nested deeply": b"\x81\xa1a" * 200_000 + b"\xc0",
    "an array nested deeply": checkpoint(x_proto=msgpack.ExtType(1, b"\x91" * 200_000)),
    "a map of four thousand million entries": b"\xdf\xff\xff\xff\xff",
    "another tree": msgpack.packb({"ema_average": {"images": packed(IMAGES)}, "step": 1}),
    "no average": msgpack.packb({"params": {"x_proto": packed(IMAGES)}, "step": 1}),
    "negative sides": checkpoint(x_proto=array((-3, -4, 4, 1), "float32", IMAGES.tobytes())),
    "sides that overflow": checkpoint(x_proto=array((2**40, 2**40, 2**40, 0), "float32", b"")),
    "more promised than there is": checkpoint(x_proto=array((3, 400, 400, 1), "float32", IMAGES.tobytes())),
    "fractional sides": checkpoint(x_proto=array((3, 4, 4, 1.0), "float32", IMAGES.tobytes())),
    "a shape that is a number": checkpoint(x_proto=array(3, "float32", IMAGES.tobytes())),
    "a void type": checkpoint(x_proto=array((3, 4, 4, 1), "V4", IMAGES.tobytes())),
    "objects": checkpoint(x_proto=array((3, 4, 4, 1), "O", b"\0" * 8 * 48)),
    "a structured type": checkpoint(x_proto=array((3, 4, 4, 1), "f4,f4", b"\0" * 8 * 48)),
    "a type that is no text": checkpoint(x_proto=array((3, 4, 4, 1), b"\xff\xfe", IMAGES.tobytes())),
    "an array of two parts": checkpoint(x_proto=msgpack.ExtType(1, msgpack.packb([[3], "float32"]))),
    "another extension": checkpoint(log_temp=msgpack.ExtType(2, b"\0" * 8)),
    "plain lists for images": checkpoint(x_proto=[[1, [2]], 3]),
    "a number for images": checkpoint(x_proto=7),
    "integers for images": checkpoint(x_proto=packed(np.ones((3, 4, 4, 1), np.int32))),
    "flat images": checkpoint(x_proto=packed(IMAGES.reshape(3, 16))),
    "no images": checkpoint(x_proto=packed(IMAGES[:0]), y_proto=packed(LABELS[:0])),
    "two channels": checkpoint(x_proto=packed(np.repeat(IMAGES, 2, 3))),
    "too few labels": checkpoint(y_proto=packed(LABELS[:2])),
    "NaN": checkpoint(y_proto=packed(np.where(LABELS > 0, np.nan, LABELS).astype(np.float32))),
    "an infinite temperature": checkpoint(log_temp=packed(np.float32(np.inf)[None][0])),
    "two temperatures": checkpoint(log_temp=packed(np.zeros(2, np.float32))),
    "no step": checkpoint(step=None),
    "a step in words": checkpoint(step="seven"),
    "a fractional step": checkpoint(step=packed(np.float64(7.5)[None][0])),
    "many steps": checkpoint(step=[7]),
}


@pytest.mark.parametrize("fault", HOSTILE)
def test_a_hostile_file_is_refused_by_name(fault, tmp_path):
    path = tmp_path / "checkpoint"
    path.write_bytes(HOSTILE[fault])
    with pytest.raises(CheckpointError) as refusal:
        load_rcig_checkpoint(path)
    assert str(path) in refusal.value.where
    assert not refusal.value.what.strip().endswith(":")  # it says what is wrong


def test_only_a_map_looks_like_a_checkpoint(tmp_path):
    verdicts = {}
    for name, content in {"good": checkpoint(), "pickle": HOSTILE["a pickle"], "json": b"{}", "empty": b""}.items():
        (tmp_path / name).write_bytes(content)
        verdicts[name] = is_rcig_checkpoint(tmp_path / name)
    assert verdicts == {"good": True, "pickle": False, "json": False, "empty": False}
    assert not is_rcig_checkpoint(tmp_path) and not is_rcig_checkpoint(tmp_path / "absent")

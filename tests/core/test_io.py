"""Files: whole or old, never half; one writer; damage told from absence."""

import errno
import hashlib
import json
import os
import subprocess
import sys

import pytest

from jaxdd.core import io, shards
from jaxdd.core.errors import CheckpointError

pytestmark = pytest.mark.quick


class TestAtomicWrite:
    def test_makes_folders_and_replaces(self, tmp_path):
        path = tmp_path / "a" / "b.txt"
        io.write_atomically(path, "one")
        io.write_atomically(path, b"two")
        assert path.read_bytes() == b"two"
        assert os.listdir(path.parent) == ["b.txt"]

    @pytest.mark.parametrize("name", ["x" * 255, "ü" * 127])
    def test_the_longest_names_there_can_be(self, name, tmp_path):
        for text in ("one", "two"):
            io.write_atomically(tmp_path / name, text)
        assert (tmp_path / name).read_text() == "two" and os.listdir(tmp_path) == [name]

    @pytest.mark.parametrize("broken", ["fsync", "replace"])
    def test_a_failure_leaves_the_old_file_and_no_litter(self, broken, tmp_path, monkeypatch):
        path = tmp_path / "b.txt"
        io.write_atomically(path, "old")

        def fail(*_):
            raise OSError("disk full")

        monkeypatch.setattr(io.os, broken, fail)
        with pytest.raises(OSError, match="disk full"):
            io.write_atomically(path, "new")
        assert path.read_text() == "old"
        assert os.listdir(tmp_path) == ["b.txt"]

    def test_the_new_bytes_are_on_disk_before_they_take_the_name(self, tmp_path, monkeypatch):
        events = []
        sync, replace = os.fsync, os.replace
        monkeypatch.setattr(io.os, "fsync", lambda fd: (events.append("sync"), sync(fd)))
        monkeypatch.setattr(io.os, "replace", lambda *names: (events.append("rename"), replace(*names)))
        io.write_atomically(tmp_path / "b.txt", "x")
        assert events == ["sync", "rename", "sync"]  # file, name, folder


class TestJson:
    def test_round_trip(self, tmp_path):
        io.write_json(tmp_path / "x.json", {"a": [1, None, "é"]})
        assert io.read_json(tmp_path / "x.json") == {"a": [1, None, "é"]}

    def test_nan_is_never_written(self, tmp_path):
        with pytest.raises(ValueError, match="JSON"):
            io.write_json(tmp_path / "x.json", {"a": float("nan")})
        assert not (tmp_path / "x.json").exists()

    def test_absence_and_damage_are_told_apart(self, tmp_path):
        with pytest.raises(CheckpointError, match="file not found"):
            io.read_json(tmp_path / "x.json")
        for content in (b'{"a": ', b"\xff\xfe", b""):
            (tmp_path / "x.json").write_bytes(content)
            with pytest.raises(CheckpointError, match="not valid JSON") as refusal:
                io.read_json(tmp_path / "x.json")
            assert refusal.value.where == str(tmp_path / "x.json")

    def test_a_flipped_bit_is_refused(self, tmp_path):
        """Also one in the checksum's own name, without which a file counts as one of before."""
        path, content = tmp_path / "x.json", {"name": "digits", "seed": 1, "rates": [0.5, -2, None, True], "é": {}}
        io.write_json(path, content)
        whole = path.read_bytes()
        for bit in range(8 * len(whole)):
            damaged = bytearray(whole)
            damaged[bit // 8] ^= 1 << (bit % 8)
            path.write_bytes(damaged)
            try:
                assert io.read_json(path) == content
            except CheckpointError as refusal:
                assert refusal.where == str(path)
                continue
            assert whole[bit // 8 : bit // 8 + 1] in b"eE", bit  # of an escape: the same letter

    def test_a_file_of_before_has_no_checksum(self, tmp_path):
        (tmp_path / "x.json").write_text('{"format": 1}')
        assert io.read_json(tmp_path / "x.json") == {"format": 1}
        with pytest.raises(CheckpointError, match="damaged or edited"):
            io.read_json(tmp_path / "x.json", sealed=True)

    def test_what_was_edited_is_told_with_the_way_out(self, tmp_path):
        path = tmp_path / "x.json"
        io.write_json(path, {"seed": 1})
        path.write_text(path.read_text().replace("1\n", "2\n"))
        with pytest.raises(CheckpointError, match="damaged or edited") as refusal:
            io.read_json(path)
        assert "sha256" in refusal.value.expected and "take its line 'sha256' out" in refusal.value.remedy

    @pytest.mark.parametrize("content", [{10: 1, 9: 2}, {"shape": (1, 2)}, [1, 2], {}])
    def test_what_json_changes_has_the_checksum_of_what_is_read(self, content, tmp_path):
        io.write_json(tmp_path / "x.json", content)
        assert io.read_json(tmp_path / "x.json") == json.loads(json.dumps(content))

    def test_absurd_nesting_is_damage_too(self, tmp_path):
        (tmp_path / "x.json").write_text("[" * 200_000)
        with pytest.raises(CheckpointError, match="not valid JSON"):
            io.read_json(tmp_path / "x.json")


def test_sha256_of_bytes_and_of_a_file_agree(tmp_path):
    (tmp_path / "x").write_bytes(b"abc" * 1000)
    expected = hashlib.sha256(b"abc" * 1000).hexdigest()
    assert io.sha256(b"abc" * 1000) == io.sha256(tmp_path / "x") == io.sha256(str(tmp_path / "x")) == expected


class TestLock:
    def test_a_second_writer_is_refused_and_told_who_holds_the_folder(self, tmp_path):
        with io.folder_lock(tmp_path), pytest.raises(CheckpointError) as refusal, io.folder_lock(tmp_path):
            pass
        assert f"pid {os.getpid()}" in refusal.value.where
        assert "`output_dir`" in refusal.value.remedy

    def test_the_folder_is_free_again_afterwards(self, tmp_path):
        for _ in range(2):
            with io.folder_lock(tmp_path / "new"):
                pass

    @pytest.mark.slow
    def test_a_process_that_died_holds_nothing(self, tmp_path):
        script = (
            "import sys, os; from jaxdd.core.io import folder_lock\n"
            "lock = folder_lock(sys.argv[1]); lock.__enter__(); os._exit(9)"
        )
        root = os.path.dirname(os.path.dirname(os.path.dirname(io.__file__)))
        died = subprocess.run([sys.executable, "-c", script, str(tmp_path)], cwd=root, check=False)
        assert died.returncode == 9 and (tmp_path / ".lock").read_text()
        with io.folder_lock(tmp_path):
            pass


def no_locks(*_):
    raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))


@pytest.mark.parametrize("lock", [io.folder_lock, lambda folder: shards.alone(folder, "manifest")])
def test_a_file_system_without_locks_is_told(lock, tmp_path, monkeypatch):
    monkeypatch.setattr(io.fcntl, "flock", no_locks)
    with pytest.raises(CheckpointError, match="cannot lock files") as refusal, lock(tmp_path):
        pass
    assert str(tmp_path) in refusal.value.where and refusal.value.expected and "local disk" in refusal.value.remedy


class TestMisplaced:
    """What is no file where one should be is told, and never waited for."""

    @pytest.mark.parametrize("make, kind", [(os.mkfifo, "a named pipe"), (os.mkdir, "a folder")])
    def test_reading(self, make, kind, tmp_path):
        make(tmp_path / "x.json")
        with pytest.raises(CheckpointError, match=f"{kind} in the place of the file 'x.json'"):
            io.read_json(tmp_path / "x.json")

    def test_writing(self, tmp_path):
        (tmp_path / "folder").mkdir()
        (tmp_path / "file").write_text("a user's own")
        with pytest.raises(CheckpointError, match="a folder in the place of the file 'folder'"):
            io.write_atomically(tmp_path / "folder", "x")
        for path in (tmp_path / "file" / "x", tmp_path / "file" / "deep" / "x"):
            with pytest.raises(CheckpointError, match="a file in the place of the folder 'file'"):
                io.write_atomically(path, "x")
        assert (tmp_path / "file").read_text() == "a user's own"

    def test_a_file_that_this_user_may_not_read(self, tmp_path, monkeypatch):
        def refuse(*_, **__):
            raise PermissionError(errno.EACCES, "Permission denied")

        (tmp_path / "x.json").write_text("{}")
        monkeypatch.setattr(io.pathlib.Path, "read_text", refuse)
        with pytest.raises(CheckpointError, match="cannot be read: Permission denied"):
            io.read_json(tmp_path / "x.json")

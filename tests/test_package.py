"""The wheel: built, installed into a fresh environment, and used from an empty folder."""

import os
import pathlib
import subprocess
import sys
import sysconfig
import zipfile

import pytest

from tests.limits import TIMEOUT

ROOT = pathlib.Path(__file__).resolve().parents[1]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> pathlib.Path:
    pytest.importorskip("hatchling")
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-q", "-w", folder, ROOT]
    subprocess.run(command, check=True, capture_output=True, timeout=TIMEOUT)
    (built,) = folder.glob("jaxdd-*.whl")
    return built


def test_wheel_holds_the_package_and_its_configs(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert "jaxdd/py.typed" in names
    for path in (ROOT / "configs_final").rglob("*.txt"):
        assert f"jaxdd/configs_final/{path.relative_to(ROOT / 'configs_final').as_posix()}" in names
    assert not [name for name in names if name.startswith(("tests/", "benchmarks/"))]


def test_installed_command_distils_in_an_empty_folder(wheel, tmp_path):
    fresh, folder = tmp_path / "environment", tmp_path / "empty"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", fresh], check=True, timeout=TIMEOUT)
    packages = pathlib.Path(
        subprocess.check_output(
            [fresh / "bin/python", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], text=True
        ).strip()
    )
    # The dependencies of this environment, but not its jaxdd: files in a folder named by a .pth file are not processed.
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    install = [sys.executable, "-m", "pip", "--python", fresh / "bin/python", "install", "-q", "--no-deps", wheel]
    subprocess.run(install, check=True, timeout=TIMEOUT)
    folder.mkdir()
    small = ["--width", "4", "--set", "pool_model_count=2", "--set", "batch_size=32"]
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
    done = subprocess.run(
        [fresh / "bin/jaxdd", "distill", "--max_steps", "2", *small],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
    )
    assert done.returncode == 0, done.stderr
    assert (folder / "output_dir/digits_1/distilled/grid.png").stat().st_size > 1000
    ask = [fresh / "bin/python", "-c", "import jaxdd; print(jaxdd.__file__)"]
    where = subprocess.check_output(ask, text=True, cwd=folder, env=environment)
    assert where.startswith(str(fresh))

"""Every command in README.md is run by a test, and every figure in it is in a file.

A shell command is read by the real command line, up to the point where work would begin. Those on the digits are also
run to their end, in the README's order, and so is the Python. A block or a program that no test here knows is listed.
"""

from __future__ import annotations

import ast
import functools
import json
import os
import pathlib
import re
import shlex
import statistics
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from PIL import Image

import jaxdd
from jaxdd import data
from jaxdd.cli.command import Job
from jaxdd.cli.commands import distill, recover, relabel, squeeze
from jaxdd.cli.jobs import distilling, evaluating, pretraining
from jaxdd.cli.main import SCRIPTS, main
from jaxdd.core.config import find_config, read_config
from jaxdd.data.registry import user_kind
from jaxdd.models import ALIASES, NAMES, TEACHERS
from jaxdd.run.chain import pretrain, teachers
from tests.limits import TIMEOUT

ROOT = pathlib.Path(__file__).resolve().parents[1]
TEXT = (ROOT / "README.md").read_text()
MOST_LINES, MOST_WIDTH = 130, 120
JOBS = {distilling: "job", evaluating: "job", pretraining: "job", recover: "jobs", relabel: "jobs", squeeze: "jobs"}
COMMANDS = {script: name for name, script in SCRIPTS.items()}
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"\[([^]]+)\]\(([^)]+)\)")
FIGURE = re.compile(r"\d+\.\d(?: \+- \d+\.\d)?")
OWN = re.compile(r"(folder|npz|parquet):\w+")  # how a data set of one's own is named


def blocks(language: str) -> list[str]:
    return [text for found, text in BLOCK.findall(TEXT) if found == language]


def commands(readme: str = TEXT, *, completed: bool = True) -> list[str]:
    """What a user can type, in the README's order: lines of blocks, and what has a space in prose and tables.

    Arguments:
        readme: its text.
        completed: whether flags alone, and names of data sets, are completed to commands and taken too.
    """
    found: list[str] = []
    for match in re.finditer(f"{BLOCK.pattern}|{SPAN.pattern}", readme, BLOCK.flags):
        language, block, span = match.groups()
        if language == "bash":
            found += [line.partition(" #")[0].strip() for line in block.replace("\\\n", "").splitlines()]
        elif span and " " in span and not span.startswith("--"):
            found.append(span)
        elif completed and span and span.startswith("--"):
            found.append(f"python distill_dataset.py {span}")
        elif completed and span and OWN.fullmatch(span):
            found.append(f"python distill_dataset.py --dataset_name {span}")
    return list(dict.fromkeys(filter(None, found)))


def words_of(command: str) -> tuple[str, list[str]] | None:
    """The name of one of our commands and its flags; None for another program."""
    program, *words = shlex.split(command)
    if program == "jaxdd" and words and words[0] in SCRIPTS:
        return words[0], words[1:]
    if program == "python" and words and words[0] in COMMANDS and (ROOT / words[0]).is_file():
        return COMMANDS[words[0]], words[1:]
    return None


def is_known(command: str) -> bool:
    """Whether a test below runs it."""
    return words_of(command) is not None or command.startswith(("make ", "pip install "))


OURS = [command for command in commands() if words_of(command)]


def is_ours(name: str) -> bool:
    return user_kind(name) is not None


@pytest.fixture
def begun(tmp_path, monkeypatch):
    """A function that gives a command to the command line and returns what its jobs would have begun with.

    Data sets and networks that are not on this machine are taken to be there; those of one's own are made.
    """
    monkeypatch.chdir(tmp_path)
    found: list[tuple[Any, ...]] = []
    nothing = Job("nothing", lambda session: None)

    def noted(of: Any, *arguments: Any, **_: Any) -> Any:
        found.append((of, *arguments))
        return nothing if JOBS.get(of) == "job" else iter([nothing])

    for job, name in {**JOBS, distill: "_chain"}.items():
        monkeypatch.setattr(job, name, functools.partial(noted, job))
    check = data.check_available
    monkeypatch.setattr(data, "check_available", lambda name, *rest: check(name, *rest) if is_ours(name) else None)
    monkeypatch.setattr(pretrain, "find", lambda *_, **__: ())

    def run(command: str, *, code: int = 0) -> list[tuple[Any, ...]]:
        found.clear()
        name, words = words_of(command) or ("", [])
        for word in filter(OWN.fullmatch, words):
            make(*word.split(":"))
        assert main(words, script=name) == code, command
        return list(found)

    return run


def make(kind: str, place: str) -> None:
    """Two classes of two images each, in a layout that the README names."""
    images, labels = np.zeros((4, 32, 32, 3), np.uint8), np.arange(4) % 2
    if kind == "npz":
        with open(place, "wb") as file:
            np.savez(file, x_train=images, y_train=labels, x_test=images, y_test=labels)
        return
    for split in ("train", "test"):
        for number in range(4):
            path = pathlib.Path(place, split, str(number % 2), f"{number}.png")
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(images[number]).save(path)
    if kind == "parquet":
        pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
        for split in ("train", "test"):
            files = sorted(pathlib.Path(place, split).rglob("*.png"))
            rows = [{"bytes": path.read_bytes(), "path": path.name} for path in files]
            table = pyarrow.table({"image": rows, "label": labels})
            parquet.write_table(table, pathlib.Path(place, f"{split}.parquet"))


def test_it_is_short():
    lines = TEXT.splitlines()
    assert len(lines) <= MOST_LINES
    wide = [line for line in lines if len(line) > MOST_WIDTH and not line.startswith("|")]
    assert not wide, "\n".join(wide)


def unknown(readme: str) -> list[str]:
    """The commands and blocks that no test runs."""
    others = [f"{language}:\n{text}" for language, text in BLOCK.findall(readme) if language not in ("bash", "python")]
    return [command for command in commands(readme) if not is_known(command)] + others


def test_every_command_is_run_by_a_test():
    assert not unknown(TEXT), "no test runs\n" + "\n".join(unknown(TEXT))


@pytest.mark.parametrize(
    "text",
    [
        *("Type `curl https://a.b`.", "| `python none.py -d mnist` |", "`jaxdd none`", "`jaxdd none --ipc 1`"),
        *("```bash\npython eval.py\nsh run.sh  # this one\n```\n", "```\npython eval.py\n```\n"),
    ],
)
def test_a_command_that_no_test_runs_is_seen(text):
    assert len(unknown(text)) == 1


@pytest.mark.parametrize(
    "command", ["python eval.py --none", "jaxdd distill --config_path none.txt", "jaxdd condense -d x"]
)
def test_a_command_that_the_command_line_refuses_is_seen(command, begun):
    assert not begun(command, code=2)


@pytest.mark.parametrize("command", OURS)
def test_the_command_line_takes(command, begun):
    started = begun(command)
    assert started or "--help" in command
    for job, flags, *_ in started:
        if job is evaluating:
            known = {*NAMES, *ALIASES, *TEACHERS}
            assert set((flags.eval_arch or "conv").split(",")) <= known


@pytest.mark.parametrize("command", [command for command in commands() if not words_of(command)])
def test_make_and_pip_know(command):
    program, *words = shlex.split(command)
    makefile = (ROOT / "Makefile").read_text()
    if program == "make":
        assert all(re.search(rf"^{word}:", makefile, re.MULTILINE) for word in words)
        return
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for word in words[1:]:
        own = re.fullmatch(r"\.(?:\[(\w+)\])?", word)
        if own is None:
            assert word in (*shlex.split(makefile.replace("'", " ").replace('"', " "), comments=False), "tensorflow")
        elif own[1]:
            assert own[1] in project["optional-dependencies"]


def test_what_a_command_makes_is_what_the_next_one_takes(begun):
    made: set[str] = set()
    taken: set[str] = set()
    for command in OURS:
        for job, flags, *rest in begun(command):
            if job is pretraining:
                made.add(os.path.relpath(rest[2]))
            if job is squeeze:
                made.add(os.path.relpath(teachers.default_folder(rest[0], flags.random_seed)))
            if job is recover:
                made.add(os.path.join(os.path.normpath(flags.syn_data_path), flags.exp_name))
                taken |= {path for path in flags.arch_path if not path.startswith("FILE")}
            if job is distilling:
                made.add(os.path.relpath(rest[1]))
                taken |= set(getattr(flags, "model_path", ()))
            if job in (evaluating, relabel) and flags.checkpoint_path:
                taken.add(os.path.normpath(flags.checkpoint_path))
    assert taken and taken <= made, taken - made


def dataset_of(job: Any, flags: Any, settings: Any = None, *_: Any) -> str:
    """Which data set a command is on; of an evaluation without a set named it is the digits'."""
    if job is evaluating:
        return flags.checkpoint_path or "digits"
    if job is relabel:
        return flags.checkpoint_path
    return settings.dataset if hasattr(settings, "dataset") else settings.run.dataset_name


@pytest.mark.slow
def test_what_is_on_the_digits_runs_to_its_end(begun, tmp_path):
    whole = [command for command in commands(completed=False) if words_of(command)]
    run = [command for command in whole if any(dataset_of(*started) == "digits" for started in begun(command))]
    folder = tmp_path / "walk"
    folder.mkdir()
    for command in run:
        name, words = words_of(command) or ("", [])
        shell([str(ROOT / SCRIPTS[name]), *words], folder)
    assert len(run) >= 4
    assert {"grid.png", "manifest.json"} <= {path.name for path in (folder / "output_dir/digits_1/distilled").iterdir()}
    assert (folder / "output_dir/digits_1/eval.json").is_file()


@pytest.mark.slow
def test_the_python_runs(tmp_path):
    shell(["-W", "error::jaxdd.core.errors.Notice", "-c", "\n".join(blocks("python"))], tmp_path)
    assert (tmp_path / "digits_1" / "manifest.json").is_file()
    assert (tmp_path / "ga_1" / "distilled" / "manifest.json").is_file()


def shell(words: list[str], folder: pathlib.Path) -> None:
    """Runs Python as a user does, from a folder."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, *words], cwd=folder, env=environment, capture_output=True, text=True, timeout=TIMEOUT
    )
    assert done.returncode == 0, f"{shlex.join(words)}\n{done.stdout}\n{done.stderr}"


def test_the_python_names_what_is_there():
    tree = ast.parse("\n".join(blocks("python")))
    attributes = [node for node in ast.walk(tree) if isinstance(node, ast.Attribute)]
    used = {node.attr for node in attributes if ast.unparse(node.value) == "jaxdd"}
    assert used and used <= set(jaxdd.__all__)
    assert set(jaxdd.__all__) - used <= {"__version__", "DistilledSet"}, "verbs that the README leaves out"


def rows(heading: str) -> Iterator[list[str]]:
    """Cells of the table below a heading, without its first two lines."""
    section = TEXT.split(f"## {heading}\n")[1].split("\n## ")[0]
    table = [line for line in section.splitlines() if line.startswith("|")]
    yield from ([cell.strip() for cell in line.strip("|").split("|")] for line in table[2:])


TABLE = list(rows("Sixteen methods"))


def test_the_table_has_every_method_with_its_paper():
    table = {cells[0].strip("`"): cells[1] for cells in TABLE}
    assert list(table) == list(jaxdd.METHODS)
    for name, paper in table.items():
        arxiv = re.search(r"arXiv (\S+)", jaxdd.METHODS[name].paper)
        assert arxiv is None or f"[{arxiv[1]}](https://arxiv.org/abs/{arxiv[1]})" in paper


@pytest.mark.parametrize("cells", TABLE, ids=lambda cells: cells[0].strip("`"))
def test_a_published_score_is_that_of_the_commands_config(cells, begun):
    name, _, command, published, _ = (cell.strip("`") for cell in cells)
    (job, flags, settings, *_) = begun(command)[-1]
    if flags.config_path:
        config = flags.config_path
    elif job is recover:
        config = f"cda/{settings.method}_{flags.preset}"
    else:
        config = f"matching/{settings.run.method}_{settings.run.dataset_name}_{settings.ipc}"
    file = read_config(find_config(config))
    assert file.values["method"] == name
    figures = [figure for found in FIGURE.findall(published) for figure in found.split(" +- ")]
    assert bool(figures) == (published != "-")
    assert set(figures) <= set(re.findall(r"\d+\.\d", file.header["accuracy"]))


def figures_of(name: str) -> dict[str, Any]:
    """What a result file says; it also has the command that made it."""
    report = json.loads((ROOT / name).read_text())
    assert report["command"], name
    return report["figures"]


def written(figures: dict[str, Any], label: str, ipc: str) -> str:
    """A figure as the README writes it, in %.

    Arguments:
        figures: of a result file: the rows of one evaluation, or methods by images per class.
        label: what networks were trained on, or a method's name.
        ipc: images per class.
    """
    if "kernel_accuracy" in figures:
        return f"{100 * figures['kernel_accuracy']:.1f}"
    if "rows" in figures:
        known = ("random real", "k-means real")
        wanted = label if label in known else "distilled"
        found = [row for row in figures["rows"] if row["name"] == wanted and not row.get("augmented")]
        if not found:
            return "-"
        runs = [100 * run for run in found[0]["runs"]]
        return f"{statistics.fmean(runs):.1f} +- {statistics.pstdev(runs):.1f}"
    entry = figures[f"ipc {ipc}"][label]
    return f"{entry['mean']:.1f} +- {entry['std']:.1f}"


@pytest.mark.parametrize("cells", TABLE, ids=lambda cells: cells[0].strip("`"))
def test_a_measured_score_is_that_of_its_file(cells):
    name, cell = cells[0].strip("`"), cells[-1]
    ((figure, file),) = LINK.findall(cell)
    ipc = re.findall(r", (\d+):", cell)[0]
    assert figure == written(figures_of(file), name, ipc)


@pytest.mark.parametrize("cells", list(rows("Results")), ids=lambda cells: cells[0])
def test_a_row_of_results_is_that_of_its_file(cells):
    what, *stated, file = cells
    title = what.partition(",")[0]
    name = next((row[0].strip("`") for row in TABLE if row[1].startswith(f"{title},")), "")
    name = "sre2l_pp" if title == "SRe2L++" else name
    ipc = (re.findall(r"(\d+) per class", what) or ["1"])[0]
    figures = figures_of(f"benchmarks/results/{file.strip('`')}")
    labels = (name, "random real", "k-means real")
    assert [cell.strip("*") for cell in stated] == [written(figures, label, ipc) for label in labels]


def test_a_figure_in_prose_is_that_of_the_file_beside_it():
    seen = 0
    prose = "\n".join(line for line in SPAN.sub("", BLOCK.sub("", TEXT)).splitlines() if not line.startswith("|"))
    for part in prose.split("\n\n"):
        files = [target for _, target in LINK.findall(part) if target.endswith(".json")]
        text = LINK.sub(lambda link: f"={link[1]}" if link[2].endswith(".json") else "", part)
        for figure in re.findall(r"\d+\.\d \+- \d+\.\d|(?<==)\d+\.\d", text):
            seen += 1
            (figures,) = map(figures_of, files)
            kinds = ("distilled", "random real", "k-means real")
            known = {written(figures, kind, "") for kind in kinds} if "rows" in figures else set()
            assert figure in known | {f"{value:.1f}" for value in figures.values() if isinstance(value, float)}
    assert seen == 3


def test_links_and_pictures_are_there():
    targets = [target.partition("#")[0] for _, target in LINK.findall(TEXT) if not target.startswith("https://")]
    assert [target for target in targets if not (ROOT / target).exists()] == []

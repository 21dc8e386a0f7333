"""A small world for the real command: a folder with toy rows and tiny recipes, and `mlctl` as a process in it."""

import json
import os
import random
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

import mlctl

settings.register_profile("any-machine", deadline=None)  # how long an example takes says how busy the machine is
settings.load_profile("any-machine")

COMMAND = "from mlctl.cli.main import main; main()"
WATCHED_COMMAND = """
import atexit, json, os, sys
opened = []
sys.addaudithook(lambda event, arguments: opened.append(str(arguments[0])) if event == "open" else None)
def report():
    seen = {"modules": sorted(sys.modules), "opened": opened[:]}
    with open(os.environ["WATCHED"], "w") as stream:
        json.dump(seen, stream)
atexit.register(report)
"""
SECONDS_BEFORE_GIVING_UP = 120
HEAVY = {
    "torch", "onnx", "onnxruntime", "onnxscript", "onnxconverter_common", "numpy", "pyarrow", "sklearn", "PIL",
    "safetensors", "huggingface_hub", "openvino", "tokenizers", "httpx2",
}  # fmt: skip
"""Libraries that take longer to load than a person waits."""

TINY = """\
mlctl: 1
name: tiny
seed: 3

prepare:
  task: regression
  source: rows.csv
  features: {columns: [a, b]}
  target: y

train:
  model: {arch: mlp, hidden: [4]}
  epochs: 2
  batch_size: 16
  precision: float32
"""
LONG = TINY.replace("name: tiny", "name: long").replace("epochs: 2", "epochs: 500\n  checkpoint_seconds: 0.05")
"""Trains for seconds, and writes a checkpoint twenty times in each."""
WHOLE = """\
mlctl: 1
name: whole
seed: 3

prepare:
  task: image-classification
  source: images.csv
  image: {columns: "pixel_*", shape: [1, 4, 4], scale: 16}
  label: side

train:
  model: {arch: cnn, channels: [4]}
  epochs: 3
  batch_size: 16
  precision: float32

export: {}

eval:
  latency: {batch: [1], rounds: 10}

gates:
  - eval[export].accuracy >= eval[train].accuracy - 0.5
"""


@dataclass(frozen=True)
class Finished:
    """What a command came to."""

    code: int
    """The exit code, or minus the number of the signal that ended the process."""
    out: str
    err: str


@dataclass(frozen=True)
class Watched(Finished):
    """A command whose process was watched from within."""

    modules: frozenset[str]
    """Every module that was imported when the process ended."""
    opened: tuple[str, ...]
    """Every file that Python opened, in order."""


class Lab:
    """A folder with `rows.csv`, `images.csv`, and the recipes `tiny.yaml`, `long.yaml` and `whole.yaml`.

    Calling it runs a command line in a process of its own, with the folder as its working directory.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def store(self) -> Path:
        """Where artifacts lie unless a command says otherwise."""
        return self.folder / ".mlctl"

    def __call__(self, line: str, **environment: str) -> Finished:
        """Run `mlctl` with the arguments in `line`, and `environment` beside the lab's own."""
        with self.start(line, **environment) as process:
            return finished(process)

    def start(self, line: str, *, code: str = COMMAND, **environment: str) -> subprocess.Popen[str]:
        """Start the command in a process group of its own, and do not wait for it."""
        return subprocess.Popen(
            [sys.executable, "-c", code, *shlex.split(line)],
            cwd=self.folder,
            env={**self.environment(), **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def watched(self, line: str, **environment: str) -> Watched:
        """Run it, and see what it imports and opens."""
        place = self.folder / "watched.json"
        with self.start(line, code=WATCHED_COMMAND + COMMAND, WATCHED=str(place), **environment) as process:
            result = finished(process)
        seen = json.loads(place.read_text())
        place.unlink()
        return Watched(
            result.code, result.out, result.err, modules=frozenset(seen["modules"]), opened=tuple(seen["opened"])
        )

    def environment(self) -> Mapping[str, str]:
        """That of this process without what changes the command's manners, and with the package within reach."""
        kept = {
            name: value
            for name, value in os.environ.items()
            if name not in ("CI", "TERM", "FORCE_COLOR", "RANK", "LOCAL_RANK", "WORLD_SIZE")
            and not name.startswith(("GITHUB_", "HF_", "MLCTL_", "MLFLOW_", "SLURM_"))
        }
        roots = [str(Path(mlctl.__file__).parents[1]), *filter(None, [kept.get("PYTHONPATH")])]
        ours = {"NO_COLOR": "1", "COLUMNS": "200", "HF_HUB_OFFLINE": "1", "PYTHONPATH": os.pathsep.join(roots)}
        return {**kept, **ours}

    def json(self, line: str) -> Any:
        """What the command prints with `--json`; it must succeed."""
        result = self(f"{line} --json")
        assert result.code == 0, result.err
        return json.loads(result.out)

    def artifact(self, recipe: str, step: str, store: Path | None = None) -> Path:
        """The folder of the artifact that the step last came to."""
        return ((store or self.store) / "steps" / recipe / step).resolve(strict=True)

    def bytes_of(self, store: Path | None = None) -> dict[str, bytes]:
        """Every byte that follows from a recipe: all files of all artifacts but manifests and measured times."""
        root = (store or self.store) / "artifacts"
        timed = ("manifest.json", "latency.npy")
        files = (path for path in sorted(root.rglob("*")) if path.is_file() and path.name not in timed)
        return {path.relative_to(root).as_posix(): path.read_bytes() for path in files}


def finished(process: subprocess.Popen[str]) -> Finished:
    """Wait for it, but not for ever."""
    try:
        out, err = process.communicate(timeout=SECONDS_BEFORE_GIVING_UP)
    except subprocess.TimeoutExpired:
        kill(process)
        raise
    return Finished(process.returncode, out, err)


def kill(process: subprocess.Popen[str]) -> None:
    """End the process and all that it started, at once."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def may_mount() -> bool:
    """Whether a small disk can be had here, to be filled."""
    script = "mount -t tmpfs tmpfs /tmp"
    try:
        tried = subprocess.run(["unshare", "--map-root-user", "--mount", "sh", "-c", script], check=False)
    except FileNotFoundError:
        return False
    return tried.returncode == 0


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Bytes by their parameter's name: compressed ones hold the clock, and all workers must find tests of one name."""
    return argname if isinstance(val, bytes) else None


def new_lab(folder: Path) -> Lab:
    """A lab in a folder that is there already."""
    dice = random.Random(5)
    rows = [(dice.gauss(0, 1), dice.gauss(0, 1)) for _ in range(60)]
    lines = [f"{a:.4f},{b:.4f},{2 * a - b + dice.gauss(0, 0.1):.4f}" for a, b in rows]
    (folder / "rows.csv").write_text("\n".join(["a,b,y", *lines]) + "\n")
    names = ",".join(f"pixel_{number}" for number in range(16))
    (folder / "images.csv").write_text("\n".join([f"{names},side", *(_image(dice) for _ in range(60))]) + "\n")
    for name, text in (("tiny", TINY), ("long", LONG), ("whole", WHOLE)):
        (folder / f"{name}.yaml").write_text(text)
    return Lab(folder)


def _image(dice: random.Random) -> str:
    """Four rows of four pixels, brighter on one side, and the side."""
    side = dice.choice(["left", "right"])
    bright = (0, 1) if side == "left" else (2, 3)
    pixels = [
        dice.randrange(8, 17) if column in bright else dice.randrange(0, 9) for _ in range(4) for column in range(4)
    ]
    return ",".join(map(str, [*pixels, side]))


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    """A lab whose store was not made yet."""
    return new_lab(tmp_path)


@pytest.fixture(scope="session")
def finished_labs(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    """A lab in which `tiny.yaml` and `whole.yaml` have been run once; to be copied, never to be changed."""
    lab = new_lab(tmp_path_factory.mktemp("finished"))
    for recipe in ("tiny", "whole"):
        result = lab(f"run {recipe}.yaml --threads 1")
        assert result.code == 0, result.err
    return lab


@pytest.fixture
def finished_lab(finished_labs: Lab, tmp_path: Path) -> Lab:
    """A lab of one's own in which `tiny.yaml` and `whole.yaml` are done."""
    shutil.copytree(finished_labs.folder, tmp_path / "lab", symlinks=True)
    return Lab(tmp_path / "lab")


@pytest.fixture(scope="session")
def language_labs(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    """A lab in which `language.yaml`, a language model down to integers, has been run; never to be changed."""
    from language_labs import new_language_lab

    lab = new_language_lab(tmp_path_factory.mktemp("language"))
    result = lab("run language.yaml --threads 1")
    assert result.code == 0, result.err
    return lab


@pytest.fixture
def language_lab(language_labs: Lab, tmp_path: Path) -> Lab:
    """A lab of one's own in which `language.yaml` is done."""
    shutil.copytree(language_labs.folder, tmp_path / "lab", symlinks=True)
    return Lab(tmp_path / "lab")

"""Data that are not as the recipe says: each kind of damage has its message, its place, and exit code 3."""

import gzip
import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from conftest import TINY, WHOLE, Lab
from PIL import Image

FOLDER = """\
mlctl: 1
name: tiny
seed: 3
prepare: {task: image-classification, source: photos, image: {shape: [3, 8, 8]}}
"""


def jpeg(seed: int) -> bytes:
    stream = io.BytesIO()
    values = np.random.default_rng(seed).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(values).save(stream, "jpeg")
    return stream.getvalue()


def with_photos(folder: Path, content: bytes) -> None:
    for number in range(10):
        path = folder / "photos" / "ab"[number % 2] / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(jpeg(number))
    (folder / "photos" / "a" / "bad.jpg").write_bytes(content)
    (folder / "tiny.yaml").write_text(FOLDER)


def with_rows(folder: Path, change: Callable[[list[str]], list[str]]) -> None:
    """`rows.csv` with its lines changed; the header is the first."""
    path = folder / "rows.csv"
    path.write_text("\n".join(change(path.read_text().splitlines())) + "\n")


def with_source(folder: Path, name: str, content: bytes) -> None:
    (folder / name.partition("!")[0]).write_bytes(content)
    (folder / "tiny.yaml").write_text(TINY.replace("rows.csv", f'"{name}"'))


def with_classes(folder: Path, keys: str, lines: list[str]) -> None:
    recipe = WHOLE.replace("name: whole", "name: tiny").replace("  label: side", f"  label: side\n  {keys}")
    (folder / "tiny.yaml").write_text(recipe)
    path = folder / "images.csv"
    path.write_text("\n".join([*path.read_text().splitlines()[:1], *lines]) + "\n")


def zstd(content: bytes) -> bytes:
    packed: bytes = pa.Codec("zstd").compress(content, asbytes=True)
    return packed


def climbing(kind: bytes = tarfile.REGTYPE) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        info = tarfile.TarInfo("../../climbed.csv")
        info.type, info.linkname = kind, "/etc/passwd"
        archive.addfile(info)
    return gzip.compress(stream.getvalue())


ROWS = b"a,b,y\n" + b"1,2,3\n" * 5000
IMAGE = ",".join(["7"] * 16)

BAD: dict[str, tuple[Callable[[Path], None], str]] = {
    "a corrupt JPEG": (lambda lab: with_photos(lab, jpeg(0)[:700]), "photos/a/bad.jpg: the image cannot be decoded: "),
    "no JPEG": (lambda lab: with_photos(lab, b"GIF89a"), "photos/a/bad.jpg: the image cannot be decoded: "),
    "truncated gzip": (
        lambda lab: with_source(lab, "cut.csv.gz", gzip.compress(ROWS)[:-10]),
        "cut.csv.gz: the gzip stream breaks off before its end",
    ),
    "truncated zstd": (
        lambda lab: with_source(lab, "cut.csv.zst", zstd(ROWS)[:-10]),
        "cut.csv.zst: the zstd stream breaks off before its end",
    ),
    "ragged rows": (
        lambda lab: with_rows(lab, lambda lines: [*lines[:4], "1,2", "1,2,3,4", *lines[4:]]),
        "rows.csv:5: the row has 2 values, the header 3",
    ),
    "wrong encoding": (
        lambda lab: with_source(lab, "latin.csv", "a,b,y\n1,2,3\n1,2,ü\n".encode("latin-1")),
        "latin.csv:3: the text is not UTF-8 (byte 0xfc)",
    ),
    "a label that is no number": (
        lambda lab: with_rows(lab, lambda lines: [*lines, "1,2,nan"]),
        "rows.csv:62: column 'y' holds 'nan', not a finite number",
    ),
    "an infinite label": (
        lambda lab: with_rows(lab, lambda lines: [*lines[:2], "1,2,-inf", *lines[2:]]),
        "rows.csv:3: column 'y' holds '-inf', not a finite number",
    ),
    "an infinite label in JSON": (
        lambda lab: with_source(lab, "t.jsonl", b'{"a": 1, "b": 2, "y": 3}\n{"a": 1, "b": 2, "y": Infinity}\n'),
        "t.jsonl:2: column 'y' holds Infinity, not a finite number",
    ),
    "a class that is no number": (
        lambda lab: with_classes(lab, "split: {stratify: true}", [f"{IMAGE},1"] * 20 + [f"{IMAGE},nan"]),
        "images.csv:22: column 'side' holds 'nan', which is no label",
    ),
    "a class with one sample": (
        lambda lab: with_classes(lab, "split: {stratify: true}", [f"{IMAGE},left"] * 20 + [f"{IMAGE},right"]),
        "stratify needs 3 rows of every class, one for each split; too few of 'right' (1)",
    ),
    "an empty split": (
        lambda lab: with_classes(lab, "split: {train: 0.98, validation: 0.01, test: 0.01}", [f"{IMAGE},left"] * 20),
        "the validation split has no rows",
    ),
    "an archive that climbs out of its folder": (
        lambda lab: with_source(lab, "bad.tar.gz!**/*.csv", climbing()),
        "bad.tar.gz!../../climbed.csv: the archive's file would lie outside the folder that it is opened in",
    ),
    "an archive that leads out of its folder": (
        lambda lab: with_source(lab, "bad.tgz", climbing(tarfile.SYMTYPE)),
        "bad.tgz!../../climbed.csv: the archive's file would lie outside the folder that it is opened in",
    ),
    "a member that is not there": (
        lambda lab: with_source(lab, "bad.tgz!*.tsv", gzip.compress(bytes(1024))),
        "bad.tgz: no file of the archive matches '*.tsv'",
    ),
    "a damaged Parquet file": (
        lambda lab: with_source(lab, "bad.parquet", b"PAR1 and nothing more"),
        "bad.parquet: this is not an intact Parquet file",
    ),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_input_is_named_with_exit_code_3_and_leaves_nothing(lab: Lab, kind: str) -> None:
    damage, message = BAD[kind]
    damage(lab.folder)
    before = {path for path in lab.folder.rglob("*") if lab.store not in path.parents} | {lab.store}
    result = lab("prepare tiny.yaml")
    assert (result.code, result.out) == (3, "")
    place, _, what = message.partition(": ")  # the step's name stands between them, where it is not a row
    assert [line for line in result.err.splitlines() if place in line and what in line]
    assert "\n  next: " in result.err
    assert "Traceback" not in result.err
    assert str(lab.store) not in result.err
    after = {path for path in lab.folder.rglob("*") if lab.store not in path.parents} | {lab.store}
    assert after == before
    assert [path for path in (lab.store / "artifacts").glob("*") if path.is_dir()] == []
    assert [path.name for path in lab.store.rglob("*") if "staging" in path.name or "climbed" in path.name] == []


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("https://example.org/rows.csv", "a file that is fetched needs its digest"),
        ("hf://datasets/owner/name@main/rows.csv", "a branch or a tag, which can change"),
        ("s3://bucket/rows.csv", "this kind of address cannot be read"),
        ("rows**.csv", "this is no glob"),
    ],
)
@pytest.mark.parametrize("command", ["plan", "prepare"])
def test_a_location_that_cannot_be_is_a_usage_error_of_the_plan(
    lab: Lab, command: str, source: str, message: str
) -> None:
    (lab.folder / "tiny.yaml").write_text(TINY.replace("rows.csv", source))
    result = lab(f"{command} tiny.yaml")
    assert result.code == 2
    assert message in result.err
    assert source in result.err

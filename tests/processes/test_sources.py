"""Every kind of source, from raw files to prepared arrays, through the real command."""

import gzip
import io
import json
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from conftest import TINY, Lab
from PIL import Image
from pyarrow import csv as arrow_csv
from pyarrow import parquet

CLASSES = """\
mlctl: 1
name: classes
seed: 3

prepare:
  task: image-classification
  image: {shape: %s}
"""
PARTS = {"train": "data_batch_*.bin", "test": "test_batch.bin"}
"""CIFAR-10's files of each split."""


def prepared(lab: Lab, recipe: str, *overrides: str) -> dict[str, bytes]:
    """Every array that the recipe's prepare step writes; nothing else is left of what it read."""
    result = lab(f"prepare {recipe}.yaml {' '.join(overrides)}")
    assert result.code == 0, result.err
    return arrays_of(lab, recipe)


def arrays_of(lab: Lab, recipe: str) -> dict[str, bytes]:
    folder = lab.artifact(recipe, "prepare")
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    arrays = {name for name in names if name.endswith(".npy")}
    assert names - arrays == {"manifest.json", "data.json", "statistics.json"}
    return {name: (folder / name).read_bytes() for name in arrays}


def zstd(content: bytes) -> bytes:
    packed: bytes = pa.Codec("zstd").compress(content, asbytes=True)
    return packed


def as_lines(rows: bytes) -> bytes:
    header, *lines = rows.decode().split()
    names = header.split(",")
    return "".join(
        json.dumps(dict(zip(names, map(float, line.split(",")), strict=True))) + "\n" for line in lines
    ).encode()


def as_parquet(rows: bytes) -> bytes:
    stream = io.BytesIO()
    parquet.write_table(arrow_csv.read_csv(io.BytesIO(rows)), stream)
    return stream.getvalue()


def zipped(**files: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return stream.getvalue()


def tarred(files: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return stream.getvalue()


@pytest.mark.parametrize(
    ("source", "written"),
    [
        ("rows.csv.gz", gzip.compress),
        ("rows.csv.zst", zstd),
        ("rows.jsonl", as_lines),
        ("rows.ndjson.zst", lambda rows: zstd(as_lines(rows))),
        ("rows.parquet", as_parquet),
        ("rows.zip!rows.csv", lambda rows: zipped(**{"rows.csv": rows, "about.md": b""})),
        ("rows.tar.zst!*/*.jsonl.gz", lambda rows: zstd(tarred({"data/rows.jsonl.gz": gzip.compress(as_lines(rows))}))),
    ],
)
def test_a_table_of_any_form_comes_to_the_same_bytes(
    lab: Lab, finished_labs: Lab, source: str, written: Callable[[bytes], bytes]
) -> None:
    rows = (lab.folder / "rows.csv").read_bytes()
    (lab.folder / source.partition("!")[0]).write_bytes(written(rows))
    (lab.folder / "other.yaml").write_text(TINY.replace("rows.csv", f'"{source}"').replace("name: tiny", "name: other"))
    assert prepared(lab, "other") == arrays_of(finished_labs, "tiny")


def pixels(count: int, *shape: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.random.default_rng(count).integers(0, 256, (count, *shape), dtype=np.uint8)


def test_cifar_10_is_prepared_from_its_archive(lab: Lab) -> None:
    files = {"cifar-10-batches-bin/batches.meta.txt": "\n".join("abcdefghij").encode()}
    numbers = {
        name: (np.arange(count) % 10).astype(np.uint8) for name, count in (("data_batch_1", 30), ("test_batch", 20))
    }
    for name, labels in numbers.items():
        images = pixels(len(labels), 3072)
        files[f"cifar-10-batches-bin/{name}.bin"] = np.concatenate([labels[:, None], images], axis=1).tobytes()
    (lab.folder / "cifar-10-binary.tar.gz").write_bytes(gzip.compress(tarred(files)))
    split = "".join(f'{part}: "cifar-10-binary.tar.gz!*/{file}", ' for part, file in PARTS.items())
    (lab.folder / "classes.yaml").write_text(CLASSES % "[3, 32, 32]" + f"  split: {{files: {{{split}}}}}\n")
    arrays = prepared(lab, "classes")
    assert np.array_equal(np.load(io.BytesIO(arrays["test/image.npy"])), pixels(20, 3, 32, 32))
    assert np.load(io.BytesIO(arrays["test/target.npy"])).tolist() == numbers["test_batch"].tolist()
    description = json.loads((lab.artifact("classes", "prepare") / "data.json").read_text())
    assert (description["labels"], description["rows"]) == (
        list("0123456789"),
        {"train": 27, "validation": 3, "test": 20},
    )
    files_of_train = '["cifar-10-binary.tar.gz!*/*.txt", "cifar-10-binary.tar.gz!*/data_batch_*.bin"]'
    assert prepared(lab, "classes", f"'prepare.split.files.train={files_of_train}'") == arrays
    description = json.loads((lab.artifact("classes", "prepare") / "data.json").read_text())
    assert description["labels"] == list("abcdefghij")


def test_a_family_of_idx_files_is_prepared(lab: Lab) -> None:
    for part, count in (("train", 40), ("t10k", 20)):
        images, labels = pixels(count, 4, 5), (np.arange(count) % 10).astype(np.uint8)
        for name, values in (("images-idx3", images), ("labels-idx1", labels)):
            header = struct.pack(f">HBB{values.ndim}I", 0, 8, values.ndim, *values.shape)
            (lab.folder / f"{part}-{name}-ubyte.gz").write_bytes(gzip.compress(header + values.tobytes()))
    (lab.folder / "classes.yaml").write_text(
        CLASSES % "[1, 4, 5]" + "  split: {files: {train: train-*, test: t10k-*}}\n"
    )
    arrays = prepared(lab, "classes")
    assert np.array_equal(np.load(io.BytesIO(arrays["test/image.npy"]))[:, 0], pixels(20, 4, 5))
    planned = lab("plan classes.yaml")
    assert (planned.code, "reuse" in planned.out) == (0, True)


def test_an_archive_of_images_comes_to_the_bytes_of_its_folder(lab: Lab, tmp_path: Path) -> None:
    files = {}
    for number in range(12):
        stream = io.BytesIO()
        Image.fromarray(pixels(number + 1, 5, 4)[number]).save(stream, "png")
        files[f"photos/{'cat' if number % 2 else 'dog'}/{number:02}.png"] = stream.getvalue()
        path = lab.folder / f"photos/{'cat' if number % 2 else 'dog'}/{number:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(stream.getvalue())
    (lab.folder / "photos.tgz").write_bytes(gzip.compress(tarred({"photos/LICENSE": b"free", **files})))
    made = []
    for name in ("photos", "photos.tgz"):
        (lab.folder / "classes.yaml").write_text(CLASSES % "[1, 5, 4]" + f"  source: {name}\n")
        made.append(prepared(lab, "classes"))
    assert made[0] == made[1]


@pytest.mark.parametrize(
    ("data", "written"),
    [("d.tsv.zst", lambda rows: zstd(rows.replace(b",", b"\t"))), ("d.jsonl", as_lines), ("d.parquet", as_parquet)],
)
def test_init_drafts_a_recipe_for_every_form_of_table(
    lab: Lab, finished_labs: Lab, data: str, written: Callable[[bytes], bytes]
) -> None:
    (lab.folder / data).write_bytes(written((lab.folder / "rows.csv").read_bytes()))
    drafted = lab(f"init {data} -o d.yaml")
    assert drafted.code == 0, drafted.err
    overrides = ("seed=3", "'prepare.split={train: 0.8, validation: 0.1, test: 0.1}'")
    assert prepared(lab, "d", *overrides) == arrays_of(finished_labs, "tiny")

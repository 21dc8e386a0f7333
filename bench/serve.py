"""Serving beside an in-process session and other servers: throughput, processor time, latency, start, memory.

    python bench/serve.py throughput|cpu|latency|start|texts [--peers FOLDER] [--seconds N] [--rounds N]

The load comes from wrk, in a process of its own. FOLDER of peers holds a virtual environment for each: `fastapi`,
`litserve`, `mlserver`, `bentoml`, `torchserve`; those that are not there are left out, and so said. All servers of a
round are measured one after the other, each alone, and rounds repeat; ratios are round by round.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import minilm
import numpy as np
import serving_models
from ratios import Ratio
from serve_load import Load, Question, served

from mlctl.runtime.session import OnnxSession

HERE = Path(__file__).parent
JSON = {"Content-Type": "application/json"}
PEERS = ("fastapi", "torchserve", "mlserver", "litserve", "bentoml")
ROWS = 64
CALLERS = 64
FLOOR_BATCHES = (1, 2, 4, 8, 16, 32, 64)


@dataclass(frozen=True)
class Way:
    """One server, and how it is asked."""

    name: str
    command: Callable[[int], Sequence[str]]
    question: Question


def own(graph: Path, question: Question, *flags: str, name: str = "mlctl") -> Way:
    """mlctl, with its answers not written to any log, as the peers have none."""
    mlctl = Path(sys.executable).with_name("mlctl")
    words = [str(mlctl), "serve", str(graph), "--name", "graph", "--quiet", *flags]
    return Way(name, lambda port: [*words, "--port", str(port)], question)


def peer(name: str, folder: Path, graph: Path, question: Question, *flags: str, threads: int = 1) -> Way:
    """Another server, in its own environment, its session on so many threads."""
    words = [
        "env",
        f"THREADS={threads}",
        str(folder / name / "bin" / "python"),
        str(HERE / f"serve_{name}.py"),
        str(graph),
    ]
    return Way(name, lambda port: [*words, str(port), *flags], question)


def images() -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """Rows of pixels [64, 1, 28, 28] float32."""
    random = np.random.default_rng(serving_models.SEED)
    return random.integers(0, 256, (ROWS, *serving_models.SHAPE)).astype(np.float32)


def in_json() -> Question:
    """A row of pixels as the Open Inference Protocol has it."""
    bodies = [
        {"inputs": [{"name": "image", "datatype": "FP32", "shape": [1, *row.shape], "data": row.ravel().tolist()}]}
        for row in images()
    ]
    return Question("/v2/models/graph/infer", JSON, tuple(json.dumps(each).encode() for each in bodies))


def in_binary() -> Question:
    """The same as bytes, answered as bytes."""
    head = {
        "inputs": [
            {
                "name": "image", "datatype": "FP32", "shape": [1, *serving_models.SHAPE],
                "parameters": {"binary_data_size": images()[0].nbytes},
            }
        ],
        "outputs": [{"name": "probabilities", "parameters": {"binary_data": True}}],
    }  # fmt: skip
    header = json.dumps(head, separators=(",", ":")).encode()
    headers = {"Content-Type": "application/octet-stream", "Inference-Header-Content-Length": str(len(header))}
    return Question("/v2/models/graph/infer", headers, tuple(header + row.tobytes() for row in images()))


def peer_questions(name: str) -> tuple[Question, Question | None]:
    """A row in JSON, and as bytes where the server takes those."""
    rows = tuple(json.dumps({"rows": [row.ravel().tolist()]}).encode() for row in images())
    paths = {"fastapi": "/json", "litserve": "/predict", "bentoml": "/predict", "torchserve": "/predictions/graph"}
    if name == "mlserver":
        bodies = [
            {"inputs": [{"name": "image", "datatype": "FP32", "shape": [1, 784], "data": row.ravel().tolist()}]}
            for row in images()
        ]
        return Question(in_json().path, JSON, tuple(json.dumps(each).encode() for each in bodies)), None
    binary = None
    if name == "fastapi":
        octets = {"Content-Type": "application/octet-stream"}
        binary = Question("/binary", octets, tuple(row.tobytes() for row in images()))
    return Question(paths[name], JSON, rows), binary


def floor(graph: Path, seconds: float) -> float:
    """Rows a second of an ONNX Runtime session on one thread in this process, at its best batch."""
    session = OnnxSession(graph, threads=1)
    rows = images()
    best = 0.0
    for size in FLOOR_BATCHES:
        batch = (np.ascontiguousarray(rows[:size]),)
        count, started = 0, time.perf_counter()
        while (spent := time.perf_counter() - started) < seconds / len(FLOOR_BATCHES):
            session(batch)
            count += size
        best = max(best, count / spent)
    return best


def throughput(models: Mapping[str, Path], asked: argparse.Namespace) -> Iterator[str]:
    """Requests a second over binary tensors against the session itself."""
    for name, reach in (("cnn", 0.85), ("cnn-int8", 0.8)):
        way = own(models[name], in_binary(), "--workers", "1", "--intra-op-threads", "1")
        rates, floors = [], []
        with tempfile.TemporaryDirectory() as folder, served(way.command, way.question) as running:
            for _ in range(asked.rounds):
                floors.append(floor(models[name], asked.seconds))
                load = running.load(way.question, Path(folder) / "bodies", connections=CALLERS, seconds=asked.seconds)
                yield from complaint(way.name, load)
                rates.append(load.requests_per_second)
        rate, most = statistics.median(rates), statistics.median(floors)
        yield f"{name:9} {rate:,.0f} requests/s of {most:,.0f} rows/s in process: {Ratio.of(rates, floors, reach)}"


def measured(ways: Sequence[Way], asked: argparse.Namespace, connections: int) -> dict[str, list[Load]]:
    """Every server in turn, in every round."""
    found: dict[str, list[Load]] = {way.name: [] for way in ways}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(asked.rounds):
            for way in ways:
                with served(way.command, way.question) as running:
                    bodies = Path(folder) / "bodies"
                    running.load(way.question, bodies, connections=connections, seconds=1)
                    found[way.name].append(
                        running.load(way.question, bodies, connections=connections, seconds=asked.seconds)
                    )
    return found


def complaint(name: str, load: Load) -> Iterator[str]:
    """A line where requests failed."""
    if load.failed:
        yield f"{name}: {load.failed} requests FAILED"


def rows_of(found: Mapping[str, Sequence[Load]]) -> Iterator[str]:
    """A line for each server."""
    for name, loads in found.items():
        rate, cpu, p50, p99 = (
            statistics.median(values)
            for values in zip(
                *((each.requests_per_second, each.cpu_per_thousand, each.p50, each.p99) for each in loads), strict=True
            )
        )
        failed = sum(each.failed for each in loads)
        yield (
            f"  {name:16} {rate:8,.0f} requests/s  {cpu:6.3f} CPU-s per 1,000  p50 {p50 * 1e3:7.2f} ms  "
            f"p99 {p99 * 1e3:7.2f} ms{f'  {failed} FAILED' if failed else ''}"
        )


def best(found: Mapping[str, Sequence[Load]], figure: Callable[[Load], float], mine: str, *, larger: bool) -> str:
    """The peer that is best on the median."""
    others = [name for name in found if not name.startswith(mine)]
    chosen: str = (max if larger else min)(others, key=lambda name: statistics.median(map(figure, found[name])))
    return chosen


def cpu(models: Mapping[str, Path], asked: argparse.Namespace) -> Iterator[str]:
    """Processor seconds for a thousand requests."""
    flags = ("--workers", "1", "--intra-op-threads", "1")
    ways = [own(models["cnn"], in_json(), *flags, name="mlctl json"), own(models["cnn"], in_binary(), *flags)]
    for name in asked.present:
        as_json, binary = peer_questions(name)
        ways.append(peer(name, asked.peers, models["cnn"], as_json))
        if binary:
            way = peer(name, asked.peers, models["cnn"], binary)
            ways.append(Way(f"{name} binary", way.command, binary))
            plain = replace(as_json, path="/documented")
            ways.append(Way(f"{name} documented", way.command, plain))
    found = measured(ways, asked, CALLERS)
    yield from rows_of(found)

    def spent(load: Load) -> float:
        return load.cpu_per_thousand

    peers = {name: loads for name, loads in found.items() if "mlctl" not in name}
    least = best({name: each for name, each in peers.items() if "binary" not in name}, spent, "mlctl", larger=False)
    yield f"JSON   against {least}: {Ratio.of([*map(spent, found['mlctl json'])], [*map(spent, peers[least])], 0.5)}"
    least = best(peers, spent, "mlctl", larger=False)
    yield f"binary against {least}: {Ratio.of([*map(spent, found['mlctl'])], [*map(spent, peers[least])], 0.4)}"
    if documented := [*map(spent, found.get("fastapi documented", []))]:
        for form, mine, reach in (("JSON  ", "mlctl json", 0.5), ("binary", "mlctl", 0.4)):
            yield f"{form} against fastapi documented: {Ratio.of([*map(spent, found[mine])], documented, reach)}"


def latency(models: Mapping[str, Path], asked: argparse.Namespace) -> Iterator[str]:
    """The median of one caller."""
    mine = own(models["cnn"], in_json(), "--workers", "1", "--intra-op-threads", "1")
    by_hand = peer("fastapi", asked.peers, models["cnn"], peer_questions("fastapi")[0])
    plain = Way("fastapi documented", by_hand.command, replace(by_hand.question, path="/documented"))
    found = measured([mine, by_hand, plain], asked, 1)
    yield from rows_of(found)
    for name in (by_hand.name, plain.name):
        ratio = Ratio.of([each.p50 for each in found["mlctl"]], [each.p50 for each in found[name]], 0.5)
        yield f"p50 against {name}: {ratio}"


def start(models: Mapping[str, Path], asked: argparse.Namespace) -> Iterator[str]:
    """Seconds from the command to the first answer, and memory after some load.

    All start from byte code that an earlier start has left, as packages that pip has installed do; this project may
    lie here as sources alone.
    """
    ways = [own(models["cnn"], in_json())]
    ways += [peer(name, asked.peers, models["cnn"], peer_questions(name)[0]) for name in asked.present]
    cold: dict[str, list[float]] = {way.name: [] for way in ways}
    held: dict[str, list[float]] = {way.name: [] for way in ways}
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["PYTHONPYCACHEPREFIX"] = str(Path(folder) / "bytecode")
        for way in ways:
            with served(way.command, way.question):
                pass
        for _ in range(asked.rounds):
            for way in ways:
                with served(way.command, way.question) as running:
                    running.load(way.question, Path(folder) / "bodies", connections=8, seconds=2)
                    cold[way.name].append(running.cold)
                    held[way.name].append(float(running.resident()))
    for name in cold:
        seconds, megabytes = statistics.median(cold[name]), statistics.median(held[name]) / 1e6
        yield f"  {name:12} {seconds:6.3f} s to the first answer  {megabytes:7.1f} MB"
    for figure, what, reach in ((cold, "cold start", 0.6), (held, "memory", 1.0)):
        least = min((name for name in figure if name != "mlctl"), key=lambda name: statistics.median(figure[name]))
        yield f"{what} against {least}: {Ratio.of(figure['mlctl'], figure[least], reach)}"


def texts(models: Mapping[str, Path], asked: argparse.Namespace) -> Iterator[str]:
    """Sentences of mixed length, text in, embedding out; every server may use all cores."""
    sentences = minilm.sentences()
    mixed = [sentences[place] for place in np.random.default_rng(serving_models.SEED).permutation(len(sentences))]
    tokenizer = str(models["minilm"].with_name("tokenizer.json"))
    cores = len(os.sched_getaffinity(0))

    def ask(path: str, body: Callable[[str], object]) -> Question:
        return Question(path, JSON, tuple(json.dumps(body(each)).encode() for each in mixed))

    mine = ask("/v1/models/graph:predict", lambda text: {"instances": [text]})
    ways = [own(models["minilm"], mine), own(models["minilm-int8"], mine, name="mlctl int8")]
    paths = {"fastapi": "/json", "litserve": "/predict", "torchserve": "/predictions/graph"}
    for name in asked.present:
        if name == "mlserver":
            question = ask(
                "/v2/models/graph/infer",
                lambda text: {"inputs": [{"name": "text", "datatype": "BYTES", "shape": [1, 1], "data": [text]}]},
            )
        elif name == "bentoml":
            question = ask("/predict", lambda text: {"rows": [text]})
        else:
            question = ask(paths[name], lambda text: {"texts": [text]})
        way = peer(name, asked.peers, models["minilm"], question, "--tokenizer", tokenizer, threads=cores)
        ways.append(way)
    found = measured(ways, asked, CALLERS)
    yield from rows_of(found)

    def rate(load: Load) -> float:
        return load.requests_per_second

    most = best(found, rate, "mlctl", larger=True)
    least = best(found, lambda load: load.p99, "mlctl", larger=False)
    yield f"requests/s against {most}: {Ratio.of([*map(rate, found['mlctl'])], [*map(rate, found[most])], 1.25)}"
    yield (
        f"p99 against {least}: "
        f"{Ratio.of([each.p99 for each in found['mlctl']], [each.p99 for each in found[least]], 0.6)}"
    )
    yield f"int8 against {most}: {Ratio.of([*map(rate, found['mlctl int8'])], [*map(rate, found[most])], 2.5)}"


WHAT = {"throughput": throughput, "cpu": cpu, "latency": latency, "start": start, "texts": texts}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=tuple(WHAT))
    parser.add_argument("--peers", type=Path, default=Path("peers"))
    parser.add_argument("--models", type=Path)
    parser.add_argument("--seconds", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    asked.peers = asked.peers.absolute()
    asked.present = tuple(name for name in PEERS if (asked.peers / name / "bin" / "python").exists())
    print(f"peers: {', '.join(asked.present) or 'none'}")
    with tempfile.TemporaryDirectory() as folder:
        for line in WHAT[asked.what](serving_models.make(asked.models or Path(folder)), asked):
            print(line, flush=True)


if __name__ == "__main__":
    main()

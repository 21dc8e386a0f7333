"""The work of quantize: a quantizer, the search that keeps accuracy, and honest figures."""

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from mlctl.compression.quantization.fallback import Kept, keep_accurate
from mlctl.compression.quantization.profiling import SlowNode, slow_nodes
from mlctl.compression.quantization.quantizer import Quantizer, Without
from mlctl.compression.quantization.scheme import Scheme
from mlctl.compression.quantization.sensitivity import sensitivities
from mlctl.compression.quantization.serialization import serialized
from mlctl.data.prepared import PreparedData
from mlctl.digests import canonical, jsonable
from mlctl.engine.figures import Figure, Kind
from mlctl.engine.stage import Work
from mlctl.errors import StepFailed
from mlctl.events import Warned
from mlctl.graphs.decoding import decoder_difference, write_decoder
from mlctl.graphs.inspection import inspect
from mlctl.graphs.metadata import PREFIX
from mlctl.graphs.properties import write_properties
from mlctl.graphs.saving import FILE_NAME, LARGEST_FILE, save_graph
from mlctl.metrics.speed import faster_than
from mlctl.recipe.quantize import QuantizeCommon
from mlctl.runtime.answers import first_rows
from mlctl.runtime.generation import DECODER_NAME
from mlctl.runtime.latency import Floats, measure_latency, summary
from mlctl.runtime.session import OnnxSession
from mlctl.stages.artifacts import Data, OnnxModel
from mlctl.stages.parent_speed import parent_speed
from mlctl.stages.quantization_judge import CONFIDENCE, Judge
from mlctl.stages.quantizers import FIXED_RANGES, Making, require_nodes
from mlctl.stages.quantizing_decoder import quantized_decoder

if TYPE_CHECKING:
    from onnx import ModelProto

REPORT = "quantization.json"
PROBE_ROWS = 8
PROFILED_BATCH = 1
ROUNDS = 40
WARMUP_ROUNDS = 5


class Quantizing:
    """One quantization, from the float graph to the step's folder."""

    def __init__(
        self, settings: QuantizeCommon, scheme: Scheme, seed: int, model: OnnxModel, data: Data, work: Work
    ) -> None:
        self._settings = settings
        self._work = work
        self._parent = model.graph
        prepared = PreparedData.open(data.folder)
        self._making = Making(settings, scheme, seed, model.graph, prepared, work)
        self._judge = Judge(prepared, OnnxSession(model.graph, threads=work.threads), work)
        self._rows = prepared.split("validation").inputs

    def figures(self) -> tuple[Figure, ...]:
        """Write `model.onnx` and `quantization.json`, and return what integers cost and gain."""
        self._say_scheme()
        self._probe()
        quantizer = self._making.quantizer()
        require_nodes(quantizer)
        slow = self._slow(quantizer)
        quantizer = Without(quantizer, frozenset(slow)) if slow else quantizer
        require_nodes(quantizer)
        kept = self._kept(quantizer)
        self._write(kept.model)
        self._write_decoder({*self._making.excluded, *slow, *(node for node, _ in kept.kept)})
        compared = self._judge.compared(kept.model)
        self._report(quantizer, kept, slow)
        self._work.choices.update({f"float[{node}]": f"{decibels:.1f} dB" for node, decibels in kept.kept})
        self._work.choices.update(
            {
                f"float[{name}]": f"{each.quantized_ms:.4f} ms as integers, {each.float_ms:.4f} ms"
                for name, each in slow.items()
            }
        )
        return (*compared, self._speed(), *self._sizes(quantizer, kept, slow))

    def _say_scheme(self) -> None:
        making = self._making
        self._work.choices["method"] = making.method
        if making.method in FIXED_RANGES:
            self._work.choices["scheme"] = str(making.scheme)
        elif making.method == "dynamic":
            self._work.choices["scheme"] = f"{making.scheme.weights} weights; {making.scheme.why}"

    def _probe(self) -> None:
        """A scheme that is known to be slow is timed on a few rows before hours are spent on it."""
        slow = self._making.known_slow(PROBE_ROWS)
        if slow is None:
            return
        ratio = self._ratio(self._session(slow.instead), self._session(slow.model))
        if ratio < 1:
            self._work.tell(Warned(f"{slow.reason}; measured on one row: x {ratio:.2f} of the speed without"))

    def _slow(self, quantizer: Quantizer) -> Mapping[str, SlowNode]:
        if self._settings.prefer != "speed":
            return {}
        everything = quantizer.quantized()
        rows = first_rows(self._rows, PROFILED_BATCH)
        found = slow_nodes(
            self._making.model,
            everything,
            rows,
            threads=self._work.threads,
            batch=PROFILED_BATCH,
            scratch=self._work.folder,
        )
        slow = {each.node: each for each in found if each.node in quantizer.nodes}
        if len(slow) == len(quantizer.nodes):
            raise StepFailed(
                "every node of this graph is slower as integers on this machine",
                next="serve the float graph, or set `prefer: size` to quantize all the same",
            )
        mixed = quantizer.quantized(frozenset(slow))
        # Going to and fro between integers and floats may cost more than the nodes themselves.
        return slow if self._ratio(self._session(everything), self._session(mixed)) > 1 else {}

    def _kept(self, quantizer: Quantizer) -> Kept:
        if self._settings.max_drop is None:
            model = quantizer.quantized()
            return Kept(model, (), self._judge.drop(model), 1, is_met=True)
        return keep_accurate(
            quantizer,
            drop=self._judge.drop,
            max_drop=self._settings.max_drop,
            sensitivities=lambda: sensitivities(
                quantizer, self._making.model, self._rows, threads=self._work.threads, tell=self._work.tell
            ),
            tell=self._work.tell,
        )

    def _write(self, model: "ModelProto") -> None:
        write_properties(model, self._properties())
        save_graph(model, self._work.folder)

    def _write_decoder(self, floats: Collection[str]) -> None:
        """That of a language model, beside its own graph; `floats` names nodes of this one that stayed in float."""
        decoder = quantized_decoder(self._making, floats, self._work)
        if decoder is None:
            return
        write_properties(decoder, self._properties())
        write_decoder(decoder, self._work.folder, external_above=LARGEST_FILE)
        whole, steps = (
            OnnxSession(self._work.folder / name, threads=self._work.threads) for name in (FILE_NAME, DECODER_NAME)
        )
        # Where ranges are found for every call, one token and a whole text do not have the same.
        found = decoder_difference(whole, steps, self._rows[0])
        self._work.choices["decoder"] = f"logits of single tokens are within {found:.3g} of those of whole texts"

    def _properties(self) -> dict[str, str]:
        return {
            f"{PREFIX}fingerprint": self._work.fingerprint,
            f"{PREFIX}quantization": canonical({"method": self._making.method, **self._types()}).decode(),
        }

    def _types(self) -> dict[str, Any]:
        scheme = self._making.scheme
        if self._making.method in FIXED_RANGES:
            return {"activations": scheme.activations, "weights": scheme.weights}
        return {"weights": scheme.weights} if self._making.method == "dynamic" else {}

    def _report(self, quantizer: Quantizer, kept: Kept, slow: Collection[str]) -> None:
        calibration = self._making.calibration
        report = {
            "method": self._making.method,
            "scheme": asdict(self._making.scheme),
            "excluded": sorted(self._making.excluded),
            "quantized": [name for name in quantizer.nodes if name not in {node for node, _ in kept.kept}],
            "kept": [{"node": node, "decibels": decibels} for node, decibels in kept.kept],
            "slow": sorted(slow),
            "drop": kept.drop,
            "evaluations": kept.evaluations,
            "is_met": kept.is_met,
            "calibration_rows": calibration.rows if calibration else 0,
            "ranges": {name: asdict(found) for name, found in calibration.ranges.items()} if calibration else {},
        }
        (self._work.folder / REPORT).write_text(json.dumps(jsonable(report), indent=2) + "\n")

    def _speed(self) -> Figure:
        own = OnnxSession(self._work.folder / self._parent.name, threads=self._work.threads)
        parent, seconds = self._timed(self._judge.parent, own)
        found = faster_than(parent, seconds, confidence=CONFIDENCE, seed=0)
        if found.interval.high < 1:
            self._work.tell(Warned(f"the quantized graph is slower than its parent: x {found.ratio:.2f} on one row"))
        return parent_speed(found, CONFIDENCE)

    def _session(self, model: "ModelProto") -> OnnxSession:
        return OnnxSession(serialized(model), threads=self._work.threads)

    def _ratio(self, reference: OnnxSession, session: OnnxSession) -> float:
        """How many times as fast as `reference` the other answers one row, at the median."""
        before, own = (summary(each[0]).p50 for each in self._timed(reference, session))
        return before / own

    def _timed(self, reference: OnnxSession, session: OnnxSession) -> Floats:
        models = [("reference", reference), ("session", session)]
        return measure_latency(models, self._rows, batches=(1,), rounds=ROUNDS, warmup=WARMUP_ROUNDS)

    def _sizes(self, quantizer: Quantizer, kept: Kept, slow: Collection[str]) -> Iterator[Figure]:
        found = inspect(self._work.folder / self._parent.name)
        yield Figure("quantized_nodes", Kind.SIZE, len(quantizer.nodes) - len(kept.kept))
        yield Figure("kept_nodes", Kind.SIZE, len(kept.kept) + len(slow))
        yield Figure("nodes", Kind.SIZE, found.nodes)
        yield Figure("bytes", Kind.SIZE, found.bytes, "bytes", better="lower")

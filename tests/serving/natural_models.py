"""Real graphs as a server sees them: loaded, with the signature that their file comes to."""

from dataclasses import dataclass
from pathlib import Path

from mlctl.runtime.running import Port
from mlctl.runtime.session import OnnxSession
from mlctl.serving.meaning import meaning_of
from mlctl.serving.natural.inputs import natural_for
from mlctl.serving.natural.values import Natural
from mlctl.serving.signature import Meaning, Signature


@dataclass(frozen=True)
class Served:
    """A graph, and what may be sent to it."""

    session: OnnxSession
    signature: Signature
    natural: Natural


def served(graph: Path) -> Served:
    """The graph's file with nothing but itself and what lies beside it."""
    session = OnnxSession(graph, threads=1)
    meaning = meaning_of(session.metadata, graph)
    signature = Signature("model", 1, session.name, session.inputs, session.outputs, meaning)
    return Served(session, signature, natural_for(signature))


def natural(inputs: tuple[Port, ...], outputs: tuple[Port, ...], meaning: Meaning | None = None) -> Natural:
    """The natural inputs of a model that is told by its signature alone."""
    return natural_for(Signature("model", 1, "onnxruntime", inputs, outputs, meaning or Meaning()))

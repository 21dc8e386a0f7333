"""`serve --selftest`: the proof, for every model that would be live, that an answer in a batch is the answer alone."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mlctl.stages.serving import OneModel, shelf_of

if TYPE_CHECKING:
    from mlctl.serving.settings import ServerSettings


@dataclass(frozen=True)
class Trial:
    """One way in which rows were joined, and how far their answers were from those of the rows alone.

    `difference` is a share of the answer's largest number; 0 for the same bits.
    """

    what: str
    rows: int
    difference: float
    holds: bool


@dataclass(frozen=True)
class Proof:
    """Every way that was tried with one model."""

    model: str
    """`name@version`."""
    holds: bool
    tolerance: float
    largest_batch: int
    """Rows that are joined at the most; 1 where joining does not pay, or would change answers."""
    is_padded: bool
    """Whether rows of different length are joined."""
    trials: tuple[Trial, ...]


def prove(what: OneModel | Path, settings: "ServerSettings") -> tuple[Proof, ...]:
    """A proof for every model.

    Raises what `serve` raises for a model that cannot be loaded, and StepFailed where no rows can be made up for it.
    """
    from mlctl.serving.batching.selftest import selftest
    from mlctl.serving.loading import open_session, padding_of, sample_rows

    shelf, proofs = shelf_of(what), []
    for name in shelf.names():
        live = shelf.live_version(name)
        assert live is not None
        version = shelf.open_version(name, live)
        session = open_session(version.graph, settings.execution)
        pad, given = padding_of(session, version.graph), sample_rows(version)
        found = selftest(session, settings.execution, settings.batching, pad=pad, given=given)
        trials = tuple(
            Trial(each.what, each.rows, each.difference, each.difference <= found.tolerance) for each in found.checks
        )
        proofs.append(
            Proof(f"{name}@{live}", found.holds, found.tolerance, found.largest_batch, found.is_padded, trials)
        )
    return tuple(proofs)

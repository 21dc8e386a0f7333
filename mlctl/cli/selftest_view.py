"""`mlctl serve --selftest`: whether an answer in a batch is the answer alone, as a table or as JSON."""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict

from mlctl.digests import jsonable
from mlctl.engine.figures import Kind
from mlctl.stages.proving import Proof
from mlctl.units import plural


def show_proofs(proofs: Sequence[Proof], *, as_json: bool) -> int:
    """Print them; 0 where all hold, else the exit code of parity."""
    if as_json:
        sys.stdout.write(json.dumps(jsonable([asdict(each) for each in proofs]), indent=2) + "\n")
    else:
        for each in proofs:
            _show(each)
    return 0 if all(each.holds for each in proofs) else Kind.PARITY.exit_code


def _show(proof: Proof) -> None:
    joined = f"joins up to {plural(proof.largest_batch, 'row')}" if proof.largest_batch > 1 else "joins no rows"
    padded = ", of different lengths too" if proof.is_padded else ""
    sys.stdout.write(f"{proof.model}: {joined}{padded}; tolerance {proof.tolerance:g} of an answer's largest number\n")
    width = max(len(each.what) for each in proof.trials)
    for each in proof.trials:
        found = "the same bits" if each.difference == 0 else f"differs by {each.difference:.2g} at most"
        sys.stdout.write(f"  {each.what:<{width}}  {found}{'' if each.holds else '  WRONG'}\n")
    sys.stdout.write(f"  {'holds' if proof.holds else 'does not hold'}\n")

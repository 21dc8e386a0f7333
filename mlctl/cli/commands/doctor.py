"""`mlctl doctor`: what this machine has."""

import json as json_text
import sys
from dataclasses import asdict
from pathlib import Path

from mlctl.cli.options import DebugFlag, JsonFlag, StoreOption


def doctor(store: StoreOption = None, json: JsonFlag = False, debug: DebugFlag = False) -> int:
    """Say what this machine has: cores, instruction sets, GPU, library versions, and the store's health."""
    from mlctl.cli.session import STORE_NAME
    from mlctl.stages.diagnosis import diagnose, diagnosis_lines

    found = diagnose(store or Path(STORE_NAME))
    text = json_text.dumps(asdict(found), indent=2) if json else "\n".join(diagnosis_lines(found))
    sys.stdout.write(text + "\n")
    return 0

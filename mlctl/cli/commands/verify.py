"""`mlctl verify`: every stored byte is read again."""

import json as json_text
import sys
from dataclasses import asdict

from mlctl.cli.options import DebugFlag, JsonFlag, RecipeArgument, StoreOption


def verify(recipe: RecipeArgument, store: StoreOption = None, json: JsonFlag = False, debug: DebugFlag = False) -> int:
    """Read every file of the store again and compare it with what was written; exit 3 names what is damaged."""
    from mlctl.cli.session import Session
    from mlctl.engine.verification import verify_store
    from mlctl.errors import UsageError
    from mlctl.units import plural

    session = Session(recipe, (), store)
    if not recipe.is_file():
        raise UsageError("there is no such recipe", where=recipe, next="name the recipe whose store is to be read")
    checks = verify_store(session.store)
    if json:
        sys.stdout.write(json_text.dumps([asdict(check) for check in checks], indent=2) + "\n")
    else:
        for check in checks:
            sys.stdout.write(f"{check.step:<12} {check.fingerprint[:12]}  {check.damage or 'whole'}\n")
            if check.damage:
                sys.stderr.write(f"  next: `mlctl run {recipe} --force {check.step}` makes it again\n")
        damaged = sum(check.damage is not None for check in checks)
        word = f"{damaged:,} damaged" if damaged else "all whole" if checks else "nothing to read"
        sys.stdout.write(f"{session.store.root}: {plural(len(checks), 'artifact')}, {word}\n")
    return max((check.exit_code for check in checks), default=0)

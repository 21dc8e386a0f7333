"""`mlctl gc`: what no current recipe needs."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from mlctl.cli.options import DebugFlag, StoreOption


def gc(
    recipes: Annotated[list[Path], typer.Argument(metavar="RECIPE...", help="Recipes whose artifacts are kept.")],
    store: StoreOption = None,
    delete: Annotated[bool, typer.Option("--delete", help="Remove them; without it they are only listed.")] = False,
    debug: DebugFlag = False,
) -> int:
    """List, or remove, artifacts that neither these recipes nor others that use the store need."""
    from mlctl.cli.session import Session, needed_fingerprints
    from mlctl.engine.collection import collect, garbage
    from mlctl.units import plural, size_text

    target = Session(recipes[0], (), store).store
    found = tuple(garbage(target, needed_fingerprints(target, recipes)))
    for each in found:
        is_gone = delete and collect(target, each)
        word = "removed" if is_gone else "in use" if delete else "would go"
        sys.stdout.write(f"{word:<8}  {each.fingerprint[:12]}  {size_text(each.bytes):>9}  {each.what}\n")
    total = size_text(sum(each.bytes for each in found))
    hint = "" if delete or not found else "; `--delete` removes them"
    sys.stdout.write(f"{plural(len(found), 'folder')}, {total}{hint}\n")
    return 0

"""`mlctl train`: the train steps, in this process or in many."""

from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from mlctl.cli.options import (
    AllowCodeFlag,
    DebugFlag,
    DeviceOption,
    ForceOption,
    JsonFlag,
    JunitOption,
    KeepGoingFlag,
    OutputOption,
    OverrideArgument,
    QuietFlag,
    RecipeArgument,
    SetOption,
    StoreOption,
    ThreadsOption,
)
from mlctl.errors import UsageError

ProcessesOption: TypeAlias = Annotated[
    int | None,
    typer.Option(
        "--nproc-per-node", min=1, max=1024, metavar="N", help="Processes on this machine that train one model."
    ),
]
MachinesOption: TypeAlias = Annotated[
    int | None,
    typer.Option("--nnodes", min=1, max=65536, metavar="M", help="Machines on which this same command is started."),
]
EndpointOption: TypeAlias = Annotated[
    str | None,
    typer.Option("--rdzv-endpoint", metavar="HOST:PORT", help="Where the machines meet: a free port of one of them."),
]
FindFlag: TypeAlias = Annotated[
    bool, typer.Option("--find-lr", help="Try learning rates instead, and suggest one; nothing is trained.")
]


def train(
    recipe: RecipeArgument,
    overrides: OverrideArgument = None,
    find_lr: FindFlag = False,
    output: OutputOption = None,
    nproc_per_node: ProcessesOption = None,
    nnodes: MachinesOption = None,
    rdzv_endpoint: EndpointOption = None,
    set_: SetOption = None,
    store: StoreOption = None,
    force: ForceOption = None,
    keep_going: KeepGoingFlag = False,
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
    allow_code: AllowCodeFlag = False,
    json: JsonFlag = False,
    junit: JunitOption = None,
    quiet: QuietFlag = False,
    debug: DebugFlag = False,
) -> int:
    """Train a network, in one process or in many; with --find-lr, draw the loss over learning rates into --output."""
    from mlctl.cli.many import launched
    from mlctl.cli.output import Output
    from mlctl.cli.session import Session, run_options
    from mlctl.stages.launching import wanted_launch

    session = Session(recipe, (*(overrides or ()), *(set_ or ())), store)
    spoken = Output(as_json=json, is_quiet=quiet, junit=junit)
    wanted = wanted_launch(nproc_per_node, nnodes, rdzv_endpoint)
    require_together(find_lr=find_lr, is_launch=wanted is not None, output=output, force=force)
    if find_lr:
        from mlctl.cli.finding import find_lr as find

        return find(session, run_options(device, threads, keep_going, allow_code), spoken, output)
    plan = session.plan(session.needed_for("train"), force or ())
    options = run_options(device, threads, keep_going, allow_code)
    if wanted and (code := launched("train", wanted, session, plan, options, spoken)) is not None:
        return code
    return spoken.finish(session.run("train", plan, options, spoken))


def require_together(*, find_lr: bool, is_launch: bool, output: Path | None, force: list[str] | None) -> None:
    """Raise UsageError for options of which one means nothing beside the other."""
    if output and not find_lr:
        raise UsageError("`--output` is where `--find-lr` draws its curve", next="add `--find-lr`, or leave it out")
    if find_lr and is_launch:
        raise UsageError("one process tries learning rates", next="leave out `--nproc-per-node` and `--nnodes`")
    if find_lr and force:
        raise UsageError("`--find-lr` makes no step that could be forced", next="leave out `--force`")

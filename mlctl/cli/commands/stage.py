"""`mlctl STAGE`: the steps of one stage, and whatever they need that is not there yet."""

from collections.abc import Callable
from typing import Final

from mlctl.cli.options import (
    AllowCodeFlag,
    DebugFlag,
    DeviceOption,
    ForceOption,
    JsonFlag,
    JunitOption,
    KeepGoingFlag,
    OverrideArgument,
    QuietFlag,
    RecipeArgument,
    SetOption,
    StoreOption,
    ThreadsOption,
)

PURPOSES: Final = {
    "prepare": "Read, clean and split the data.",
    "train": "Train a network.",
    "prune": "Take parts out of a network.",
    "distill": "Let a small network learn from a large one.",
    "export": "Turn trained models into ONNX graphs, and compare them.",
    "quantize": "Turn floats into integers, and compare them.",
    "eval": "Run every model on the same held-out data.",
    "serve": "Answer requests over the network.",
}
TAKES_FILES: Final = ("export", "quantize")
"""Stages that also take an ONNX file with `--from`."""


def stage_command(stage: str) -> Callable[..., int]:
    """The command that runs the steps of `stage`."""

    def command(
        recipe: RecipeArgument,
        overrides: OverrideArgument = None,
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
        from mlctl.cli.output import Output
        from mlctl.cli.session import Session, run_options

        session = Session(recipe, (*(overrides or ()), *(set_ or ())), store)
        plan = session.plan(session.needed_for(stage), force or ())
        output = Output(as_json=json, is_quiet=quiet, junit=junit)
        return output.finish(session.run(stage, plan, run_options(device, threads, keep_going, allow_code), output))

    return command

"""`mlctl export` and `mlctl quantize`: stages that also take an ONNX file which was made elsewhere."""

from collections.abc import Callable

from mlctl.cli.options import (
    AllowCodeFlag,
    DataOption,
    DebugFlag,
    DeviceOption,
    ForceOption,
    FromOption,
    JsonFlag,
    JunitOption,
    KeepGoingFlag,
    OptionalRecipeArgument,
    OutputOption,
    OverrideArgument,
    QuietFlag,
    SetOption,
    StoreOption,
    ThreadsOption,
)


def model_stage_command(stage: str) -> Callable[..., int]:
    """The command that runs the steps of `stage` in a recipe, or on a file with `--from`."""

    def command(
        recipe: OptionalRecipeArgument = None,
        overrides: OverrideArgument = None,
        from_: FromOption = None,
        data: DataOption = None,
        output: OutputOption = None,
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
        from mlctl.cli.foreign import HandOut, asked_for
        from mlctl.cli.output import Output
        from mlctl.cli.session import run_options

        asked = asked_for(stage, recipe, from_, data)
        session = asked.session((*asked.overrides, *(overrides or ()), *(set_ or ())), store)
        hand_out = HandOut.planned(session, stage, output) if output else None
        plan = session.plan(session.needed_for(stage), force or ())
        spoken = Output(as_json=json, is_quiet=quiet, junit=junit)
        verdict = session.run(stage, plan, run_options(device, threads, keep_going, allow_code), spoken)
        if hand_out:
            hand_out.carry_out(verdict)
        return spoken.finish(verdict)

    return command

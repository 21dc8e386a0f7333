"""`mlctl compare`: several models on the same held-out rows."""

from typing import Annotated, Literal, TypeAlias

import typer

from mlctl.cli.options import (
    AllowCodeFlag,
    BatchOption,
    DataOption,
    DebugFlag,
    DeviceOption,
    JsonFlag,
    QuietFlag,
    RoundsOption,
    RuntimeOption,
    StoreOption,
)

ModelArguments: TypeAlias = Annotated[
    list[str], typer.Argument(metavar="MODEL...", help="ONNX files, folders of steps, or steps that --data has.")
]
SplitOption: TypeAlias = Annotated[
    Literal["train", "validation", "test"],
    typer.Option("--split", metavar="train|validation|test", help="The rows that all models answer."),
]
MarkdownFlag: TypeAlias = Annotated[bool, typer.Option("--markdown", help="Print the table as Markdown.")]


def compare(
    models: ModelArguments,
    data: DataOption = None,
    store: StoreOption = None,
    split: SplitOption = "test",
    batch: BatchOption = None,
    rounds: RoundsOption = 100,
    runtime: RuntimeOption = "onnxruntime",
    device: DeviceOption = "auto",
    allow_code: AllowCodeFlag = False,
    json: JsonFlag = False,
    markdown: MarkdownFlag = False,
    quiet: QuietFlag = False,
    debug: DebugFlag = False,
) -> int:
    """Set models against the first: quality with intervals, agreement, classes that lost, size and latency."""
    from mlctl.cli.compare_view import Wanted, run_compare
    from mlctl.cli.output import Output
    from mlctl.recipe.evaluate import EvalSettings, LatencySettings

    latency = LatencySettings(batch=tuple(batch or (1, 32)), rounds=rounds)
    settings = EvalSettings(split=split, runtime=runtime, latency=latency)
    wanted = Wanted(tuple(models), data, store, settings, device, allow_code)
    return run_compare(wanted, Output(as_json=json, is_quiet=quiet), as_markdown=markdown)

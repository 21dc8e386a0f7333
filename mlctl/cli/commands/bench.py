"""`mlctl bench`: how fast models are, one against the other."""

from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from mlctl.cli.options import (
    BatchOption,
    DataOption,
    DebugFlag,
    DeviceOption,
    JsonFlag,
    JunitOption,
    QuietFlag,
    RoundsOption,
    RuntimeOption,
    StoreOption,
)

ModelArguments: TypeAlias = Annotated[
    list[Path], typer.Argument(metavar="MODEL...", help="ONNX files, or folders of steps.")
]
ThreadCountOption: TypeAlias = Annotated[
    list[int] | None,
    typer.Option("--threads", min=1, max=1024, metavar="N", help="A number of threads to time; 1 by default."),
]
MadeUpSizeOption: TypeAlias = Annotated[
    int,
    typer.Option(
        "--open-size", min=1, max=65536, metavar="N", help="Size of open dimensions beside the batch, if made up."
    ),
]
GateOption: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--gate", metavar="GATE", help="What must hold, such as 'bench[int8].speedup_batch_1 >= 1.5'."),
]


def bench(
    models: ModelArguments,
    data: DataOption = None,
    store: StoreOption = None,
    batch: BatchOption = None,
    threads: ThreadCountOption = None,
    rounds: RoundsOption = 100,
    runtime: RuntimeOption = "onnxruntime",
    device: DeviceOption = "auto",
    open_size: MadeUpSizeOption = 64,
    gate: GateOption = None,
    json: JsonFlag = False,
    junit: JunitOption = None,
    quiet: QuietFlag = False,
    debug: DebugFlag = False,
) -> int:
    """Time ONNX models in turns, with intervals; exit 22 where a gate fails, 25 where it cannot be decided."""
    from mlctl.cli.bench_view import run_bench, show_bench
    from mlctl.cli.output import Output
    from mlctl.cli.preparing import prepared_data
    from mlctl.stages.bench_plan import BenchSettings, bench_plan

    on = "cpu" if device == "auto" else device
    settings = BenchSettings(tuple(batch or (1, 32)), tuple(threads or (1,)), rounds, runtime, on, open_size)
    plan = bench_plan(models, settings, gate or ())
    output = Output(as_json=json, is_quiet=quiet, junit=junit)
    verdict, folder = prepared_data(data, store, output) if data else (None, None)
    if verdict and folder is None:
        return output.finish(verdict)
    verdict = run_bench(plan, folder, output)
    if not json:
        show_bench(plan, verdict)
    return output.finish(verdict)

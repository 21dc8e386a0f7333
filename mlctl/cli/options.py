"""The options that commands share: all of them are about this run, none about the model."""

from pathlib import Path
from typing import Annotated, Literal, TypeAlias

import typer

RecipeArgument: TypeAlias = Annotated[Path, typer.Argument(metavar="RECIPE", help="The recipe, a YAML file.")]
OptionalRecipeArgument: TypeAlias = Annotated[
    Path | None, typer.Argument(metavar="RECIPE", help="The recipe, a YAML file; none with --from.", show_default=False)
]
OverrideArgument: TypeAlias = Annotated[
    list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Values that replace the recipe's.")
]
DataOption: TypeAlias = Annotated[
    Path | None, typer.Option("--data", metavar="RECIPE", help="The recipe whose prepared data is used.")
]
FromOption: TypeAlias = Annotated[
    Path | None, typer.Option("--from", metavar="FILE", help="An ONNX file that was made elsewhere; needs --data.")
]
OUTPUT = typer.Option("--output", "-o", metavar="FILE", help="The file to write.")
OutputOption: TypeAlias = Annotated[Path | None, OUTPUT]
SetOption: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Replace one value of the recipe, such as train.epochs=3."),
]
StoreOption: TypeAlias = Annotated[
    Path | None,
    typer.Option("--store", envvar="MLCTL_STORE", metavar="FOLDER", help="Where artifacts lie.", show_default=False),
]
ForceOption: TypeAlias = Annotated[
    list[str] | None, typer.Option("--force", metavar="STEP", help="Make this step again, whatever is there.")
]
UntilOption: TypeAlias = Annotated[
    str | None, typer.Option("--until", metavar="STEP", help="Leave out what stands below this step.")
]
KeepGoingFlag: TypeAlias = Annotated[
    bool, typer.Option("--keep-going", help="After a failure, go on with what does not need it.")
]
DeviceOption: TypeAlias = Annotated[
    str, typer.Option("--device", metavar="auto|cpu|cuda:N|tensorrt:N", help="Where to train, and where to run graphs.")
]
ThreadsOption: TypeAlias = Annotated[
    int | None,
    typer.Option("--threads", min=1, max=1024, metavar="N", help="Cores to use; by default OMP_NUM_THREADS, else all."),
]
BatchOption: TypeAlias = Annotated[
    list[int] | None,
    typer.Option("--batch", min=1, max=65536, metavar="N", help="A batch size to time; 1 and 32 by default."),
]
RoundsOption: TypeAlias = Annotated[
    int, typer.Option("--rounds", min=20, max=100_000, metavar="N", help="Timed calls of each model and size.")
]
RuntimeOption: TypeAlias = Annotated[
    Literal["auto", "onnxruntime", "openvino"],
    typer.Option("--runtime", metavar="auto|onnxruntime|openvino", help="What runs the graphs; auto takes the faster."),
]
AllowCodeFlag: TypeAlias = Annotated[
    bool, typer.Option("--allow-code", help="Let the recipe import the network that it names by import path.")
]
JsonFlag: TypeAlias = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]
JunitOption: TypeAlias = Annotated[
    Path | None, typer.Option("--junit", metavar="FILE", help="Write the gates as JUnit XML.")
]
QuietFlag: TypeAlias = Annotated[bool, typer.Option("--quiet", help="Tell nothing on stderr but errors.")]
DebugFlag: TypeAlias = Annotated[bool, typer.Option("--debug", help="Show tracebacks.")]

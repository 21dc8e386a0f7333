"""`mlctl serve`: a recipe's graph, a file or a repository over the network."""

from pathlib import Path
from typing import Annotated, Literal, TypeAlias

import typer

from mlctl.cli.options import (
    AllowCodeFlag,
    DebugFlag,
    ForceOption,
    JsonFlag,
    OverrideArgument,
    QuietFlag,
    SetOption,
    StoreOption,
    ThreadsOption,
)

TargetArgument: TypeAlias = Annotated[
    Path | None,
    typer.Argument(metavar="RECIPE|MODEL.onnx", help="What to serve; none with --repository.", show_default=False),
]
RepositoryOption: TypeAlias = Annotated[
    Path | None, typer.Option("--repository", metavar="FOLDER", help="Serve all models of a repository.")
]
StepOption: TypeAlias = Annotated[
    str | None, typer.Option("--step", metavar="STEP", help="The step to serve; the last graph by default.")
]
NameOption: TypeAlias = Annotated[
    str | None, typer.Option("--name", metavar="NAME", help="What the model is called; by default the recipe or file.")
]
HostOption: TypeAlias = Annotated[str | None, typer.Option("--host", metavar="ADDRESS", help="Where to listen.")]
PortOption: TypeAlias = Annotated[
    int | None, typer.Option("--port", min=0, max=65535, metavar="N", help="Port of HTTP; 0 takes a free one.")
]
GrpcPortOption: TypeAlias = Annotated[
    int | None, typer.Option("--grpc-port", min=0, max=65535, metavar="N", help="Port of gRPC; left out by default.")
]
WorkersOption: TypeAlias = Annotated[
    int | None, typer.Option("--workers", min=1, max=1024, metavar="N", help="Batches computed side by side.")
]
IntraOpOption: TypeAlias = Annotated[
    int | None, typer.Option("--intra-op-threads", min=1, max=1024, metavar="N", help="Threads of one batch.")
]
ServingDeviceOption: TypeAlias = Annotated[
    str, typer.Option("--device", metavar="cpu|cuda:N|tensorrt:N", help="What graphs run on.")
]
ServingRuntimeOption: TypeAlias = Annotated[
    Literal["onnxruntime", "openvino"] | None,
    typer.Option("--runtime", metavar="onnxruntime|openvino", help="What runs the graphs."),
]
TokensOption: TypeAlias = Annotated[
    Path | None,
    typer.Option("--tokens", envvar="MLCTL_TOKENS", metavar="FILE", help="Who may use it (`mlctl token` writes it)."),
]
CertificateOption: TypeAlias = Annotated[
    Path | None, typer.Option("--certificate", metavar="FILE", help="Speak TLS, with this certificate (PEM).")
]
KeyOption: TypeAlias = Annotated[Path | None, typer.Option("--key", metavar="FILE", help="The certificate's key.")]
AuditOption: TypeAlias = Annotated[
    Path | None, typer.Option("--audit", metavar="FILE", help="Append who used which version when.")
]
SelftestFlag: TypeAlias = Annotated[
    bool, typer.Option("--selftest", help="Prove that an answer in a batch is the answer alone, and end.")
]


def serve(
    target: TargetArgument = None,
    overrides: OverrideArgument = None,
    repository: RepositoryOption = None,
    step: StepOption = None,
    name: NameOption = None,
    host: HostOption = None,
    port: PortOption = None,
    grpc_port: GrpcPortOption = None,
    workers: WorkersOption = None,
    intra_op_threads: IntraOpOption = None,
    runtime: ServingRuntimeOption = None,
    device: ServingDeviceOption = "cpu",
    tokens: TokensOption = None,
    certificate: CertificateOption = None,
    key: KeyOption = None,
    audit: AuditOption = None,
    selftest: SelftestFlag = False,
    set_: SetOption = None,
    store: StoreOption = None,
    force: ForceOption = None,
    threads: ThreadsOption = None,
    allow_code: AllowCodeFlag = False,
    json: JsonFlag = False,
    quiet: QuietFlag = False,
    debug: DebugFlag = False,
) -> int:
    """Answer requests over the network."""
    from mlctl.cli.serving import Making, Speaking, Target, run_serve
    from mlctl.stages.serving_plan import ServeFlags

    flags = ServeFlags(
        host, port, grpc_port, workers, intra_op_threads, runtime, device, tokens, certificate, key, audit
    )
    making = Making((*(overrides or ()), *(set_ or ())), store, tuple(force or ()), step, threads, allow_code)
    wanted = Target(target, repository, name)
    return run_serve(wanted, flags, making, Speaking(json, quiet), is_selftest=selftest)

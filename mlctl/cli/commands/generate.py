"""`mlctl generate`: a language model goes on with a text."""

from typing import Annotated, TypeAlias

import typer

from mlctl.cli.options import (
    AllowCodeFlag,
    DebugFlag,
    DeviceOption,
    JsonFlag,
    OverrideArgument,
    QuietFlag,
    RecipeArgument,
    SetOption,
    StoreOption,
    ThreadsOption,
)

PromptOption: TypeAlias = Annotated[
    str, typer.Option("--prompt", metavar="TEXT", help="What to go on from; a line feed if empty.")
]
StepOption: TypeAlias = Annotated[
    str | None, typer.Option("--step", metavar="STEP", help="The step whose model generates; the last by default.")
]
TokensOption: TypeAlias = Annotated[
    int, typer.Option("--tokens", min=1, max=1_000_000, metavar="N", help="How many tokens to generate.")
]
TemperatureOption: TypeAlias = Annotated[
    float, typer.Option("--temperature", metavar="X", help="Below 1 bolder in what is likely; 0 takes the likeliest.")
]
TopKOption: TypeAlias = Annotated[
    int | None, typer.Option("--top-k", min=1, metavar="N", help="Draw from the N likeliest tokens alone.")
]
TopPOption: TypeAlias = Annotated[
    float | None, typer.Option("--top-p", metavar="X", help="Draw from the likeliest that reach this probability.")
]
SeedOption: TypeAlias = Annotated[
    int | None, typer.Option("--seed", min=0, metavar="N", help="The same seed, the same text; the recipe's if none.")
]


def generate(
    recipe: RecipeArgument,
    overrides: OverrideArgument = None,
    prompt: PromptOption = "",
    step: StepOption = None,
    tokens: TokensOption = 200,
    temperature: TemperatureOption = 0.8,
    top_k: TopKOption = None,
    top_p: TopPOption = None,
    seed: SeedOption = None,
    set_: SetOption = None,
    store: StoreOption = None,
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
    allow_code: AllowCodeFlag = False,
    json: JsonFlag = False,
    quiet: QuietFlag = False,
    debug: DebugFlag = False,
) -> int:
    """Let a language model go on with a text, which comes as it is made; what it needs is made first."""
    from mlctl.cli.generate_view import run_generate
    from mlctl.cli.output import Output
    from mlctl.cli.session import Session, run_options
    from mlctl.stages.generation_plan import GenerationSettings, prompt_text

    session = Session(recipe, (*(overrides or ()), *(set_ or ())), store)
    used = session.recipe.seed if seed is None else seed
    settings = GenerationSettings(prompt_text(prompt), tokens, temperature, top_k, top_p, used)
    options = run_options(device, threads, keep_going=False, allow_code=allow_code)
    return run_generate(session, step, settings, options, Output(as_json=json, is_quiet=quiet))

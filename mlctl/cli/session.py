"""What a command works with: the recipe, the store, and someone to tell."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from mlctl import __version__
from mlctl.cli.interrupts import raising_interrupts
from mlctl.cli.output import Output
from mlctl.engine.collection import remember_recipe, remembered_recipes
from mlctl.engine.company import ALONE, Company
from mlctl.engine.making import RunOptions
from mlctl.engine.plan import Life, Plan, Planner
from mlctl.engine.run import Runner, say_what_is_kept
from mlctl.engine.sources import SourceLedger
from mlctl.engine.store import Store
from mlctl.engine.verdict import Failure, Verdict
from mlctl.errors import Interrupted, UsageError
from mlctl.recipe.foreign import Foreign, examine_foreign
from mlctl.recipe.loading import examine_recipe
from mlctl.recipe.recipe import Recipe
from mlctl.stages.assembly import assemble_examined
from mlctl.stages.comparison import paired_difference
from mlctl.stages.peers import company_for, obey_launcher, threads_here, voiced

STORE_NAME = ".mlctl"


@dataclass(frozen=True)
class Session:
    """One recipe, with this run's overrides, and its store."""

    path: Path
    overrides: tuple[str, ...]
    store_folder: Path | None
    foreign: Foreign | None = None
    """A model that was made elsewhere, which then takes the place of all but the recipe's data."""

    @property
    def recipe(self) -> Recipe:
        """The recipe, checked. Raises RecipeError with all problems at once."""
        return self._read[0]

    @property
    def life(self) -> Life:
        """The recipe as the engine sees it. Raises RecipeError with all problems at once."""
        return self._read[1]

    @cached_property
    def _read(self) -> tuple[Recipe, Life]:
        if self.foreign:
            examined = examine_foreign(self.path, self.foreign, self.overrides)
        else:
            examined = examine_recipe(self.path, self.overrides)
        return examined.recipe, assemble_examined(examined)

    @cached_property
    def store(self) -> Store:
        """Beside the recipe, unless this run says otherwise."""
        return Store(self.store_folder or self.path.parent / STORE_NAME)

    def plan(self, wanted: frozenset[str], forced: Sequence[str] = ()) -> Plan:
        """What a run would do. Raises UsageError for a forced step that is not wanted."""
        for name in forced:
            if self.life.step(name).name not in wanted:
                raise UsageError(
                    f"{name} is forced, and is no part of what is asked for",
                    where=self.path,
                    next="leave `--force` or `--until` out, or run the whole recipe",
                )
        return Planner(self.store, self._ledger).plan(self.life, wanted, frozenset(forced))

    @cached_property
    def _ledger(self) -> SourceLedger:
        return SourceLedger(self.store.ledger)

    def run(self, command: str, plan: Plan, options: RunOptions, output: Output) -> Verdict:
        """Carry out the plan, telling `output`. Raises UsageError when it would import code that is not allowed."""
        self.require_allowed(plan, options)
        self.store.prepare()
        remember_recipe(self.store, self.path)
        company: Company = ALONE
        obey_launcher()
        try:
            with raising_interrupts() as interrupts, company_for(plan.shares_work) as company:
                with output.telling(self.life, is_follower=company.is_follower) as tell:
                    runner = Runner(
                        self.store,
                        self._ledger,
                        replace(options, company=company),
                        tell=interrupts.told(tell),
                        comparer=paired_difference,
                        interruption=interrupts.pending,
                    )
                    verdict = runner.run(plan, command)
                if any(failure.kind == Interrupted.__name__ for failure in verdict.failures):
                    interrupts.settle()
        except Interrupted as error:
            # Typer has an answer of its own to what is a KeyboardInterrupt, and it is not a verdict.
            say_what_is_kept(error, self.store, plan.steps)
            verdict = Verdict(__version__, command, str(self.path), failures=(Failure.of(error),))
        return voiced(verdict, plan, company)

    def require_allowed(self, plan: Plan, options: RunOptions) -> None:
        """Raise UsageError when the plan would import code that is not allowed."""
        if plan.importing and not options.allow_code:
            raise UsageError(
                f"{', '.join(plan.importing)} would import code that the recipe names",
                where=self.path,
                next="read that code, then allow it to run with `--allow-code`",
            )

    def until(self, last: str | None) -> frozenset[str]:
        """The steps down to `last`, or all."""
        names = [step.name for step in self.life.steps]
        if last is not None:
            names = names[: names.index(self.life.step(last).name) + 1]
        return frozenset(names)

    def needed_for(self, stage: str) -> frozenset[str]:
        """The steps of a stage and everything that they need. Raises UsageError when there is none."""
        names = [step.name for step in self.life.steps if step.stage.name == stage]
        if not names:
            raise UsageError(f"the recipe has no {stage} step", where=self.path, next=f"add a `{stage}:` key to it")
        return self.life.closure(names)


def needed_fingerprints(store: Store, recipes: Sequence[Path]) -> frozenset[str]:
    """What these recipes, and those that `store` remembers, come to."""
    paths = dict.fromkeys(path.absolute() for path in (*recipes, *remembered_recipes(store)))
    needed: set[str] = set()
    for path in paths:
        session = Session(path, (), store.root)
        needed |= {step.fingerprint for step in session.plan(session.until(None)).steps}
    return frozenset(needed)


def run_options(device: str, threads: int | None, keep_going: bool, allow_code: bool) -> RunOptions:
    """What is about this run, with the cores of `default_threads` unless it says otherwise.

    Raises UsageError for a device that cannot be, and what `default_threads` does.
    """
    if not re.fullmatch(r"auto|cpu|(cuda|tensorrt)(:\d{1,3})?", device):
        raise UsageError(f"{device!r} is not a device", next="write auto, cpu, cuda, cuda:N, tensorrt or tensorrt:N")
    return RunOptions(device, threads or default_threads(), keep_going, allow_code)


def default_threads() -> int:
    """How many threads this process uses where nothing is said. Raises UsageError for nonsense in the environment."""
    return threads_here(available_cores())


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0))

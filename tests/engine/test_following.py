"""What a process does that follows: its part of shared steps, in private, and nothing else."""

from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from small_world import World, Writing, no_difference, outcomes

from mlctl.engine.company import Company
from mlctl.engine.figures import Figure, Kind
from mlctl.engine.making import RunOptions
from mlctl.engine.plan import Life
from mlctl.engine.run import Runner
from mlctl.engine.sources import SourceLedger
from mlctl.engine.stage import Step, Work
from mlctl.engine.verdict import Verdict
from mlctl.errors import Diverged, PeerLost, Refusal


class Shared(Writing):
    """Writes as all do, with all processes at once."""

    is_shared_work = True


@dataclass
class Two(Company):
    """A company of two, in which this process hears what the test says, and what it says is kept."""

    rank: int = 0
    leaders: str = ""
    said: list[str] = field(default_factory=list)
    blames: dict[str, Refusal] = field(default_factory=dict)

    def agreed(self, word: str) -> str:
        self.said.append(word)
        return self.leaders if self.is_follower else word

    def blamed(self, error: Refusal) -> Refusal:
        return self.blames.get(error.what, error)


@dataclass
class Chain:
    """prepare → train (shared) → distill (shared) → eval, and aside, which nobody needs."""

    ran: list[str] = field(default_factory=list)
    folders: list[Path] = field(default_factory=list)
    failing: Refusal | None = None

    def life(self, world: World, *, with_distill: bool = False) -> Life:
        prepare = self._step("prepare", Writing)
        train = self._step("train", Shared, prepare)
        steps = [prepare, train]
        if with_distill:
            steps.append(self._step("distill", Shared, prepare, train))
        return world.life(*steps, self._step("eval", Writing, train), self._step("aside", Writing))

    def _step(self, name: str, kind: type[Writing], *inputs: Step[Path]) -> Step[Path]:
        def note(work: Work) -> None:
            self.ran.append(name)
            if kind.is_shared_work:
                self.folders.append(work.folder)
                (work.resume / "checkpoint").touch()
                if self.failing:
                    raise self.failing

        return Step(name, kind(name, inputs, also=note))


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def carried_out(world: World, life: Life, company: Company, *forced: str) -> Verdict:
    options = RunOptions(company=company)
    runner = Runner(
        world.store, SourceLedger(world.store.ledger), options, tell=world.events.append, comparer=no_difference
    )
    return runner.run(world.plan(life, *forced), "run")


def word(world: World, life: Life, outcome: str = "ran", name: str = "train") -> str:
    return f"{outcome} {next(each.fingerprint for each in world.plan(life).steps if each.step.name == name)}"


def test_a_follower_makes_what_the_shared_step_needs_takes_its_part_and_keeps_nothing(world: World) -> None:
    chain = Chain()
    life = chain.life(world)
    verdict = carried_out(world, life, Two(1, word(world, life)))
    assert chain.ran == ["prepare", "train"]
    assert outcomes(verdict) == [("prepare", "ran"), ("train", "ran"), ("eval", "skipped"), ("aside", "skipped")]
    assert verdict.exit_code == 0
    assert [folder.name for folder in world.store.artifacts()] == [world.plan(life).steps[0].fingerprint]
    assert list((world.store.root / "work").iterdir()) == []
    assert not world.store.was_made("small", "train")


def test_a_follower_works_where_its_leader_does_not(world: World) -> None:
    leader, follower = Chain(), Chain()
    carried_out(world, leader.life(world), Two())
    carried_out(world, follower.life(world), Two(1, word(world, follower.life(world))), "train")
    assert leader.folders != follower.folders


def test_a_follower_judges_no_gates_and_measures_nothing(world: World) -> None:
    chain = Chain()
    life = replace(chain.life(world), gates=world.life(gates=("train.length > 1000",)).gates)
    verdict = carried_out(world, life, Two(1, word(world, life)))
    assert (verdict.gates, verdict.exit_code) == ((), 0)


def test_a_follower_runs_nothing_that_its_leader_reuses(world: World) -> None:
    chain = Chain()
    life = chain.life(world)
    verdict = carried_out(world, life, Two(1, word(world, life, "reused")))
    assert chain.ran == ["prepare"]
    assert outcomes(verdict)[1] == ("train", "reused")


def test_a_follower_runs_what_its_leader_runs_whatever_is_there(world: World) -> None:
    """The leader's word counts: it may make a step again, or have another store."""
    chain = Chain()
    carried_out(world, chain.life(world), Two())
    chain.ran.clear()
    carried_out(world, chain.life(world), Two(1, word(world, chain.life(world))))
    assert chain.ran == ["train"]


def test_a_follower_that_comes_to_another_artifact_is_refused(world: World) -> None:
    chain = Chain()
    verdict = carried_out(world, chain.life(world), Two(1, "ran 0123456789abcdef"))
    assert verdict.exit_code == 2
    assert "here and to 0123456789ab in the leader" in verdict.failures[0].what
    assert chain.ran == ["prepare"]


def test_a_later_shared_step_reads_what_the_leader_published(world: World) -> None:
    chain = Chain()
    life = chain.life(world, with_distill=True)
    carried_out(world, life, Two())
    chain.ran.clear()
    words = iter([word(world, life), word(world, life, name="distill")])

    class Talking(Two):
        def agreed(self, word: str) -> str:
            return next(words)

    verdict = carried_out(world, life, Talking(1))
    assert chain.ran == ["train", "distill"]
    assert verdict.exit_code == 0


def test_a_later_shared_step_is_refused_where_the_store_is_not_the_leaders(world: World) -> None:
    chain = Chain()
    life = chain.life(world, with_distill=True)
    verdict = carried_out(world, life, Two(1, word(world, life)))
    assert verdict.exit_code == 5
    assert "train is not in this process's store" in verdict.failures[0].what
    assert outcomes(verdict)[2] == ("distill", "skipped")


@pytest.mark.parametrize("forced", [(), ("train",)])
def test_the_leader_says_what_it_does_and_publishes(world: World, forced: tuple[str, ...]) -> None:
    chain, company = Chain(), Two()
    life = chain.life(world)
    for _ in range(2):
        carried_out(world, life, company, *forced)
    assert company.said == [word(world, life), word(world, life, "ran" if forced else "reused")]
    assert chain.ran.count("train") == (2 if forced else 1)
    assert world.made(life, "train").manifest.figures == (Figure("length", Kind.SIZE, len("train|prepare")),)


def test_a_failure_that_came_first_elsewhere_is_the_failure(world: World) -> None:
    chain = Chain(failing=PeerLost("gone"))
    cause = Diverged("in the process of rank 1: nan")
    verdict = carried_out(world, chain.life(world), Two(blames={"gone": cause}))
    assert [(each.kind, each.what, each.step) for each in verdict.failures] == [("Diverged", cause.what, "train")]
    assert verdict.exit_code == 4


def test_a_leader_that_lost_another_process_keeps_its_checkpoint_and_a_follower_nothing(world: World) -> None:
    chain = Chain(failing=PeerLost("gone"))
    life = chain.life(world)
    carried_out(world, life, Two(1, word(world, life)))
    assert list((world.store.root / "work").iterdir()) == []
    carried_out(world, life, Two())
    assert world.store.can_resume(world.plan(life).steps[1].fingerprint)

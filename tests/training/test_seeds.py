import torch
from hypothesis import given
from hypothesis import strategies as st
from small_fits import CPU

from mlctl.training.seeds import seed_generators, step_seed

PLACES = st.tuples(st.integers(0, 2**63 - 1), st.integers(0, 10**6), st.integers(0, 10**9), st.integers(0, 10**4))


@given(first=PLACES, second=PLACES)
def test_every_step_of_every_process_has_its_own_seed(first: tuple[int, ...], second: tuple[int, ...]) -> None:
    seeds = [step_seed(*place) for place in (first, second)]
    assert (seeds[0] == seeds[1]) == (first == second)
    assert all(0 <= seed < 2**64 for seed in seeds)


def test_the_seed_of_a_step_never_moves_by_accident() -> None:
    """Another number here is another model from the same recipe: raise Train.revision."""
    assert step_seed(7, 3, 100, 1) == 7844942907859295441


@given(seed=st.integers(0, 2**64 - 1))
def test_the_seed_decides_what_is_drawn(seed: int) -> None:
    with torch.random.fork_rng(devices=()):
        drawn = []
        for each in (seed, seed ^ 1, seed):
            seed_generators(each, CPU)
            drawn.append(torch.rand(4))
    assert torch.equal(drawn[0], drawn[2])
    assert not torch.equal(drawn[0], drawn[1])

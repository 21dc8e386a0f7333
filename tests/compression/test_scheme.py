"""Which integers are chosen on which machine, and what is said of it."""

from itertools import combinations

import pytest

from mlctl.compression.quantization.scheme import IntegerType, Wish, choose_scheme


@pytest.mark.parametrize("found", ["avx512_vnni", "avx_vnni", "amx_int8"])
def test_with_dot_products_weights_use_all_bits(found: str) -> None:
    scheme = choose_scheme("auto", "auto", ["avx2", "fma", found])
    assert (scheme.activations, scheme.weights, scheme.has_reduced_range) == ("uint8", "int8", False)
    assert found in scheme.why
    assert scheme.known_slow is None


@pytest.mark.parametrize("sets", [["avx2"], ["avx2", "avx512f"], ["avx512f"]])
def test_where_sums_would_saturate_weights_use_seven_bits(sets: list[str]) -> None:
    scheme = choose_scheme("auto", "auto", sets)
    assert (scheme.activations, scheme.weights, scheme.has_reduced_range) == ("uint8", "int8", True)
    assert "saturate" in scheme.why


@pytest.mark.parametrize("sets", [[], ["neon", "asimddp"]])
def test_without_x86_vectors_nothing_saturates(sets: list[str]) -> None:
    assert not choose_scheme("auto", "auto", sets).has_reduced_range


@pytest.mark.parametrize(
    ("activations", "weights", "slow"),
    [("uint8", "int8", None), ("int8", "int8", "activations"), ("uint8", "uint8", "weights"), ("int8", "uint8", "act")],
)
def test_a_wish_is_granted_and_what_is_slow_is_said(
    activations: IntegerType, weights: IntegerType, slow: str | None
) -> None:
    scheme = choose_scheme(activations, weights, ["amx_int8"])
    assert (scheme.activations, scheme.weights) == (activations, weights)
    assert (scheme.known_slow or "").startswith(slow or "")
    assert (scheme.known_slow is None) == (slow is None)


def test_the_choice_does_not_depend_on_the_order_of_what_was_found() -> None:
    """The scheme is part of the step's fingerprint."""
    sets = ("avx2", "avx512_vnni", "avx_vnni", "amx_int8")
    wishes: tuple[Wish, ...] = ("auto", "uint8", "int8")
    for size in range(len(sets) + 1):
        for some in combinations(sets, size):
            for wish in wishes:
                assert choose_scheme(wish, wish, some) == choose_scheme(wish, wish, frozenset(reversed(some)))

"""What holds for all tests: the same names in every process, and no verdict on a machine's speed."""

import os

import pytest
from hypothesis import settings


@pytest.mark.parametrize("content", [os.urandom(8), os.urandom(9)])
def test_bytes_do_not_stand_in_the_name_of_a_test(content: bytes, request: pytest.FixtureRequest) -> None:
    place = request.node.name.removeprefix("test_bytes_do_not_stand_in_the_name_of_a_test")
    assert place in ("[content0]", "[content1]")


def test_no_example_is_failed_for_its_time() -> None:
    assert settings().deadline is None

"""What torchrun's and Slurm's variables say of a process."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlctl.errors import UsageError
from mlctl.training.places import Place, first_host, is_verdict, place_in, stopped_by

TORCHRUN = {
    "RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "4",
    "MASTER_ADDR": "10.0.0.7", "MASTER_PORT": "29500",
}  # fmt: skip
SLURM = {
    "SLURM_JOB_ID": "90125", "SLURM_STEP_ID": "3", "SLURM_NTASKS": "6", "SLURM_PROCID": "4", "SLURM_LOCALID": "1",
    "SLURM_NNODES": "2", "SLURM_JOB_NODELIST": "gpu[07-08],login",
}  # fmt: skip


def test_a_process_on_its_own_has_no_place() -> None:
    assert place_in({"PATH": "/bin"}) is None
    assert place_in({**TORCHRUN, "RANK": "0", "WORLD_SIZE": "1"}) is None
    assert place_in({**SLURM, "SLURM_NTASKS": "1"}) is None


def test_torchruns_variables() -> None:
    assert place_in(TORCHRUN) == Place(5, 8, 1, 4, "10.0.0.7", 29500)
    agents = {"TORCHELASTIC_USE_AGENT_STORE": "True", "ROLE_NAME": "mlctl"}
    assert place_in({**TORCHRUN, **agents}) == Place(
        5, 8, 1, 4, "10.0.0.7", 29500, meets_at_launcher=True, can_restart=True
    )


def test_without_local_numbers_every_process_has_a_machine_of_its_own() -> None:
    bare = {name: value for name, value in TORCHRUN.items() if not name.startswith("LOCAL")}
    place = place_in(bare)
    assert place
    assert (place.local_rank, place.local_count) == (0, 1)


def test_slurms_variables() -> None:
    place = place_in(SLURM)
    assert place
    assert (place.rank, place.count, place.local_rank, place.local_count) == (4, 6, 1, 3)
    assert (place.address, place.cores) == ("gpu07", None)


def test_a_step_of_slurm_counts_its_own_tasks_and_cores() -> None:
    place = place_in({**SLURM, "SLURM_STEP_NUM_TASKS": "5", "SLURM_CPUS_PER_TASK": "12"})
    assert place
    assert (place.count, place.cores) == (5, 12)


def test_all_tasks_of_a_step_come_to_one_port_and_those_of_another_step_do_not() -> None:
    places = [
        place_in({**SLURM, "SLURM_STEP_ID": step, "SLURM_PROCID": task}) for step in ("3", "4") for task in ("0", "5")
    ]
    ports = [place.port for place in places if place]
    assert ports[0] == ports[1] != ports[2] == ports[3]
    assert all(1024 < port < 32768 for port in ports)


def test_torchrun_within_a_step_of_slurm_counts() -> None:
    assert place_in({**SLURM, **TORCHRUN}) == place_in(TORCHRUN)


def test_a_batch_script_that_is_no_step_is_on_its_own() -> None:
    assert place_in({name: value for name, value in SLURM.items() if name != "SLURM_STEP_ID"}) is None


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({**TORCHRUN, "RANK": "8"}, "RANK is '8', where a number from 0 to 7 belongs"),
        ({**TORCHRUN, "RANK": "-1"}, "RANK is '-1'"),
        ({**TORCHRUN, "WORLD_SIZE": "two"}, "WORLD_SIZE is 'two', where a number from 1 or more belongs"),
        ({**TORCHRUN, "WORLD_SIZE": "0"}, "WORLD_SIZE is '0'"),
        ({**TORCHRUN, "LOCAL_RANK": "4"}, "LOCAL_RANK is '4', where a number from 0 to 3 belongs"),
        ({**TORCHRUN, "MASTER_PORT": "65536"}, "MASTER_PORT is '65536'"),
        ({**TORCHRUN, "MASTER_ADDR": ""}, "MASTER_ADDR is not set"),
        ({"WORLD_SIZE": "2"}, "RANK is not set"),
        ({**SLURM, "SLURM_PROCID": "6"}, "SLURM_PROCID is '6'"),
        ({**SLURM, "SLURM_JOB_NODELIST": "[1-2]"}, "'[1-2]' is no list of hosts"),
    ],
)
def test_nonsense_is_refused_by_name(environment: dict[str, str], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        place_in(environment)
    assert message in caught.value.what


@pytest.mark.parametrize(
    ("hosts", "first"),
    [
        ("node7", "node7"),
        ("a,b", "a"),
        ("gpu[007-012,020],login1", "gpu007"),
        ("rack[1-3]-n,x", "rack1-n"),
        ("n[5,7-9]", "n5"),
    ],
)
def test_the_first_host_of_slurms_list(hosts: str, first: str) -> None:
    assert first_host(hosts) == first


@given(st.from_regex(r"[a-z][a-z0-9.-]{0,20}", fullmatch=True), st.integers(0, 9999), st.integers(0, 9999))
def test_the_first_host_is_the_lowest_of_a_range(name: str, low: int, more: int) -> None:
    assert first_host(f"{name}[{low:04}-{low + more:04}],other") == f"{name}{low:04}"


def test_exit_codes_of_a_stop_a_wish_and_an_end() -> None:
    assert [stopped_by(code) for code in (130, -2, 143, -15, -9, 4, 0)] == [2, 2, 15, 15, None, None, None]
    assert [is_verdict(code) for code in (0, 1, 4, 20, 141, 75, 130, -15, -9)] == [True] * 5 + [False] * 4

from pathlib import Path
from typing import Any

import pytest
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from hypothesis import given
from hypothesis import strategies as st

from mlctl.training.event_files import EventFile, crc32c

# What tensorboard 2.21's own EventFileWriter wrote for an event of wall_time 1700000000.25 and step 300 with the simple
# values train/loss 0.75 and epoch 3.
WRITTEN_BY_TENSORBOARD = bytes.fromhex(
    "2f000000000000006d5d1d500900001040fc54d94110ac022a210a110a0a747261696e2f6c6f7373150000403f0a0c0a0565706f636815000040"
    "40a0936ad5"
)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (bytes(32), 0x8A9136AA),
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (bytes(reversed(range(32))), 0x113FDB5C),
    ],
)
def test_checksums_are_those_of_rfc_3720(data: bytes, expected: int) -> None:
    assert crc32c(data) == expected


def test_a_record_has_the_bytes_that_tensorboard_writes(tmp_path: Path) -> None:
    file = EventFile(tmp_path, goes_on=False)
    before = file.path.stat().st_size
    file.write(300, [("train/loss", 0.75), ("epoch", 3.0)], wall_time=1700000000.25)
    assert file.path.read_bytes()[before:] == WRITTEN_BY_TENSORBOARD


Kind = FieldDescriptorProto


def _event_class() -> Any:
    """TensorFlow's Event, as event.proto and summary.proto describe it, without what mlctl does not write."""
    described = FileDescriptorProto(name="event.proto", package="t", syntax="proto3")
    fields = {
        "Value": [("tag", 1, Kind.TYPE_STRING, ""), ("simple_value", 2, Kind.TYPE_FLOAT, "")],
        "Summary": [("value", 1, Kind.TYPE_MESSAGE, ".t.Value")],
        "Event": [
            ("wall_time", 1, Kind.TYPE_DOUBLE, ""),
            ("step", 2, Kind.TYPE_INT64, ""),
            ("file_version", 3, Kind.TYPE_STRING, ""),
            ("summary", 5, Kind.TYPE_MESSAGE, ".t.Summary"),
        ],
    }
    for name, parts in fields.items():
        message = described.message_type.add(name=name)
        for part, number, kind, of in parts:
            label = Kind.LABEL_REPEATED if part == "value" else Kind.LABEL_OPTIONAL
            message.field.add(name=part, number=number, type=kind, label=label, type_name=of or None)
    pool = DescriptorPool()
    pool.Add(described)
    return GetMessageClass(pool.FindMessageTypeByName("t.Event"))


EVENT = _event_class()


def events(path: Path) -> list[dict[str, Any]]:
    """The file's events, parsed by Google's own library."""
    content, found = path.read_bytes(), []
    while content:
        length = int.from_bytes(content[:8], "little")
        event = EVENT()
        event.ParseFromString(content[12 : 12 + length])
        found.append(
            {
                "step": event.step,
                "version": event.file_version,
                "values": {value.tag: value.simple_value for value in event.summary.value},
            }
        )
        content = content[16 + length :]
    return found


@given(
    steps=st.lists(st.integers(1, 2**62), unique=True, max_size=5),
    values=st.lists(st.floats(width=32, allow_nan=False), min_size=1, max_size=4),
)
def test_googles_library_reads_back_what_was_written(
    tmp_path_factory: pytest.TempPathFactory, steps: list[int], values: list[float]
) -> None:
    file = EventFile(tmp_path_factory.mktemp("events"), goes_on=False)
    named = {f"a long name of a figure {'n' * 100} {number}": value for number, value in enumerate(values)}
    for step in steps:
        file.write(step, named.items(), wall_time=1.5)
    first, *others = events(file.path)
    assert first == {"step": 0, "version": "brain.Event:2", "values": {}}
    assert others == [{"step": step, "version": "", "values": named} for step in steps]
    assert EventFile(file.path.parent, goes_on=True).steps == set(steps)


def test_cut_off_anywhere_it_goes_on_without_a_step_lost_or_twice(tmp_path: Path) -> None:
    file = EventFile(tmp_path, goes_on=False)
    for step in (10, 200, 30_000):
        file.write(step, [("loss", 0.5)], wall_time=1.0)
    whole = file.path.read_bytes()
    for length in range(len(whole) + 1):
        file.path.write_bytes(whole[:length])
        again = EventFile(tmp_path, goes_on=True)
        for step in (10, 200, 30_000):
            again.write(step, [("loss", 0.5)], wall_time=1.0)
        assert file.path.read_bytes() == whole, length


def test_a_flipped_bit_ends_what_is_kept(tmp_path: Path) -> None:
    file = EventFile(tmp_path, goes_on=False)
    for step in (1, 2, 3):
        file.write(step, [("loss", 0.5)], wall_time=1.0)
    damaged = bytearray(file.path.read_bytes())
    record = (len(damaged) - len(WRITTEN_BY_TENSORBOARD)) // 3
    damaged[-record] ^= 1
    file.path.write_bytes(damaged)
    assert 1 in (kept := EventFile(tmp_path, goes_on=True).steps)
    assert 3 not in kept


def test_another_training_begins_the_file_anew(tmp_path: Path) -> None:
    EventFile(tmp_path, goes_on=False).write(5, [("loss", 0.5)], wall_time=1.0)
    again = EventFile(tmp_path, goes_on=False)
    assert again.steps == set()
    assert [event["step"] for event in events(again.path)] == [0]

"""The services that are spoken, as protoc compiled them, in a pool of our own.

A process has one pool of descriptors by default, and two files that define the same service cannot both lie there: a
client of the protocol in the server's process would be a crash at its import. Classes made from descriptors work with
every release of protobuf, where generated Python asks for the release that generated it, or a later one.

`services.binpb` is made from the `.proto` files beside it, and so are the stubs of the modules of messages; a test
says when they are not what they are made from, and how to make them anew.
"""

from pathlib import Path
from typing import Any, Final

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.internal import enum_type_wrapper

COMPILED: Final = Path(__file__).with_name("services.binpb")


def _pool() -> Any:
    files = descriptor_pb2.FileDescriptorSet.FromString(COMPILED.read_bytes())
    pool = descriptor_pool.DescriptorPool()
    for each in files.file:
        pool.Add(each)
    return pool


_POOL: Final = _pool()


def names_of(file: str) -> dict[str, Any]:
    """The messages and enumerations at the top of one `.proto` file, by name."""
    described = _POOL.FindFileByName(file)
    return {
        **{name: enum_type_wrapper.EnumTypeWrapper(each) for name, each in described.enum_types_by_name.items()},
        **{name: message_factory.GetMessageClass(each) for name, each in described.message_types_by_name.items()},
    }

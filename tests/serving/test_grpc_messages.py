"""The messages: what is checked in is what the `.proto` files say, and what every client of the protocol speaks."""

import ast
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import descriptor_pb2
from grpc_compiling import COMPILED, FOLDER, compile_into
from tritonclient.grpc import model_config_pb2, service_pb2

from mlctl.serving.grpc import health_messages, open_inference_messages, services
from mlctl.serving.grpc.statuses import code
from mlctl.serving.refusals import MethodRefused, Refused

ANEW = "run `python tests/serving/grpc_compiling.py`"
TRITON = {**service_pb2.DESCRIPTOR.message_types_by_name, **model_config_pb2.DESCRIPTOR.message_types_by_name}


def files_in(path: Path) -> dict[str, Any]:
    return {each.name: each for each in descriptor_pb2.FileDescriptorSet.FromString(path.read_bytes()).file}


def test_what_is_compiled_is_what_the_files_say(tmp_path: Path) -> None:
    compile_into(tmp_path)
    assert files_in(FOLDER / COMPILED) == files_in(tmp_path / COMPILED), ANEW


@pytest.mark.parametrize("module", [open_inference_messages, health_messages])
def test_the_stub_knows_every_message_and_field(module: Any) -> None:
    """Their names, and not how the compiler of the day spells their types."""
    name = module.__name__.rpartition(".")[2]
    tree = ast.parse((FOLDER / f"{name}.pyi").read_text())
    stubbed = {each.name: each for each in tree.body if isinstance(each, ast.ClassDef)}
    described = services.names_of(f"{name.removesuffix('_messages')}.proto")
    assert set(stubbed) == set(described), ANEW
    for message, found in described.items():
        fields = {each.name for each in getattr(found.DESCRIPTOR, "fields", ())}
        told = {each.target.id for each in stubbed[message].body if isinstance(each, ast.AnnAssign)}  # type: ignore[union-attr]
        assert fields <= told, ANEW


def field_of(each: Any) -> tuple[int, int, bool, str]:
    owner = each.message_type or each.enum_type
    return each.number, each.type, each.is_repeated, owner.full_name if owner else ""


def test_every_field_is_one_that_tritonclient_has_under_the_same_number() -> None:
    compared = 0
    waiting = [
        (each.DESCRIPTOR, TRITON[name])
        for name, each in services.names_of("open_inference.proto").items()
        if hasattr(each.DESCRIPTOR, "fields")
    ]
    while waiting:
        ours, theirs = waiting.pop()
        their_fields = {each.name: field_of(each) for each in theirs.fields}
        for field in ours.fields:
            assert field_of(field) == their_fields[field.name], f"{ours.full_name}.{field.name}"
            compared += 1
        nested = {each.name: each for each in theirs.nested_types}
        waiting += [(each, nested[each.name]) for each in ours.nested_types]
    assert compared > 120


def test_every_call_is_one_that_tritonclient_makes_with_the_same_messages() -> None:
    (compiled,) = (each for each in files_in(FOLDER / COMPILED).values() if each.package == "inference")
    (ours,) = compiled.service
    theirs = service_pb2.DESCRIPTOR.services_by_name[ours.name].methods_by_name
    for method in ours.method:
        other = theirs[method.name]
        assert method.input_type == f".{other.input_type.full_name}"
        assert method.output_type == f".{other.output_type.full_name}"
        assert (method.client_streaming, method.server_streaming) == (other.client_streaming, other.server_streaming)
    left_out = {name for name in theirs if name not in {method.name for method in ours.method}}
    assert all("SharedMemory" in name or name in ("TraceSetting", "LogSettings") for name in left_out)


def test_datatypes_have_triton_s_numbers() -> None:
    assert open_inference_messages.DataType.items() == model_config_pb2.DataType.items()


def every_refusal(kind: type[Refused] = Refused) -> list[type[Refused]]:
    return [found for each in kind.__subclasses__() for found in (each, *every_refusal(each))]


@pytest.mark.parametrize("kind", every_refusal(), ids=lambda kind: kind.__name__)
def test_every_refusal_has_a_status(kind: type[Refused]) -> None:
    refused = kind("why", allowed=()) if kind is MethodRefused else kind("why")
    assert code(refused).name != "OK"


def test_nothing_of_grpc_is_imported_before_somebody_asks_for_it() -> None:
    script = "import sys, mlctl.serving.grpc.listening; print(sorted({'grpc', 'google.protobuf'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"

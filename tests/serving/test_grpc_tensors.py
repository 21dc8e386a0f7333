"""Tensors over gRPC: every datatype in both forms, and nothing that a caller sends breaks anything."""

import asyncio
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from grpc_server import Halves, Server, serving
from grpc_tritons import ROWS, refused, tensor, triton_client
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from tritonclient.grpc import InferInput, service_pb2
from tritonclient.utils import serialize_byte_tensor
from v2_harness import Computed, Versions, small_catalogue

from mlctl.runtime.running import Port
from mlctl.serving.grpc import open_inference_messages as messages
from mlctl.serving.grpc.calls import Call, Kind, Reception
from mlctl.serving.grpc.infer import infer
from mlctl.serving.grpc.tensors import inputs_of
from mlctl.serving.guards.audit import Use
from mlctl.serving.guards.caller import ANONYMOUS, Caller
from mlctl.serving.http.routing import Scope
from mlctl.serving.refusals import Malformed, NotReady, Refused, Unknown
from mlctl.serving.signature import Meaning, Signature
from mlctl.serving.telemetry.access_log import Access

CONTENTS = {
    "bool": "bool_contents", "int8": "int_contents", "int16": "int_contents", "int32": "int_contents",
    "int64": "int64_contents", "uint8": "uint_contents", "uint16": "uint_contents", "uint32": "uint_contents",
    "uint64": "uint64_contents", "float32": "fp32_contents", "float64": "fp64_contents",
}  # fmt: skip
"""Where the specification has each datatype's values."""
NUMBERS = (*CONTENTS, "float16")
NAMES = {"bool": "BOOL", "float16": "FP16", "float32": "FP32", "float64": "FP64"}
SHAPE = (3, 2)

Array = npt.NDArray[Any]


def named(dtype: str) -> str:
    return NAMES.get(dtype, dtype.upper())


def extremes(dtype: str) -> Array:
    """The ends of what the datatype holds, and what lies between."""
    if dtype == "bool":
        return np.array([True, False, True, True, False, False]).reshape(SHAPE)
    if dtype.startswith("float"):
        info = np.finfo(dtype)
        found = [info.max, info.min, info.smallest_subnormal, 0.0, -0.0, np.inf]
        return np.array(found, dtype).reshape(SHAPE)
    ends = np.iinfo(dtype)
    return np.array([ends.max, ends.min, 0, 1, 2, 3], dtype).reshape(SHAPE)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("server")) as running:
        yield running


def test_every_number_comes_back_from_raw_bytes_bit_for_bit(server: Server) -> None:
    given_arrays = {dtype: extremes(dtype) for dtype in NUMBERS}
    with triton_client(server) as client:
        inputs = [tensor(f"in_{dtype}", array, named(dtype)) for dtype, array in given_arrays.items()]
        answer = client.infer("echo", inputs)
    for dtype, array in given_arrays.items():
        found = answer.as_numpy(f"out_{dtype}")
        assert (found.dtype, found.shape, found.tobytes()) == (array.dtype, array.shape, array.tobytes())


@pytest.mark.parametrize("dtype", sorted(CONTENTS))
def test_every_number_comes_back_from_typed_fields_bit_for_bit(dtype: str) -> None:
    array = extremes(dtype)
    request = one_input("x", named(dtype), SHAPE)
    getattr(request.inputs[0].contents, CONTENTS[dtype]).extend(array.ravel().tolist())
    (found,) = inputs_of(request, signature_of(dtype))
    assert (found.dtype, found.shape, found.tobytes()) == (array.dtype, array.shape, array.tobytes())


def test_texts_come_back_in_both_forms(server: Server) -> None:
    texts = np.array([["", "a\0b"], ["gr\u00fc\u00df dich", "\U0001f41d" * 40]], object)
    as_bytes = np.vectorize(str.encode, otypes=[object])(texts)
    typed = InferInput("in_object", [2, 2], "BYTES")
    typed._get_tensor().contents.bytes_contents.extend(as_bytes.ravel().tolist())
    with triton_client(server) as client:
        for inputs in ([tensor("in_object", texts, "BYTES")], [typed]):
            assert np.array_equal(client.infer("texts", inputs).as_numpy("out_object"), as_bytes)


def test_bfloat16_travels_as_its_bits(server: Server) -> None:
    numbers = np.array([[1.0, -2.5], [0.0, 1e30]], np.float32)
    kept = (numbers.view(np.uint32) >> 16 << 16).view(np.float32)  # bfloat16 is the upper half of a float32
    with triton_client(server) as client:
        found = client.infer("halves", [tensor("in", kept, "BF16")]).as_numpy("out")
    assert np.array_equal(found, kept)


@pytest.mark.parametrize("datatype", ["FP16", "BF16"])
def test_what_has_no_typed_field_is_taken_as_bytes_alone(datatype: str) -> None:
    request = one_input("x", datatype, SHAPE)
    request.inputs[0].contents.fp32_contents.extend([1.0] * 6)
    with pytest.raises(Malformed, match=f"input 'x' takes {datatype}, which raw_input_contents alone can hold"):
        inputs_of(request, signature_of({"FP16": "float16", "BF16": "bfloat16"}[datatype]))


def test_raw_bytes_are_not_copied_once_more() -> None:
    request = one_input("x", "FP32", (2, 4))
    request.raw_input_contents.append(ROWS.tobytes())
    (found,) = inputs_of(request, signature_of("float32", (None, 4)))
    assert isinstance(found.base, np.ndarray)
    assert not found.flags.owndata
    assert np.array_equal(found, ROWS)


@pytest.mark.parametrize("dtype", ["bool", "float32", "float64", "int32"])
def test_fields_that_nobody_knows_are_passed_over_wherever_they_stand(dtype: str) -> None:
    array = extremes(dtype)
    request = one_input("x", named(dtype), SHAPE)
    getattr(request.inputs[0].contents, CONTENTS[dtype]).extend(array.ravel().tolist())
    known, unknown = request.inputs[0].contents.SerializeToString(), b"\x78\x01"  # field 15, a number
    request.inputs[0].contents.ParseFromString(unknown + known + unknown)
    (found,) = inputs_of(request, signature_of(dtype))
    assert found.tobytes() == array.tobytes()


WRONG = {
    "an input that there is not": (("y", "FP32", [1, 4]), {"fp32_contents": [1.0] * 4}, "no input 'y'; it takes 'x'"),
    "another datatype": (("x", "FP64", [1, 4]), {"fp64_contents": [1.0] * 4}, "'x' takes FP32, not 'FP64'"),
    "a datatype that there is not": (("x", "REAL", [1, 4]), {"fp32_contents": [1.0] * 4}, "takes FP32, not 'REAL'"),
    "another shape": (("x", "FP32", [4]), {"fp32_contents": [1.0] * 4}, "takes the shape [-1, 4], not"),
    "no rows": (("x", "FP32", [0, 4]), {}, "has nothing in it"),
    "a size below zero": (("x", "FP32", [-1, -4]), {"fp32_contents": [1.0] * 4}, "is below 1"),
    "a size that overflows": (("x", "FP32", [2**62, 4]), {"fp32_contents": [1.0]}, "has 1 values, and its shape"),
    "too few values": (("x", "FP32", [1, 4]), {"fp32_contents": [1.0] * 3}, "has 3 values"),
    "no values": (("x", "FP32", [1, 4]), {}, "has 0 values"),
    "values elsewhere": (("x", "FP32", [1, 4]), {"fp64_contents": [1.0] * 4}, "in fp32_contents, not in fp64_contents"),
    "values in two fields": (
        ("x", "FP32", [1, 4]),
        {"fp64_contents": [1.0], "fp32_contents": [1.0] * 4},
        "not in fp64_contents",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_with_an_input_is_said(case: str) -> None:
    (name, datatype, shape), contents, match = WRONG[case]
    request = one_input(name, datatype, shape)
    for field, values in contents.items():
        getattr(request.inputs[0].contents, field).extend(values)
    with pytest.raises(Malformed) as caught:
        inputs_of(request, signature_of("float32", (None, 4)))
    assert match in caught.value.what


@pytest.mark.parametrize(("dtype", "value"), [("int8", 128), ("int16", -40_000), ("uint8", 256), ("uint16", 70_000)])
def test_numbers_out_of_range_are_refused_and_not_cut(dtype: str, value: int) -> None:
    request = one_input("x", named(dtype), (1,))
    getattr(request.inputs[0].contents, CONTENTS[dtype]).append(value)
    with pytest.raises(Malformed, match=f"takes {named(dtype)}, and value 0 is '?{value}"):
        inputs_of(request, signature_of(dtype, (None,)))


def test_raw_bytes_must_be_there_for_every_input_and_alone() -> None:
    signature = signature_of("float32", (None, 4))
    request = one_input("x", "FP32", (1, 4))
    request.raw_input_contents.extend([b"\0" * 16, b""])
    with pytest.raises(Malformed, match="has 1 inputs, and raw_input_contents of 2"):
        inputs_of(request, signature)
    del request.raw_input_contents[1]
    request.inputs[0].contents.fp32_contents.extend([1.0] * 4)
    with pytest.raises(Malformed, match="contents beside its raw_input_contents"):
        inputs_of(request, signature)
    request.inputs[0].ClearField("contents")
    request.raw_input_contents[0] = b"\0" * 17
    with pytest.raises(Malformed, match=r"has 17 bytes, and FP32 \[1, 4\] has 16"):
        inputs_of(request, signature)


def test_inputs_that_are_missing_or_doubled_are_named() -> None:
    ports = (Port("a", "float32", (None, 1)), Port("b", "float32", (None, 1)))
    signature = Signature("m", 1, "onnxruntime", ports, ports, Meaning())
    request = one_input("a", "FP32", (1, 1))
    request.inputs[0].contents.fp32_contents.append(1.0)
    with pytest.raises(Malformed, match="also takes the input 'b'"):
        inputs_of(request, signature)
    request.inputs.append(request.inputs[0])
    with pytest.raises(Malformed, match="'a' is given twice"):
        inputs_of(request, signature)
    request.inputs[1].name = "b"
    request.inputs[1].shape[0] = 2
    request.inputs[1].contents.fp32_contents.append(1.0)
    with pytest.raises(Malformed, match="'a' has 1 rows, and 'b' has 2"):
        inputs_of(request, signature)


class Open:
    """A guard and an account for tests that have no use for them."""

    def admit(self, authorization: str | None, scope: Scope, model: str | None) -> Caller:
        return ANONYMOUS

    def require_writable(self) -> None:
        """It is not written."""

    def record(self, use: Use) -> None:
        """Nothing."""

    def answered(self, access: Access, route: str) -> None:
        """Nobody looks."""


CATALOGUE: Versions = small_catalogue().put(Halves())


def answered(body: bytes) -> messages.ModelInferResponse | Refused:
    """What a server answers to these bytes. Anything that is no refusal is raised: it would be a bug."""

    async def one() -> messages.ModelInferResponse | Refused:
        bugs: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, told: bugs.append(told))

        async def found(request: messages.ModelInferRequest, call: Call) -> bytes:
            return await infer(CATALOGUE, request, call)

        kind = Kind("s", "ModelInfer", messages.ModelInferRequest, "infer", lambda request: str(request.model_name))
        call = Call(kind, body, "127.0.0.1", {}, "id", 0.0)
        try:
            answer = await Reception(Open(), Open(), 1.0).one(call, found)
        except Refused as refusal:
            if bugs:
                raise bugs[0]["exception"] from None
            return refusal
        response: messages.ModelInferResponse = messages.ModelInferResponse.FromString(answer)
        return response

    return asyncio.run(one())


finite = st.floats(width=32, allow_nan=False)
words = st.sampled_from(["x", "in_float32", "in_object", "in", "out", ""]) | st.text(max_size=4)
datatypes = st.sampled_from(["FP32", "BYTES", "BF16", "FP16", "INT8", "BOOL", "fp32", ""])
sizes = st.sampled_from([0, 1, 2, 3, 4, -1, 2**31, 2**62, 2**63 - 1, -(2**63)])
raw = st.binary(max_size=40) | st.sampled_from([b"\0" * 16, b"\0" * 24, b"\1\0\0\0a", b"\xff\xff\xff\xffa"])
contents = st.builds(
    messages.InferTensorContents,
    bool_contents=st.lists(st.booleans(), max_size=2),
    int_contents=st.lists(st.integers(-(2**31), 2**31 - 1), max_size=2),
    fp32_contents=st.lists(finite, max_size=8),
    fp64_contents=st.lists(st.floats(), max_size=2),
    bytes_contents=st.lists(raw, max_size=4),
)
parameters = st.dictionaries(
    st.sampled_from(["shared_memory_region", "classification", "binary_data_size", "other"]),
    st.builds(messages.InferParameter, int64_param=st.integers(-3, 2**63 - 1))
    | st.builds(messages.InferParameter, string_param=st.text(max_size=3))
    | st.builds(messages.InferParameter),
    max_size=1,
)
inputs = st.builds(
    messages.ModelInferRequest.InferInputTensor,
    name=words,
    datatype=datatypes,
    shape=st.lists(sizes, max_size=3) | st.sampled_from([[1, 4], [2, 3], [1, 1]]),
    parameters=parameters,
    contents=contents | st.none(),
)
outputs = st.builds(
    messages.ModelInferRequest.InferRequestedOutputTensor,
    name=st.sampled_from(["scores", "best", "out_float32", "out_object", "out", "nothing"]),
    parameters=parameters,
)
requests = st.builds(
    messages.ModelInferRequest,
    model_name=st.sampled_from(["linear", "fixed", "texts", "halves", "echo", "nothing", ""]),
    model_version=st.sampled_from(["", "1", "2", "01", "-1", "one"]),
    id=st.text(max_size=3),
    parameters=parameters,
    inputs=st.lists(inputs, max_size=3),
    outputs=st.lists(outputs, max_size=3),
    raw_input_contents=st.lists(raw, max_size=3),
)


@settings(max_examples=400)
@given(requests)
def test_any_message_is_answered_or_refused(request: messages.ModelInferRequest) -> None:
    found = answered(request.SerializeToString())
    if isinstance(found, Refused):
        assert isinstance(found, Malformed | Unknown | NotReady)
    else:
        assert found.id == request.id
        assert len(found.outputs) == len(found.raw_output_contents) == (len(request.outputs) or len(found.outputs))


@settings(max_examples=300)
@given(st.binary(max_size=60))
def test_any_bytes_are_answered_or_refused(body: bytes) -> None:
    assert isinstance(answered(body), Malformed | Unknown)


GOOD = messages.ModelInferRequest(model_name="linear", raw_input_contents=[ROWS.tobytes()])
GOOD.inputs.add(name="x", datatype="FP32", shape=[2, 4])


@settings(max_examples=300)
@given(st.data())
def test_a_good_message_that_is_damaged_is_answered_or_refused(data: st.DataObject) -> None:
    body = bytearray(GOOD.SerializeToString())
    for _ in range(data.draw(st.integers(1, 4))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    found = answered(bytes(body[: data.draw(st.integers(0, len(body)))]))
    assert not isinstance(found, Refused) or isinstance(found, Malformed | Unknown)


@settings(max_examples=100)
@given(arrays(np.float32, array_shapes(min_dims=2, max_dims=2, max_side=5), elements=finite), st.text(max_size=5))
def test_an_answer_is_the_message_that_tritonclient_reads(array: Array, identifier: str) -> None:
    request = messages.ModelInferRequest(model_name="echo", id=identifier)
    every = CATALOGUE.there["echo", 1]
    assert isinstance(every, Computed)
    for port in every.signature.inputs:
        given_array = array if port.dtype == "float32" else np.zeros(array.shape, port.dtype)
        request.inputs.add(name=port.name, datatype=named(port.dtype), shape=array.shape)
        request.raw_input_contents.append(given_array.tobytes())
    found = answered(request.SerializeToString())
    assert not isinstance(found, Refused)
    read = service_pb2.ModelInferResponse.FromString(found.SerializeToString())
    place = [each.name for each in read.outputs].index("out_float32")
    assert (read.id, list(read.outputs[place].shape)) == (identifier, list(array.shape))
    assert read.raw_output_contents[place] == array.tobytes()


@settings(max_examples=100)
@given(st.lists(st.text(max_size=20), min_size=1, max_size=6))
def test_texts_are_read_as_tritonclient_writes_them(texts: list[str]) -> None:
    request = one_input("in_object", "BYTES", (len(texts), 1))
    request.model_name = "texts"
    written = serialize_byte_tensor(np.array([each.encode() for each in texts], object)).item()
    request.raw_input_contents.append(written)
    found = answered(request.SerializeToString())
    assert not isinstance(found, Refused)
    assert list(found.raw_output_contents) == [written]


def test_a_caller_s_nonsense_over_the_wire_costs_nobody_else_anything(server: Server) -> None:
    with triton_client(server) as client:
        broken = tensor("x", ROWS, "FP32")
        broken._raw_content = b"\0"
        for _ in range(20):
            with refused("INVALID_ARGUMENT"):
                client.infer("linear", [broken])
        assert client.infer("linear", [tensor("x", ROWS, "FP32")]).as_numpy("scores").shape == (2, 3)


def one_input(name: str, datatype: str, shape: Any) -> messages.ModelInferRequest:
    request = messages.ModelInferRequest(model_name="linear")
    request.inputs.add(name=name, datatype=datatype, shape=shape)
    return request


def signature_of(dtype: str, shape: tuple[int | None, ...] = (None, None)) -> Signature:
    ports = (Port("x", dtype, shape),)
    return Signature("m", 1, "onnxruntime", ports, ports, Meaning())

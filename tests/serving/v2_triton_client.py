"""Every call of the real tritonclient over HTTP that applies, from a process of its own; writes what came to a file.

Arguments: the server's port, an admin's token, and where the answers go (`.npz`; plain data lies in it as JSON).
"""

import json
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import tritonclient.http as client
from tritonclient.utils import InferenceServerException, np_to_triton_dtype
from v2_tensors import DTYPES, ROWS, TEXTS, tensors


def given(named: dict[str, Any], *, is_binary: bool) -> list[Any]:
    """The client's inputs."""
    inputs = []
    for name, array in named.items():
        each = client.InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
        inputs.append(each.set_data_from_numpy(array, binary_data=is_binary))
    return inputs


class Bearer:
    """Sends a token with every request."""

    def __init__(self, token: str) -> None:
        self._token = token

    def __call__(self, request: Any) -> None:
        request.headers["Authorization"] = f"Bearer {self._token}"


def main(port: str, token: str, into: str) -> None:
    """Ask for everything."""
    arrays: dict[str, Any] = {}
    told: dict[str, Any] = {}
    asks = client.InferenceServerClient(f"127.0.0.1:{port}", concurrency=4)
    asks.register_plugin(Bearer(token))
    stranger = client.InferenceServerClient(f"127.0.0.1:{port}")
    told["live"], told["ready"] = asks.is_server_live(), asks.is_server_ready()
    told["server"] = asks.get_server_metadata()
    told["model ready"] = [asks.is_model_ready("linear"), asks.is_model_ready("linear", "1"), asks.is_model_ready("no")]
    told["metadata"] = asks.get_model_metadata("linear")
    told["metadata of 1"] = asks.get_model_metadata("linear", "1")
    told["configuration"] = asks.get_model_config("linear")

    def infer(key: str, **more: Any) -> None:
        result = asks.infer("linear", given({"x": ROWS}, is_binary=more.pop("is_binary", True)), **more)
        arrays[f"{key} scores"], arrays[f"{key} best"] = result.as_numpy("scores"), result.as_numpy("best")
        told[key] = {name: each for name, each in result.get_response().items() if name != "outputs"}

    infer("binary", request_id="seven")
    infer(
        "json", is_binary=False, outputs=[client.InferRequestedOutput(n, binary_data=False) for n in ("best", "scores")]
    )
    infer(
        "mixed", outputs=[client.InferRequestedOutput("scores"), client.InferRequestedOutput("best", binary_data=False)]
    )
    infer("version 1", model_version="1")
    infer("gzip", request_compression_algorithm="gzip", response_compression_algorithm="gzip")
    infer("deflate", request_compression_algorithm="deflate", response_compression_algorithm="deflate")
    infer("ignored", priority=3, timeout=5_000_000, parameters={"colour": "red"})
    waiting = [asks.async_infer("linear", given({"x": ROWS * k}, is_binary=True)) for k in range(8)]
    for k, each in enumerate(waiting):
        arrays[f"asynchronous {k}"] = each.get_result().as_numpy("scores")
    classes = asks.infer(
        "linear", given({"x": ROWS}, is_binary=True), outputs=[client.InferRequestedOutput("scores", class_count=2)]
    )
    told["classes"] = [text.decode() for text in classes.as_numpy("scores").ravel()]
    told["classes' shape"] = classes.get_output("scores")["shape"]
    for form, is_binary in (("binary", True), ("json", False)):
        wanted = [client.InferRequestedOutput(f"out_{dtype}", binary_data=is_binary) for dtype in DTYPES]
        echoed = asks.infer("echo", given(tensors(), is_binary=is_binary), outputs=wanted)
        arrays.update({f"echo {form} {dtype}": echoed.as_numpy(f"out_{dtype}") for dtype in DTYPES})
        wanted = [client.InferRequestedOutput("out_object", binary_data=is_binary)]
        texts = asks.infer("texts", given({"in_object": TEXTS}, is_binary=is_binary), outputs=wanted)
        told[f"texts {form}"] = [t.decode() if is_binary else t for t in texts.as_numpy("out_object").ravel().tolist()]
    body, length = client.InferenceServerClient.generate_request_body(given({"x": ROWS}, is_binary=True))
    told["made by hand"] = [len(body), length]

    told["statistics"] = asks.get_inference_statistics("linear", "2")
    told["statistics of all"] = sorted(
        [each["name"], each["version"]] for each in asks.get_inference_statistics()["model_stats"]
    )
    told["index"] = asks.get_model_repository_index()
    asks.unload_model("linear")
    told["unloaded"] = asks.is_model_ready("linear")
    told["index without it"] = asks.get_model_repository_index()
    asks.load_model("linear")
    told["loaded"] = asks.is_model_ready("linear")

    def refused(ask: Callable[[], Any]) -> list[str]:
        try:
            ask()
        except InferenceServerException as refusal:
            return [str(refusal.status()), str(refusal.message())]
        return ["nothing was refused", ""]

    told["refusals"] = {
        "load without a token": refused(lambda: stranger.load_model("linear")),
        "load with files": refused(lambda: asks.load_model("linear", config="{}")),
        "load of nothing": refused(lambda: asks.load_model("nothing")),
        "no such model": refused(lambda: asks.get_model_metadata("nothing")),
        "wrong dtype": refused(lambda: asks.infer("linear", given({"x": ROWS.astype("float64")}, is_binary=True))),
        "wrong shape": refused(lambda: asks.infer("linear", given({"x": ROWS[:, :3]}, is_binary=True))),
        "no such input": refused(lambda: asks.infer("linear", given({"y": ROWS}, is_binary=True))),
        "no rows": refused(lambda: asks.infer("linear", given({"x": ROWS[:0]}, is_binary=True))),
    }
    asks.close()
    stranger.close()
    np.savez(into, told=np.array(json.dumps(told)), **arrays)


if __name__ == "__main__":
    main(*sys.argv[1:])

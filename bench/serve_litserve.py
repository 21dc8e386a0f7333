"""A graph behind LitServe, with its batching: python bench/serve_litserve.py MODEL PORT [--tokenizer FILE] [--batch N].

`POST /predict` takes {"rows": [...]} of one row, or {"texts": [text]}.
"""

import argparse
from typing import Any

import litserve
import numpy as np


class Graph(litserve.LitAPI):  # type: ignore[misc]
    """One ONNX graph on one thread."""

    def __init__(self, model: str, tokenizer: str | None, **options: Any) -> None:
        super().__init__(**options)
        self.model = model
        self.tokenizer = tokenizer

    def setup(self, device: str) -> None:
        """Load it in the worker's process."""
        from serve_answering import answering

        self.answer = answering(self.model, self.tokenizer)

    def decode_request(self, request):  # type: ignore[no-untyped-def]  # an annotation would be taken for a schema
        """One row, or one text."""
        return request["texts"][0] if "texts" in request else np.asarray(request["rows"][0], np.float32)

    def batch(self, inputs: Any) -> Any:
        """Several of them."""
        return list(inputs) if self.tokenizer else np.stack(inputs)

    def predict(self, inputs: Any) -> Any:
        """The answers to a batch."""
        return self.answer(inputs)

    def unbatch(self, output: Any) -> Any:
        """One by one."""
        return list(output)

    def encode_response(self, output: Any) -> Any:
        """As JSON has it."""
        return {"answers": [output.tolist()]}


def main() -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("port", type=int)
    parser.add_argument("--tokenizer")
    parser.add_argument("--batch", type=int, default=32)
    asked = parser.parse_args()
    api = Graph(asked.model, asked.tokenizer, max_batch_size=asked.batch, batch_timeout=0.005)
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1, timeout=60)
    server.run(host="127.0.0.1", port=asked.port, num_api_servers=1, generate_client_file=False, log_level="error")


if __name__ == "__main__":
    main()

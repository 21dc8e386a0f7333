"""A graph behind TorchServe, with its batching: python bench/serve_torchserve.py MODEL PORT [--tokenizer FILE].

`POST /predictions/graph` takes {"rows": [...]} of one row, or {"texts": [text]}. Needs `torchserve`,
`torch-model-archiver` and Java.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

_state: dict[str, Any] = {}


def handle(data: Any, context: Any) -> Any:
    """TorchServe's entry: the answers to a batch of requests."""
    if not _state:
        from serve_answering import answering

        _state["answer"] = answering(os.environ["GRAPH"], os.environ.get("TOKENIZER"))
    if data is None:
        return None
    given = [each.get("body") for each in data]
    bodies = [json.loads(each) if isinstance(each, bytes | bytearray) else each for each in given]
    if "texts" in bodies[0]:
        found = _state["answer"]([each["texts"][0] for each in bodies])
    else:
        found = _state["answer"](np.asarray([each["rows"][0] for each in bodies], np.float32))
    return [{"answers": [each.tolist()]} for each in found]


def main() -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("port", type=int)
    parser.add_argument("--tokenizer")
    parser.add_argument("--batch", type=int, default=16)
    asked = parser.parse_args()
    tools = Path(sys.executable).parent
    environment = {
        **os.environ, "GRAPH": asked.model, "PYTHONPATH": str(Path(__file__).parent),
        "PATH": f"{tools}:{os.environ['PATH']}",
    }  # fmt: skip
    if asked.tokenizer:
        environment["TOKENIZER"] = asked.tokenizer
    with tempfile.TemporaryDirectory() as folder:
        archive = [
            str(tools / "torch-model-archiver"), "--model-name", "graph", "--version", "1", "--handler", __file__,
            "--export-path", folder, "--force",
        ]  # fmt: skip
        subprocess.run(archive, env=environment, check=True)
        batch = {"minWorkers": 1, "maxWorkers": 1, "batchSize": asked.batch, "maxBatchDelay": 5, "responseTimeout": 120}
        config = (
            f"inference_address=http://127.0.0.1:{asked.port}\n"
            f"management_address=http://127.0.0.1:{asked.port + 1}\nmetrics_address=http://127.0.0.1:{asked.port + 2}\n"
            f"model_store={folder}\nload_models=graph.mar\ndisable_token_authorization=true\n"
            f"enable_envvars_config=false\nmodels={json.dumps({'graph': {'1': {'marName': 'graph.mar', **batch}}})}\n"
        )
        (Path(folder) / "config.properties").write_text(config)
        command = [str(tools / "torchserve"), "--foreground", "--ncs", "--ts-config", f"{folder}/config.properties"]
        subprocess.run([*command, "--disable-token-auth"], env=environment, check=True, cwd=folder)


if __name__ == "__main__":
    main()

"""A graph behind FastAPI, as somebody who knows it would write that: one process, uvloop, httptools, orjson.

    python bench/serve_fastapi.py MODEL PORT [--tokenizer FILE]

`POST /json` takes {"rows": [[...]]} or {"texts": [...]}, `POST /binary` a row's float32 numbers and answers with such.
`POST /documented` takes the same rows as FastAPI's own pages write it: a checked model of pydantic, a plain answer.
"""

import argparse

import fastapi
import numpy as np
import orjson
import pydantic
import uvicorn
from serve_answering import answering

app = fastapi.FastAPI()


class Rows(pydantic.BaseModel):
    """What `/documented` takes."""

    rows: list[list[float]]


def main() -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("port", type=int)
    parser.add_argument("--tokenizer")
    asked = parser.parse_args()
    answer = answering(asked.model, asked.tokenizer)

    @app.post("/documented")  # type: ignore[untyped-decorator, unused-ignore]
    async def documented(given: Rows) -> dict[str, list[list[float]]]:
        return {"answers": answer(given.rows).tolist()}

    @app.post("/json")  # type: ignore[untyped-decorator, unused-ignore]
    async def json(request: fastapi.Request) -> fastapi.Response:
        content = orjson.loads(await request.body())
        found = answer(content["texts"] if "texts" in content else content["rows"])
        body = orjson.dumps({"answers": found}, option=orjson.OPT_SERIALIZE_NUMPY)
        return fastapi.Response(body, media_type="application/json")

    @app.post("/binary")  # type: ignore[untyped-decorator, unused-ignore]
    async def binary(request: fastapi.Request) -> fastapi.Response:
        found = answer(np.frombuffer(await request.body(), np.float32))
        return fastapi.Response(found.tobytes(), media_type="application/octet-stream")

    uvicorn.run(
        app, host="127.0.0.1", port=asked.port, log_level="error", access_log=False, loop="uvloop", http="httptools"
    )


if __name__ == "__main__":
    main()

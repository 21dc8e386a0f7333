"""What a damaged TIFF file costs: one error, and not a word on stderr."""

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

DECODE = """
import sys
from pathlib import Path
from mlctl.data.image_decoding import NoImage, decoded, without_warnings

with without_warnings():
    for name in sys.argv[1:]:
        try:
            decoded(Path(name).read_bytes(), (1, 64, 64))
        except NoImage as refused:
            print(refused)
"""


def tiff() -> bytes:
    stream = io.BytesIO()
    Image.fromarray((np.arange(64 * 64) % 255).astype(np.uint8).reshape(64, 64)).save(
        stream, "TIFF", compression="tiff_lzw"
    )
    return stream.getvalue()


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="which libraries are loaded is known on Linux alone")
def test_damaged_files_say_nothing_on_stderr_and_are_refused(tmp_path: Path) -> None:
    whole = tiff()
    (tmp_path / "nonsense.tif").write_bytes(whole[:8] + b"\xff" * 60 + whole[68:])
    (tmp_path / "whole.tif").write_bytes(whole)
    found = subprocess.run(
        [sys.executable, "-c", DECODE, "nonsense.tif", "whole.tif"], cwd=tmp_path, capture_output=True, text=True
    )
    assert found.returncode == 0, found.stderr
    assert found.stderr == ""
    assert found.stdout.count("the image cannot be decoded") == 1

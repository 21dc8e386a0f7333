"""Options of `mlctl serve` and `mlctl token` that name a file or a folder, and find something else there."""

import onnx
import pytest
from conftest import Lab, new_lab
from graphs_from_elsewhere import linear


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    """A lab with `net.onnx`, the file `file` and the folder `folder`."""
    lab = new_lab(tmp_path_factory.mktemp("places"))
    onnx.save(linear(), lab.folder / "net.onnx")
    (lab.folder / "file").write_text("x")
    (lab.folder / "folder").mkdir()
    (lab.folder / "loop").symlink_to("loop")
    return lab


@pytest.mark.parametrize(
    ("line", "code", "message"),
    [
        ("serve net.onnx --audit folder", 2, "folder: this is a folder, where a file is needed"),
        ("serve net.onnx --audit loop", 2, "loop: this is a link that leads to itself"),
        (f"serve net.onnx --audit {'x' * 300}", 2, "this name is too long for a file"),
        ("serve net.onnx --audit file/a", 2, "file: there is no such folder"),
        ("serve net.onnx --audit no/a", 2, "no: there is no such folder"),
        ("serve net.onnx --tokens folder", 2, "folder: the file of tokens cannot be read (Is a directory)"),
        ("serve net.onnx --tokens file/a", 2, "file/a: the file of tokens cannot be read (Not a directory)"),
        ("serve net.onnx --certificate folder --key file", 2, "folder: the certificate of TLS cannot be read"),
        ("serve net.onnx --certificate file --key folder", 2, "folder: the key of TLS cannot be read"),
        ("serve --repository file", 3, "file: the repository cannot be read (Not a directory)"),
        ("serve --repository no", 3, "no: the repository cannot be read (No such file or directory)"),
        ("serve folder", 2, "folder/model.onnx: there is no such model"),
        ("serve file/net.onnx", 2, "file/net.onnx: there is no such model"),
        ("token create a --tokens folder", 2, "folder: the file of tokens cannot be read (Is a directory)"),
        ("token create a --tokens file/a", 2, "there is no such folder"),
        ("token revoke a --tokens file/a", 2, "file/a: the file of tokens cannot be read (Not a directory)"),
        ("token create a --tokens loop", 2, "loop: this is a link that leads to itself"),
        (f"token create a --tokens {'x' * 300}", 2, "this name is too long for a file"),
        ("models loop", 3, "loop: the repository cannot be read"),
    ],
)
def test_what_stands_in_its_place_is_said_in_a_plain_sentence(places: Lab, line: str, code: int, message: str) -> None:
    port = " --port 0" if line.startswith("serve") else ""
    result = places(line + port)
    assert (result.code, result.out) == (code, ""), result.err
    assert message in result.err
    assert "bug" not in result.err
    assert "  next: " in result.err

"""How a server proves itself."""

import http.client
import ssl
from pathlib import Path

import pytest
import trustme
from http_servers import SECONDS_BEFORE_GIVING_UP, attempt, read_all, read_answer, request_of, running

from mlctl.errors import DataError, UsageError
from mlctl.serving.settings import Encryption, Limits, Listening


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def files(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> Encryption:
    folder = tmp_path_factory.mktemp("tls")
    issued = authority.issue_cert("localhost", "127.0.0.1")
    (folder / "certificate.pem").write_bytes(b"".join(each.bytes() for each in issued.cert_chain_pems))
    issued.private_key_pem.write_to_path(str(folder / "key.pem"))
    return Encryption(folder / "certificate.pem", folder / "key.pem")


def trusting(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


def test_an_encrypted_server_answers_as_any_other(authority: trustme.CA, files: Encryption) -> None:
    with running(Limits(max_request_bytes=10**6), Listening(port=0, encryption=files)) as server:
        client = http.client.HTTPSConnection("localhost", server.port, context=trusting(authority))
        client.request("POST", "/", bytes(900_000))
        said = client.getresponse().read()
        assert b'"encrypted": true' in said
        client.request("POST", "/big/3000000")
        assert len(client.getresponse().read()) == 3_000_000
        client.request("POST", "/", bytes(10**6 + 1))
        assert client.getresponse().status == 413
        client.close()


def test_old_versions_of_tls_and_plain_callers_are_turned_away(authority: trustme.CA, files: Encryption) -> None:
    old = trusting(authority)
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    with running(listening=Listening(port=0, encryption=files)) as server:
        with server.connect() as raw, old.wrap_socket(raw, server_hostname="localhost") as connection:
            assert connection.version() == "TLSv1.2"
        with pytest.warns(DeprecationWarning, match="TLSv1_1"):
            old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
        with server.connect() as raw, pytest.raises(ssl.SSLError):
            old.wrap_socket(raw, server_hostname="localhost")
        with server.connect() as raw:
            raw.sendall(request_of())
            assert b"HTTP" not in read_all(raw)


def test_a_caller_that_goes_from_an_encrypted_connection_is_not_worked_for(
    authority: trustme.CA, files: Encryption
) -> None:
    with running(listening=Listening(port=0, encryption=files)) as server:
        with server.connect() as raw, trusting(authority).wrap_socket(raw, server_hostname="localhost") as connection:
            connection.sendall(request_of("/hold/x"))
            server.application.wait_for(lambda: "/hold/x" in server.application.held)
        server.application.wait_for(lambda: server.application.dropped == ["/hold/x"])


def test_an_encrypted_server_ends_though_callers_do_not_close(authority: trustme.CA, files: Encryption) -> None:
    with running(Limits(slow_seconds=60), Listening(port=0, encryption=files)) as server:
        context = trusting(authority)
        with (
            server.connect() as raw,
            context.wrap_socket(raw, server_hostname="localhost") as idle,
            server.connect() as other,
            context.wrap_socket(other, server_hostname="localhost") as used,
        ):
            used.sendall(request_of("/hold/x"))
            server.application.wait_for(lambda: "/hold/x" in server.application.held)
            draining = server.start_drain(60)
            assert read_all(idle) == b""
            server.answer("/hold/x", b'{"n": 1}')
            assert read_answer(used).headers["Connection"] == "close"
            assert draining.result(SECONDS_BEFORE_GIVING_UP) == 0


def test_files_of_tls_are_checked_before_anything_listens(
    authority: trustme.CA, files: Encryption, tmp_path: Path
) -> None:
    from cryptography.hazmat.primitives import serialization

    other = tmp_path / "other.pem"
    authority.issue_cert("localhost").private_key_pem.write_to_path(str(other))
    with pytest.raises(DataError, match="not made for the key"):
        attempt(Listening(port=0, encryption=Encryption(files.certificate, other)))
    with pytest.raises(UsageError, match="cannot be read") as refused:
        attempt(Listening(port=0, encryption=Encryption(tmp_path / "none.pem", files.key)))
    assert refused.value.where == str(tmp_path / "none.pem")
    (tmp_path / "nonsense.pem").write_text("nonsense")
    with pytest.raises(DataError, match="no usable certificate"):
        attempt(Listening(port=0, encryption=Encryption(tmp_path / "nonsense.pem", files.key)))
    key = serialization.load_pem_private_key(files.key.read_bytes(), None)
    locked = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"secret")
    )
    (tmp_path / "locked.pem").write_bytes(locked)
    with pytest.raises(DataError, match="no usable certificate"):
        attempt(Listening(port=0, encryption=Encryption(files.certificate, tmp_path / "locked.pem")))

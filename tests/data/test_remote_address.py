"""Where files may be downloaded from: addresses, redirects, certificates and proxies."""

import shutil
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from web_server import CONTENT, PATH, SHA256, Waits, WebFile, WebServer, answering, served, without_proxies

from mlctl.data.downloads import fetch_url
from mlctl.data.remote_address import Address
from mlctl.errors import DataError, MachineError, UsageError
from mlctl.events import silent

SECRET = "hunter2"


@pytest.fixture(autouse=True)
def _own_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    without_proxies(monkeypatch)


@pytest.fixture
def server() -> Iterator[WebServer]:
    with served(WebServer(files={PATH: WebFile(CONTENT)})) as world:
        yield world


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("http://example.org/x.csv", "http:// cannot be downloaded from"),
        ("http://127.0.0.1.example.org/x.csv", "http:// cannot be downloaded from"),
        ("http://10.0.0.1/x.csv", "http:// cannot be downloaded from"),
        ("ftp://example.org/x.csv", "ftp:// cannot be downloaded from"),
        ("//example.org/x.csv", "no scheme:// cannot be downloaded from"),
        ("https:///x.csv", "the address names no host"),
        ("https://", "the address names no host"),
        ("https://[::1/x.csv", "this is no address"),
        ("https://example.org:port/x.csv", "this is no address"),
        ("https://example.org/a b.csv", "the address holds blanks or control characters"),
        ("https://example.org/\x1b[2J.csv", "the address holds blanks or control characters"),
        ("https://example..org\u00e9/x.csv", "'example..orgé' is no host"),
    ],
)
def test_an_address_that_cannot_be_is_refused(text: str, what: str) -> None:
    with pytest.raises(UsageError) as caught:
        Address.parse(text)
    assert caught.value.what == what
    assert str(caught.value).replace("\n", "").isprintable()


@pytest.mark.parametrize(
    "text",
    [
        f"https://me:{SECRET}@example.org/x.csv",
        f"https://{SECRET}@example.org/x.csv",
        f"ftp://me:{SECRET}@example.org/x.csv",
        f"https://me:{SECRET}/x@example.org/x.csv",
    ],
)
def test_a_password_in_an_address_is_refused_and_never_shown(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        Address.parse(text)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "url", "name"),
    [
        ("https://example.org/a/x.csv.gz?raw=1#top", "https://example.org/a/x.csv.gz?raw=1", "x.csv.gz"),
        ("https://example.org:8443", "https://example.org:8443", "download"),
        ("https://example.org/a/", "https://example.org/a/", "download"),
        ("https://example.org/%2e%2e", "https://example.org/%2e%2e", "download"),
        ("https://example.org/..%2F..%2Fetc%2Fpasswd", "https://example.org/..%2F..%2Fetc%2Fpasswd", "etcpasswd"),
        ("https://example.org/my%20data.csv", "https://example.org/my%20data.csv", "my data.csv"),
        ("https://bücher.example/größe.csv", "https://xn--bcher-kva.example/gr%C3%B6%C3%9Fe.csv", "größe.csv"),
        ("http://localhost:80/x.csv", "http://localhost:80/x.csv", "x.csv"),
        ("http://[::1]:8080/x.csv", "http://[::1]:8080/x.csv", "x.csv"),
    ],
)
def test_an_address_gives_what_is_asked_for_and_a_file_name(text: str, url: str, name: str) -> None:
    address = Address.parse(text)
    assert (address.url, address.file_name, address.shown) == (url, name, text)


@given(st.text())
def test_any_text_is_an_address_or_refused(text: str) -> None:
    try:
        address = Address.parse(f"https://{text}")
    except UsageError:
        return
    assert address.url.isascii()
    assert urlsplit(address.url).hostname
    assert Address.parse(address.url).url == address.url


@given(st.text())
def test_a_file_name_stays_in_its_folder(text: str) -> None:
    name = Address(f"https://example.org/{text}", "", is_loopback=False).file_name
    assert (Path("/folder") / name).parent == Path("/folder")
    assert 0 < len(name.encode()) <= 200
    assert name.isprintable()
    assert not name.startswith(".")


def test_redirects_are_followed_within_their_scheme(server: WebServer) -> None:
    hops = [answering(status, {"Location": f"/hop?{status}"}) for status in (301, 302, 303, 307)]
    server.script.extend([*hops, answering(308, {"Location": server.url(PATH) + "#part"})])
    assert fetch_url(server.url("/start.csv"), SHA256, silent).name == "start.csv"
    assert [each.path for each in server.asked] == ["/start.csv", *(f"/hop?{n}" for n in (301, 302, 303, 307)), PATH]


def test_a_sixth_redirect_is_not_followed(server: WebServer) -> None:
    server.script.extend([answering(302, {"Location": "/again"})] * 9)
    with pytest.raises(DataError, match="the server redirects more than 5 times"):
        fetch_url(server.url(PATH), SHA256, silent)
    assert len(server.asked) == 6


@pytest.mark.parametrize(
    ("location", "why"),
    [
        ("https://example.org/x.csv?signature=hunter2", "it leads from http to https"),
        ("http://example.org/x.csv?signature=hunter2", "http:// cannot be downloaded from"),
        ("file:///etc/passwd", "the address names no host"),
        ("ftp://example.org/hunter2", "ftp:// cannot be downloaded from"),
        ("http://me:hunter2@127.0.0.1/x.csv", "the address of 127.0.0.1 holds a user's name or password"),
        ("http://127.0.0.1:hunter2/", "this is no address"),
    ],
)
def test_a_redirect_that_leads_astray_is_refused(server: WebServer, location: str, why: str) -> None:
    server.script.append(answering(302, {"Location": location}))
    with pytest.raises(DataError) as caught:
        fetch_url(server.url(PATH), SHA256, silent)
    assert caught.value.what.endswith(f"not followed: {why}")
    assert caught.value.where == server.url(PATH)
    assert SECRET not in str(caught.value)


def test_a_redirect_to_nowhere_is_an_answer_like_others(server: WebServer) -> None:
    server.script.append(answering(302))
    with pytest.raises(DataError, match="the server answers 302 Found"):
        fetch_url(server.url(PATH), SHA256, silent)


# Certificates


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One that this machine gives to itself; the key lies beside it."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl makes the certificate")
    folder = tmp_path_factory.mktemp("certificate")
    line = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=here -addext subjectAltName=IP:127.0.0.1"
    command = [*line.split(), "-keyout", str(folder / "key.pem"), "-out", str(folder / "certificate.pem")]
    subprocess.run(command, check=True, capture_output=True)
    return folder / "certificate.pem"


@pytest.fixture
def secure_server(certificate: Path) -> Iterator[WebServer]:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, certificate.with_name("key.pem"))
    with served(WebServer(files={PATH: WebFile(CONTENT)}), tls) as world:
        yield world


def test_https_needs_a_certificate_that_this_machine_trusts(secure_server: WebServer, waits: Waits) -> None:
    with pytest.raises(DataError) as caught:
        fetch_url(secure_server.url(PATH), SHA256, silent, waits.patience())
    assert caught.value.what == "the server cannot prove who it is (self-signed certificate)"
    assert waits.pauses == []


def test_https_downloads_from_whom_this_machine_trusts(
    secure_server: WebServer, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    assert fetch_url(secure_server.url(PATH), SHA256, silent).read_bytes() == CONTENT


def test_https_is_never_left_for_http(
    secure_server: WebServer, server: WebServer, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    secure_server.script.append(answering(302, {"Location": server.url(PATH)}))
    with pytest.raises(DataError, match="not followed: it leads from https to http"):
        fetch_url(secure_server.url(PATH), SHA256, silent)
    assert server.asked == []


# Proxies


@pytest.fixture
def waits() -> Waits:
    return Waits()


def test_the_proxy_of_the_environment_is_asked(
    server: WebServer, waits: Waits, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("https_proxy", server.root)
    server.script.extend([answering(403)] * 2)
    with pytest.raises(
        DataError, match=r"cannot be reached \(Tunnel connection failed: 403 Forbidden\); tried 2 times"
    ):
        fetch_url("https://data.example/x.csv", SHA256, silent, waits.patience(attempts=2))
    assert [(each.method, each.path) for each in server.asked] == [("CONNECT", "data.example:443")] * 2


def test_this_machine_is_asked_without_a_proxy(server: WebServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    assert fetch_url(server.url(PATH), SHA256, silent).read_bytes() == CONTENT


def test_a_proxy_of_another_kind_is_the_machines_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "socks5://127.0.0.1:9")
    with pytest.raises(MachineError, match="proxies of this kind cannot be used"):
        fetch_url("https://data.example/x.csv", SHA256, silent)

"""TLS."""

import ssl
from pathlib import Path

from mlctl.errors import DataError, UsageError
from mlctl.serving.settings import Encryption


def encrypted(encryption: Encryption) -> ssl.SSLContext:
    """What a server of HTTP/1.1 proves itself with, in TLS 1.2 or newer.

    Raises UsageError for a file that cannot be read, DataError for a certificate or a key that is none, for two that
    do not belong together, and for a key that wants a password.
    """
    for path, what in ((encryption.certificate, "certificate"), (encryption.key, "key")):
        _check_readable(path, what)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    context.options |= ssl.OP_NO_RENEGOTIATION
    try:
        # Without a password of its own OpenSSL would ask for one on the terminal.
        context.load_cert_chain(encryption.certificate, encryption.key, password="")
    except (ssl.SSLError, ValueError) as error:
        raise _unusable(encryption, error) from error
    return context


def _check_readable(path: Path, what: str) -> None:
    try:
        with path.open("rb") as stream:
            stream.read(1)
    except OSError as error:
        raise UsageError(
            f"the {what} of TLS cannot be read: {error.strerror}",
            where=path,
            next=f"name a PEM file that holds the server's {what}",
        ) from error


def _unusable(encryption: Encryption, error: Exception) -> DataError:
    reason = error.reason if isinstance(error, ssl.SSLError) and error.reason else str(error)
    if reason == "KEY_VALUES_MISMATCH":
        return DataError(
            f"the certificate was not made for the key in {encryption.key}",
            where=encryption.certificate,
            next="name the certificate and the key that were made together",
        )
    return DataError(
        f"with the key in {encryption.key} this is no usable certificate: {reason}",
        where=encryption.certificate,
        next="both must be PEM: the server's certificate with those that vouch for it, and its key without a password",
    )

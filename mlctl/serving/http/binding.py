"""A port of this machine for a server alone, before anybody is let in."""

import asyncio
import errno
import socket

from mlctl.errors import UsageError


class Bound:
    """Sockets of one port that do not listen yet: whoever connects is refused by the system."""

    def __init__(self, sockets: list[socket.socket], where: str, option: str) -> None:
        """`where` and `option` are what a refusal names."""
        self.address, self.port = sockets[0].getsockname()[:2]
        self._sockets = sockets
        self._where = where
        self._option = option

    def share(self) -> None:
        """Let others of this process bind the port beside these sockets, and later servers at once after this one."""
        for each in self._sockets:
            each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)

    def listen(self, backlog: int) -> list[socket.socket]:
        """Let connections in, and give the sockets to whoever takes them from there, and closes them.

        Raises UsageError where another process has come in between.
        """
        self.share()
        try:
            for each in self._sockets:
                each.listen(backlog)
        except OSError as error:
            self.close()
            raise _refusal(error, self._where, self._option) from error
        sockets, self._sockets = self._sockets, []
        return sockets

    def close(self) -> None:
        """Give back the port, unless somebody listens on it."""
        for each in self._sockets:
            each.close()
        self._sockets = []


async def bind(host: str, port: int, option: str = "--port") -> Bound:
    """Sockets for every address of the host that is this machine's, all on one port; port 0 takes a free one.

    Raises UsageError for a port that is taken or privileged, and an address that is not this machine's.
    """
    where = f"{host}:{port}"
    sockets: list[socket.socket] = []
    for family, address in await _addresses(host, port):
        try:
            sockets.append(_bind(family, address, sockets[0].getsockname()[1] if sockets else port))
        except (OSError, OverflowError) as error:
            # `localhost` may name an address of IPv6 where the machine has none.
            if sockets and isinstance(error, OSError) and error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                continue
            for each in sockets:
                each.close()
            raise _refusal(error, where, option) from error
    return Bound(sockets, where, option)


async def _addresses(host: str, port: int) -> list[tuple[socket.AddressFamily, str]]:
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, OverflowError, UnicodeError) as error:
        raise UsageError(
            f"{host!r} is no address: {error}",
            next="name an address of this machine, such as 127.0.0.1, or 0.0.0.0 for all of them",
        ) from error
    return list(dict.fromkeys((family, str(address[0])) for family, _, _, _, address in found))


def _bind(family: socket.AddressFamily, address: str, port: int) -> socket.socket:
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        bound.setblocking(False)
        bound.bind((address, port))
        # Linux gives an address that may be used again to two servers, until one of them listens.
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
    except BaseException:
        bound.close()
        raise
    return bound


def _refusal(error: Exception, where: str, option: str) -> UsageError:
    number = error.errno if isinstance(error, OSError) else None
    if number == errno.EADDRINUSE:
        return UsageError(
            "the port is taken by another process",
            where=where,
            next=f"choose another with `{option}`, 0 for any that is free, or end the other process",
        )
    if number in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
        return UsageError(
            "this is no address of this machine",
            where=where,
            next="`--host 127.0.0.1` is reached from this machine alone, `--host 0.0.0.0` from everywhere",
        )
    if number == errno.EACCES:
        return UsageError(
            "ports below 1024 are for privileged users",
            where=where,
            next=f"choose one from 1024 to 65535 with `{option}`",
        )
    return UsageError(f"the server cannot listen here: {error}", where=where)

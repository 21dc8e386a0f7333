"""What sends one HTTP request: through which proxy, and what an attempt that brings no answer comes to."""

from http.client import HTTPException, HTTPResponse
from urllib.error import URLError
from urllib.parse import urlsplit
from urllib.request import (
    HTTPErrorProcessor,
    HTTPHandler,
    HTTPSHandler,
    OpenerDirector,
    ProxyHandler,
    Request,
    getproxies,
    proxy_bypass,
)

from mlctl import __version__
from mlctl.data.remote_failures import connection_failure, plain
from mlctl.data.remote_retrying import Transient
from mlctl.errors import DataError, MachineError

AGENT = {"User-Agent": f"mlctl/{__version__}"}


class _Unjudged(HTTPErrorProcessor):
    """Hands every answer on as it is; what it means is judged by who asked."""

    def http_response(self, request: Request, response: HTTPResponse) -> HTTPResponse:
        """The answer itself."""
        return response

    https_response = http_response


def opener(url: str, *, is_loopback: bool) -> OpenerDirector:
    """What opens requests to `url`, with the environment's proxies except for addresses of this machine.

    Every answer is handed on, redirects and refusals too. Raises MachineError for a proxy that is none for HTTP.
    """
    found = OpenerDirector()
    for handler in (ProxyHandler(_proxies(url, is_loopback)), HTTPHandler(), HTTPSHandler(), _Unjudged()):
        found.add_handler(handler)
    return found


def no_answer(error: OSError | HTTPException, shown: str, silence: float) -> Transient | DataError:
    """What an attempt that brought no answer within `silence` seconds comes to; `shown` is the address in messages."""
    known = connection_failure(error, shown)
    if known is not None:
        return known
    reason = error.reason if isinstance(error, URLError) else error
    if isinstance(reason, TimeoutError):
        return Transient(f"the server said nothing for {silence:g} s")
    if isinstance(reason, ConnectionError):
        return Transient("the server refuses or closes the connection")
    return Transient(f"the server cannot be reached ({plain(reason)})")


def _proxies(url: str, is_loopback: bool) -> dict[str, str]:
    """The proxies of the environment, by the scheme that they serve."""
    parts = urlsplit(url)
    if is_loopback or proxy_bypass(parts.hostname or ""):
        return {}
    proxy = getproxies().get(parts.scheme)
    if proxy is None:
        return {}
    # urllib would speak HTTP to a proxy of any kind.
    if urlsplit(proxy).scheme not in ("http", "https") and "://" in proxy:
        where = f"{parts.scheme}_proxy"
        raise MachineError("proxies of this kind cannot be used", where=where, next="name one with http://")
    return {parts.scheme: proxy}

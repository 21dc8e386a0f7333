"""What HTTP itself says of a refusal, whatever the protocol inside."""

import orjson

from mlctl.serving.http.messages import Request, Respond, Response
from mlctl.serving.refusals import MethodRefused, Refused, Unauthorized


def plain_refusal(refused: Refused) -> Response:
    """A refusal where no route, and so no protocol, is known."""
    return Response(refused.status, orjson.dumps({"error": refused.what}))


def refuse_plainly(refused: Refused, _: Request, respond: Respond) -> None:
    """Answer where there are no routes."""
    respond(with_headers(plain_refusal(refused), refused))


def with_headers(response: Response, refused: Refused) -> Response:
    """The response with what HTTP says of such a refusal: when to come again, what is allowed, what to bring."""
    more = []
    if refused.retry_after is not None:
        more.append(("Retry-After", str(max(1, round(refused.retry_after)))))
    if isinstance(refused, MethodRefused):
        more.append(("Allow", ", ".join(refused.allowed)))
    if isinstance(refused, Unauthorized):
        more.append(("WWW-Authenticate", "Bearer"))
    present = {name.lower() for name, _ in response.headers}
    response.headers = (*response.headers, *((name, value) for name, value in more if name.lower() not in present))
    return response

"""Between the network and the protocols: finds the route, asks the guard, keeps account, and lets no error through."""

import asyncio
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from time import monotonic

from mlctl.serving.guards.audit import Audit, Use
from mlctl.serving.guards.caller import ANONYMOUS, Caller, Guard
from mlctl.serving.http.messages import Drop, Request, Respond, Response
from mlctl.serving.http.refusing import plain_refusal, with_headers
from mlctl.serving.http.routing import Route, Router, Routes
from mlctl.serving.refusals import Broken, Refused
from mlctl.serving.telemetry.access_log import Access, AccessLog, request_id

REQUEST_ID = "X-Request-Id"
GONE = 499
"""The status, in logs alone, of a request whose caller went before its answer came; nginx's."""


class Application:
    """Answers every request; what goes wrong in a handler is told to its caller alone."""

    def __init__(self, routes: Routes, guard: Guard, audit: Audit, log: AccessLog) -> None:
        self.responses: Counter[tuple[str, int]] = Counter()
        """How many answers there were, by route and status; those without a route have none."""
        self._router = Router(routes)
        self._guard = guard
        self._audit = audit
        self._log = log
        self.is_silent = log.is_silent
        """Whether no request leaves a line."""
        self.is_audited = audit.is_kept
        """Whether what is done is kept account of."""

    def __call__(self, request: Request, respond: Respond) -> Drop | None:
        """Answer now or later. Gives what is to be called where the caller goes before that."""
        exchange = _Exchange(self, request, respond)
        try:
            route, parameters = self._router.find(request.method, request.path)
            exchange.route = route
            request.model = parameters.get("model", "")
            exchange.caller = self._admit(route, request)
            if self.is_audited and exchange.is_audited:
                self.require_writable()
            drop = route.handler(request, parameters, exchange.finish)
            return partial(exchange.leave, drop)
        except Refused as refused:
            exchange.refuse(refused)
        except Exception as error:  # noqa: BLE001 -- a bug costs one caller his answer, and not all their server
            exchange.fail(error)
        return None

    def _admit(self, route: Route, request: Request) -> Caller:
        """Who asks. Raises what the guard does, and what keeps the route from knowing the model, with who asked."""
        authorization = request.headers.get("authorization")
        try:
            model = named_model(route, request)
        except Refused as refused:
            # Who may not ask learns nothing of what is wrong with the question, which tells of the models.
            refused.caller = self._guard.admit(authorization, route.scope, None).name
            raise
        return self._guard.admit(authorization, route.scope, model)

    def refuse(self, refused: Refused, request: Request, respond: Respond) -> None:
        """Answer what never became a whole request, in the form of the route that its head names, if it came so far.

        The audit has no line of it, for nobody's token was looked at, and nothing was done.
        """
        said: Callable[[Refused], Response] = plain_refusal
        with suppress(Refused):
            route, parameters = self._router.find(request.method, request.path)
            said, request.model = route.refusal, parameters.get("model", "")
        _Exchange(self, request, respond).finish(with_headers(said(refused), refused))

    def require_writable(self) -> None:
        """See that what is about to be done can be kept account of. Raises NotReady."""
        self._audit.require_writable()

    def record(self, use: Use) -> None:
        """Have it in the audit. Raises NotReady."""
        self._audit.record(use)

    def answered(self, access: Access, route: str) -> None:
        """Count and log an answer."""
        self.responses[route, access.status] += 1
        self._log.answered(access)


def named_model(route: Route, request: Request) -> str | None:
    """The model that a request names, in its path or as its route knows."""
    if request.model:
        return request.model
    return route.names_model(request) if route.names_model else None


class _Exchange:
    """One request on its way."""

    __slots__ = ("_application", "_request", "_respond", "caller", "is_over", "route")

    def __init__(self, application: Application, request: Request, respond: Respond) -> None:
        self._application = application
        self._request = request
        self._respond = respond
        self.route: Route | None = None
        self.caller = ANONYMOUS
        self.is_over = False

    @property
    def is_audited(self) -> bool:
        """Whether the route computes or changes something."""
        return self.route is not None and self.route.scope != "open" and self._request.method not in ("GET", "HEAD")

    def finish(self, response: Response) -> None:
        """Answer, once."""
        if self.is_over:
            return
        self.is_over = True
        application, request, route = self._application, self._request, self.route
        if application.is_audited and self.is_audited:
            response = self._recorded(response)
        path = route.path if route is not None else ""
        given = request.headers.get("x-request-id")
        if given is None and application.is_silent:
            self._respond(response)
            application.responses[path, response.status] += 1
            return
        identifier = request_id(given)
        response.headers = (*response.headers, (REQUEST_ID, identifier))
        self._respond(response)
        access = Access(
            request.client,
            self.caller.name,
            request.method,
            request.path,
            response.status,
            len(response.body),
            monotonic() - request.received,
            identifier,
            request.model,
            request.version,
        )
        application.answered(access, path)

    def leave(self, drop: Drop | None) -> None:
        """The caller has gone before the answer: nothing more is computed, and that is on record."""
        if drop is not None:
            drop()
        self.finish(Response(GONE))

    def refuse(self, refused: Refused) -> None:
        """Answer with a refusal, in the route's form."""
        if refused.caller is not None:
            self.caller = Caller(refused.caller)
        response = self.route.refusal(refused) if self.route else plain_refusal(refused)
        self.finish(with_headers(response, refused))

    def fail(self, error: Exception) -> None:
        """Answer that there is a bug, and tell of it."""
        loop = asyncio.get_running_loop()
        loop.call_exception_handler({"message": f"{self._request.method} {self._request.path}", "exception": error})
        self.refuse(Broken("a bug in the server kept it from answering"))

    def _recorded(self, response: Response) -> Response:
        assert self.route is not None
        request = self._request
        use = Use(
            self.caller.name, request.client, action_of(self.route), request.model, request.version, response.status,
            request.body,
        )  # fmt: skip
        try:
            self._application.record(use)
        except Refused as refused:
            return with_headers(self.route.refusal(refused), refused)
        return response


def action_of(route: Route) -> str:
    """What the audit calls it: `infer`, or the verb of a management call."""
    return route.action or route.scope

"""Who is admitted: by token, scope, rate and time, while the file changes."""

import os
from pathlib import Path

import pytest
from clocks import Clock
from hypothesis import given
from hypothesis import strategies as st

from mlctl.errors import DataError, UsageError
from mlctl.events import Event, Note, Warned
from mlctl.serving.guards.caller import ANONYMOUS, Caller
from mlctl.serving.guards.guard import guard_of
from mlctl.serving.guards.rates import Bucket
from mlctl.serving.guards.token_guard import TokenGuard
from mlctl.serving.guards.tokens import Scopes, create_token, read_tokens, revoke_token, unix_time
from mlctl.serving.http.routing import Scope
from mlctl.serving.refusals import Forbidden, Refused, TooMany, Unauthorized

SCOPES: tuple[Scope, ...] = ("open", "infer", "admin")


class Gate:
    """A guard over a file of tokens, with clocks that a test moves and what it was told."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.clock, self.now = Clock(), Clock(1_800_000_000.0)
        self.told: list[Event] = []
        self.headers = {
            name: f"Bearer {create_token(file, name, scopes)}"
            for name, scopes in {"any": Scopes(), "one": Scopes(("digits",)), "admin": Scopes(is_admin=True)}.items()
        }
        self.guard = TokenGuard(file, self.told.append, clock=self.clock, now=self.now)

    def name(self, header: str | None, scope: Scope = "infer", model: str | None = "digits") -> str:
        return self.guard.admit(header, scope, model).name

    def look(self) -> None:
        self.clock.pass_by(1.0)
        self.guard.admit(None, "open", None)


@pytest.fixture
def gate(tmp_path: Path) -> Gate:
    return Gate(tmp_path / "tokens.json")


def test_without_a_file_everybody_infers_and_is_told_how_one_manages() -> None:
    guard = guard_of(None)
    assert guard.admit(None, "infer", "digits") == guard.admit("Bearer x", "open", None) == ANONYMOUS
    with pytest.raises(Forbidden, match=r"mlctl token create NAME --tokens FILE --admin"):
        guard.admit("Bearer x", "admin", None)


def test_each_token_reaches_as_far_as_it_was_made_for(gate: Gate) -> None:
    asked: tuple[tuple[Scope, str | None], ...] = (
        ("infer", "digits"),
        ("infer", "other"),
        ("infer", None),
        ("admin", None),
    )
    reached = {
        name: [(scope, model) for scope, model in asked if isinstance(outcome(gate, header, scope, model), Caller)]
        for name, header in gate.headers.items()
    }
    assert reached == {
        "any": [("infer", "digits"), ("infer", "other"), ("infer", None)],
        "one": [("infer", "digits")],
        "admin": [("infer", "digits"), ("infer", "other"), ("infer", None), ("admin", None)],
    }


def test_open_routes_ask_for_nothing(gate: Gate) -> None:
    for header in (None, "", "Bearer nonsense", gate.headers["one"]):
        assert gate.guard.admit(header, "open", None) == ANONYMOUS


def test_the_name_of_the_scheme_may_be_written_in_any_case(gate: Gate) -> None:
    token = gate.headers["any"].removeprefix("Bearer ")
    assert {gate.name(f"{scheme} {token}") for scheme in ("Bearer", "bearer", "BEARER", "Bearer ")} == {"any"}


@pytest.mark.parametrize(
    "change", [lambda text: text[:-1], lambda text: text + "A", lambda text: text[:-1] + "!", str.lower]
)
def test_a_token_that_is_nearly_right_is_not_known(gate: Gate, change: object) -> None:
    assert callable(change)
    with pytest.raises(Unauthorized, match="not known"):
        gate.name(f"Bearer {change(gate.headers['any'].removeprefix('Bearer '))}")


@pytest.fixture(scope="module")
def standing_gate(tmp_path_factory: pytest.TempPathFactory) -> Gate:
    return Gate(tmp_path_factory.mktemp("gate") / "tokens.json")


@given(
    header=st.none()
    | st.text()
    | st.text().map(lambda text: f"Bearer {text}")
    | st.binary().map(lambda b: b.decode("latin-1")),
    scope=st.sampled_from(SCOPES),
    model=st.none() | st.text(),
)
def test_no_header_breaks_the_guard(standing_gate: Gate, header: str | None, scope: Scope, model: str | None) -> None:
    found = outcome(standing_gate, header, scope, model)
    assert found == ANONYMOUS if scope == "open" else isinstance(found, Unauthorized)


def outcome(gate: Gate, header: str | None, scope: Scope, model: str | None) -> Caller | Refused:
    try:
        return gate.guard.admit(header, scope, model)
    except Refused as refused:
        return refused


def test_a_rate_holds_over_any_span_and_says_when_to_come_again(gate: Gate) -> None:
    header = f"Bearer {create_token(gate.file, 'slow', Scopes(rate=4.0))}"
    gate.look()
    assert [gate.name(header) for _ in range(4)] == ["slow"] * 4
    with pytest.raises(TooMany, match="4 requests a second") as refused:
        gate.name(header)
    assert refused.value.retry_after == pytest.approx(0.25)
    gate.clock.pass_by(0.25)
    assert gate.name(header) == "slow"
    with pytest.raises(TooMany):
        gate.name(header)


def test_a_refused_request_uses_up_no_rate(gate: Gate) -> None:
    header = f"Bearer {create_token(gate.file, 'slow', Scopes(('digits',), rate=1.0))}"
    gate.look()
    for _ in range(5):
        with pytest.raises(Forbidden):
            gate.name(header, model="other")
    assert gate.name(header) == "slow"


@given(st.floats(0.01, 1000), st.lists(st.floats(0, 3), max_size=200))
def test_a_bucket_lets_no_more_through_than_its_rate_and_room(rate: float, pauses: list[float]) -> None:
    now, passed = 0.0, 0
    bucket = Bucket.full(rate, now)
    for pause in pauses:
        now += pause
        wait = bucket.take(now)
        passed += wait == 0
        assert wait >= 0
        # Rounding: each step may add a part in 10**15 of what is there.
        assert passed <= max(rate, 1.0) + rate * now + 1e-6
    if wait := bucket.take(now):
        assert Bucket(bucket.rate, bucket.room, bucket.level, bucket.filled).take(now + wait + 1e-6) == 0


def test_a_token_ends_when_it_expires(gate: Gate) -> None:
    token = create_token(gate.file, "short", Scopes(), days=2)
    expires = next(unix_time(each.expires) for each in read_tokens(gate.file) if each.expires)
    gate.look()
    gate.now.seconds = expires - 1
    assert gate.name(f"Bearer {token}") == "short"
    gate.now.seconds = expires
    with pytest.raises(Unauthorized, match="'short' has expired"):
        gate.name(f"Bearer {token}")


def test_what_is_made_and_revoked_holds_within_a_second_and_nothing_is_read_before(gate: Gate) -> None:
    made = f"Bearer {create_token(gate.file, 'new', Scopes())}"
    revoke_token(gate.file, "any")
    gate.clock.pass_by(0.99)
    assert gate.name(gate.headers["any"]) == "any"
    gate.clock.pass_by(0.01)
    assert gate.name(made) == "new"
    with pytest.raises(Unauthorized):
        gate.name(gate.headers["any"])
    assert gate.told == [Note(f"{gate.file}: 3 tokens now")]


def test_a_file_that_changes_fills_no_bucket(gate: Gate) -> None:
    header = f"Bearer {create_token(gate.file, 'slow', Scopes(rate=0.001))}"
    gate.look()
    assert gate.name(header) == "slow"
    create_token(gate.file, "another", Scopes())
    gate.look()
    with pytest.raises(TooMany):
        gate.name(header)


def test_a_damaged_or_missing_file_leaves_the_last_good_state_and_is_told_once(gate: Gate) -> None:
    good = gate.file.read_bytes()
    gate.file.write_bytes(good[:-20])
    for _ in range(3):
        gate.look()
    assert gate.name(gate.headers["one"]) == "one"
    gate.file.unlink()
    for _ in range(3):
        gate.look()
    assert gate.name(gate.headers["one"]) == "one"
    assert [type(each) for each in gate.told] == [Warned, Warned]
    gate.file.write_bytes(good)
    revoke_token(gate.file, "one")
    gate.look()
    with pytest.raises(Unauthorized):
        gate.name(gate.headers["one"])


def test_a_file_of_the_same_time_and_size_that_took_the_others_place_is_read(gate: Gate) -> None:
    found = gate.file.stat()
    text = gate.file.read_text().replace('"name": "one"', '"name": "two"')
    beside = gate.file.with_name("beside")
    beside.write_text(text)
    beside.rename(gate.file)
    os.utime(gate.file, ns=(found.st_atime_ns, found.st_mtime_ns))
    assert gate.file.stat().st_size == found.st_size
    gate.look()
    assert gate.name(gate.headers["one"]) == "two"


def test_a_guard_does_not_begin_without_its_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        guard_of(tmp_path / "tokens.json")
    (tmp_path / "tokens.json").write_text("{}")
    with pytest.raises(DataError):
        guard_of(tmp_path / "tokens.json")


def test_a_refusal_knows_whom_it_refused_and_only_where_the_token_is_known(gate: Gate) -> None:
    slow = f"Bearer {create_token(gate.file, 'slow', Scopes(rate=0.01))}"
    gate.look()
    asked: tuple[tuple[str, Scope], ...] = (
        (gate.headers["one"], "infer"),
        (gate.headers["any"], "admin"),
        (slow, "infer"),
        (slow, "infer"),
        ("Bearer x", "infer"),
    )
    found = [outcome(gate, header, scope, "other") for header, scope in asked]
    refused = [each.caller for each in found if isinstance(each, Refused)]
    assert refused == ["one", "any", "slow", None]


@pytest.mark.parametrize(("mode", "is_warned"), [(0o600, False), (0o644, False), (0o620, True), (0o602, True)])
def test_a_file_that_others_may_write_is_warned_of(gate: Gate, mode: int, is_warned: bool) -> None:
    gate.file.chmod(mode)
    told: list[Event] = []
    TokenGuard(gate.file, told.append)
    assert [type(each) for each in told] == [Warned] * is_warned


def test_no_refusal_holds_the_token(gate: Gate) -> None:
    gate.now.seconds = 1e12
    headers = [header + ending for header in gate.headers.values() for ending in ("", "A", "\n")]
    found = [(header, outcome(gate, header, scope, "other")) for header in headers for scope in SCOPES]
    refused = [
        (header.removeprefix("Bearer ").strip(), each.what) for header, each in found if isinstance(each, Refused)
    ]
    assert len(refused) > len(gate.headers)
    assert not [what for token, what in refused if token in what]

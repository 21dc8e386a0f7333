"""Names of files on the hub: what they say, and what they may not say."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlctl.data.hub_reference import HubFile
from mlctl.errors import UsageError

COMMIT = "0123456789abcdef0123456789abcdef01234567"
SHA256 = "ab" * 32


def test_a_commit_pins_a_file() -> None:
    found = HubFile.parse(f"hf://datasets/some-owner/some.name@{COMMIT.upper()}/data/train 0.csv")
    assert found == HubFile("datasets", "some-owner", "some.name", COMMIT, "data/train 0.csv", None)
    assert found.repository == "some-owner/some.name"


@pytest.mark.parametrize(("written", "revision"), [("main", "main"), ("refs%2Fpr%2F1", "refs/pr/1"), ("v1.0", "v1.0")])
def test_a_digest_pins_a_file_of_any_revision(written: str, revision: str) -> None:
    found = HubFile.parse(f"hf://datasets/owner/name@{written}/x.csv#SHA256={SHA256.upper()}")
    assert found == HubFile("datasets", "owner", "name", revision, "x.csv", SHA256)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("hf://owner/name@main/x.csv", "sources on the hub are files of data sets"),
        ("hf://models/owner/name@main/x.csv", "sources on the hub are files of data sets"),
        ("https://huggingface.co/datasets/owner/name", "sources on the hub are files of data sets"),
        (f"hf://datasets/name@{COMMIT}/x.csv", "this names no repository of the hub"),
        (f"hf://datasets/owner/na--me@{COMMIT}/x.csv", "this names no repository of the hub"),
        (f"hf://datasets/owner/name.git@{COMMIT}/x.csv", "this names no repository of the hub"),
        (f"hf://datasets/-owner/name@{COMMIT}/x.csv", "this names no repository of the hub"),
        (f"hf://datasets/owner/{'n' * 97}@{COMMIT}/x.csv", "this names no repository of the hub"),
        (f"hf://datasets/ow\x1bner/name@{COMMIT}/x.csv", "this names no repository of the hub"),
        (f"hf://datasets/owner/name@{COMMIT}", "this names no file of the repository"),
        (f"hf://datasets/owner/name@{COMMIT}/", "this names no file of the repository"),
        (f"hf://datasets/owner/name@{COMMIT}/a//b", "this names no file of the repository"),
        (f"hf://datasets/owner/name@{COMMIT}/../b", "this names no file of the repository"),
        (f"hf://datasets/owner/name@{COMMIT}/a/./b", "this names no file of the repository"),
        (f"hf://datasets/owner/name@{COMMIT}/a\\b", "this names no file of the repository"),
        (f"hf://datasets/owner/name@{COMMIT}/a\x1b[2Jb", "this names no file of the repository"),
        ("hf://datasets/owner/name/x.csv", "the revision is missing"),
        ("hf://datasets/owner/name@/x.csv", "the revision is missing"),
        ("hf://datasets/owner/name@main/x.csv", "the revision 'main' is a branch or a tag, which can change"),
        (f"hf://datasets/owner/name@{COMMIT[:-1]}/x.csv", f"the revision '{COMMIT[:-1]}' is a branch or a tag, "),
        ("hf://datasets/owner/name@a..b/x.csv", "'a..b' is no revision"),
        ("hf://datasets/owner/name@..%2Fb/x.csv", "'../b' is no revision"),
        ("hf://datasets/owner/name@a%1Bb/x.csv", r"'a\x1bb' is no revision"),
        (f"hf://datasets/owner/name@{COMMIT}/x.csv#sha256=abc", "a sha256 has 64 hexadecimal digits, this one 3"),
        (f"hf://datasets/owner/name@{COMMIT}/x.csv#sha256=", "a sha256 has 64 hexadecimal digits, this one 0"),
    ],
)
def test_a_name_that_pins_no_file_is_refused(text: str, what: str) -> None:
    with pytest.raises(UsageError) as caught:
        HubFile.parse(text)
    assert caught.value.what.startswith(what)
    assert caught.value.next
    assert str(caught.value).replace("\n", "").isprintable()


NAMES = st.from_regex(r"[A-Za-z0-9_]([A-Za-z0-9._]{0,20}[A-Za-z0-9_])?", fullmatch=True).filter(
    lambda name: ".." not in name and not name.endswith(".git")
)
PARTS = st.text(st.characters(exclude_categories=["C", "Z"], exclude_characters="/\\"), min_size=1).filter(
    lambda part: part not in (".", "..") and "#" not in part
)


@given(NAMES, NAMES, st.from_regex(r"[0-9a-f]{40}", fullmatch=True), st.lists(PARTS, min_size=1, max_size=4))
def test_what_is_shown_is_what_was_said(owner: str, name: str, commit: str, parts: list[str]) -> None:
    text = f"hf://datasets/{owner}/{name}@{commit}/{'/'.join(parts)}"
    found = HubFile.parse(text)
    assert str(found) == text
    assert found == HubFile("datasets", owner, name, commit, "/".join(parts), None)


@given(st.text())
def test_any_text_is_a_file_or_refused(text: str) -> None:
    try:
        found = HubFile.parse(f"hf://datasets/owner/name@{COMMIT}/{text}")
    except UsageError:
        return
    assert HubFile.parse(f"{found}" + (f"#sha256={found.sha256}" if found.sha256 else "")) == found

"""`mlctl generate` as a process: what it writes, from which model, and how it ends."""

import json
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from conftest import COMMAND, HEAVY, Lab, finished, kill
from language_labs import LANGUAGE
from terminals import on_terminal

ENDLESS = "generate language.yaml --step export --threads 1 --tokens 1000000"
GREEDY = "generate language.yaml --temperature 0 --threads 1"


def document(lab: Lab, line: str) -> Any:
    return lab.json(f"generate language.yaml --threads 1 {line}")["generation"]


def test_every_form_of_the_model_goes_on_alike(language_labs: Lab) -> None:
    texts = {}
    for step in ("train", "export", "quantize", "quantize.fixed"):
        result = language_labs(f"{GREEDY} --step {step} --prompt 'the ' --tokens 40")
        assert result.code == 0, result.err
        texts[step] = result.out
    assert texts["train"] == texts["export"]
    assert all(len(text) == 41 and text.endswith("\n") for text in texts.values())
    assert language_labs(f"{GREEDY} --prompt 'the ' --tokens 40").out == texts["quantize.fixed"]


def test_what_it_says_beside_the_text(language_labs: Lab) -> None:
    said = language_labs(f"{GREEDY} --step export --tokens 5").err
    assert said.startswith("5 tokens in ")
    assert said.endswith(" tokens/s\n")
    lines = language_labs(f"{GREEDY} --step quantize.fixed --tokens 5").err.splitlines()
    assert lines[0].strip() == "this model reads its window again for every token"
    assert language_labs(f"{GREEDY} --step quantize.fixed --tokens 5 --quiet").err == ""


def test_one_document(language_labs: Lab) -> None:
    result = language_labs("generate language.yaml --step export --prompt cat --tokens 9 --seed 5 --top-k 3 --json")
    assert (result.code, result.err) == (0, "")
    verdict = json.loads(result.out)
    found = verdict["generation"]
    assert (verdict["command"], verdict["exit_code"], verdict["passed"]) == ("generate", 0, True)
    asked = {"model": "export", "prompt": "cat", "tokens": 9, "temperature": 0.8, "top_k": 3, "top_p": None, "seed": 5}
    assert {key: found[key] for key in asked} == asked
    assert len(found["text"]) == 9
    assert found["tokens_per_second"] == pytest.approx(9 / found["seconds"])
    assert found["seconds_per_token"] == pytest.approx(found["seconds"] / 9)


def test_the_seed_decides_the_text(language_labs: Lab) -> None:
    texts = [
        document(language_labs, f"--step export --tokens 40 {seed}")["text"] for seed in ("", "--seed 3", "--seed 4")
    ]
    assert texts[0] == texts[1]  # the recipe's seed is 3
    assert texts[1] != texts[2]


def test_text_goes_on_beyond_the_context(language_labs: Lab) -> None:
    assert len(document(language_labs, "--step export --tokens 100")["text"]) == 100


def test_generating_from_a_graph_needs_no_torch(language_labs: Lab) -> None:
    result = language_labs.watched(f"{GREEDY} --step export --tokens 3")
    assert result.code == 0, result.err
    assert result.modules & HEAVY == {"numpy", "onnxruntime", "tokenizers"}


def test_what_is_not_there_yet_is_made_first(language_lab: Lab) -> None:
    shutil.rmtree(language_lab.store)
    result = language_lab("generate language.yaml --step train --tokens 3 --threads 1")
    assert result.code == 0
    assert [line.split()[:2] for line in result.err.splitlines()[:4]] == [
        ["prepare", "run"], ["prepare", "done"], ["train", "run"], ["train", "done"],
    ]  # fmt: skip
    assert not (language_lab.store / "steps" / "language" / "export").exists()


def test_a_gate_that_fails_ends_it_before_a_word(language_lab: Lab) -> None:
    result = language_lab("generate language.yaml --step export export.tolerance=1e-30 --threads 1")
    assert result.code == 21
    assert "failed  export.decoder_parity <= 1e-30" in result.out


@pytest.mark.parametrize(
    ("line", "code", "message"),
    [
        ("--prompt 'zebra'", 2, "the vocabulary has no 'z', 'b'; the text that was learnt from lacks it"),
        ("--prompt '\u65e5'", 2, "the vocabulary has no '\\u65e5'"),
        ("--step prepare", 2, "prepare makes no model\n  next: name one of: train, export, quantize, quantize.fixed"),
        ("--step nowhere", 2, "the recipe has no step 'nowhere'"),
        ("--temperature -1", 2, "-1.0 is no temperature"),
        ("--temperature nan", 2, "nan is no temperature"),
        ("--top-p 0", 2, "0.0 is no probability"),
        ("--top-p 1.5", 2, "1.5 is no probability"),
        ("--top-k 0", 2, "Invalid value for '--top-k'"),
        ("--tokens 0", 2, "Invalid value for '--tokens'"),
        ("--seed -1", 2, "Invalid value for '--seed'"),
        ("--device nonsense", 2, "'nonsense' is not a device"),
    ],
)
def test_what_cannot_be_generated_is_refused(language_labs: Lab, line: str, code: int, message: str) -> None:
    result = language_labs(f"generate language.yaml --threads 1 {line}")
    assert (result.code, result.out) == (code, "")
    assert message in result.err


NO_UTF8 = {"PYTHONUTF8": "0", "LC_ALL": "C"}
"""A locale in which Python takes no argument for UTF-8."""


@pytest.mark.parametrize("environment", [{}, NO_UTF8], ids=["UTF-8", "C"])
@pytest.mark.parametrize("tokens", ["{kind: characters}", "{kind: bytes}", "{kind: bpe, vocabulary: 300}"])
@pytest.mark.parametrize("end", ["\udcff", "\udced\udca0\udc80"], ids=["no UTF-8", "a surrogate"])
def test_a_prompt_that_is_not_utf8_is_refused_before_anything_is_made(
    lab: Lab, tokens: str, environment: dict[str, str], end: str
) -> None:
    (lab.folder / "language.yaml").write_text(LANGUAGE)
    (lab.folder / "text.txt").write_text("a cat")
    result = lab(f"generate language.yaml 'prepare.tokens={tokens}' --prompt 'ab{end}'", **environment)
    assert (result.code, result.out) == (2, "")
    assert result.err.splitlines()[0] == "mlctl: the prompt is not UTF-8"
    assert not lab.store.exists()


@pytest.mark.parametrize("environment", [{}, NO_UTF8], ids=["UTF-8", "C"])
def test_a_prompt_is_utf8_in_every_locale(language_labs: Lab, environment: dict[str, str]) -> None:
    result = language_labs(f"{GREEDY} --step export --prompt 'café ' --tokens 3 --json", **environment)
    assert result.code == 0, result.err
    # Where the locale has no such letter, it is shown as a question mark.
    assert json.loads(result.out)["generation"]["prompt"] == ("caf? " if environment else "café ")


def test_only_language_models_generate(finished_labs: Lab) -> None:
    result = finished_labs("generate whole.yaml")
    assert result.code == 2
    assert "export is for image-classification; only models for language-modeling generate" in result.err


def test_damage_is_found_before_a_word(language_lab: Lab) -> None:
    path = language_lab.artifact("language", "export") / "decoder.onnx"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.chmod(0o644)
    path.write_bytes(content)
    result = language_lab("generate language.yaml --step export")
    assert (result.code, result.out) == (3, "")
    assert "decoder.onnx" in result.err


def test_an_empty_prompt_is_a_line_feed(language_labs: Lab) -> None:
    begun = document(language_labs, "--step export --tokens 20 --temperature 0")
    line_feed = document(language_labs, "--step export --tokens 20 --temperature 0 --prompt '\n'")
    assert begun["text"] == line_feed["text"]
    assert begun["prompt"] == ""


def test_bytes_come_as_whole_characters(language_lab: Lab) -> None:
    """Most tokens are a third of a character, and the last third of the last one never comes."""
    (language_lab.folder / "text.txt").write_text("日\n" * 700, encoding="utf-8")
    settings = "'prepare.tokens={kind: bytes}' train.epochs=8"
    line = f"generate language.yaml {settings} --step train --prompt 日 --tokens 7 --temperature 0 --threads 1"
    result = language_lab(line)
    assert (result.code, result.out) == (0, "\n日\n"), result.err


def test_a_character_that_was_not_learnt_is_unknown_where_there_is_such_a_token(language_lab: Lab) -> None:
    text = language_lab.folder / "text.txt"
    text.write_text(text.read_text(encoding="utf-8") + "zoo\n", encoding="utf-8")
    result = language_lab("generate language.yaml --step train --prompt zoo --tokens 300 --temperature 3 --threads 1")
    assert result.code == 0, result.err
    assert "warning: the vocabulary lacks 'z', which is read as an unknown character" in result.err
    assert "unknown" not in result.out
    assert "<" not in result.out


def endless(lab: Lab, **streams: Any) -> subprocess.Popen[bytes]:
    """The command with more tokens than it will ever come to, its output in small pieces."""
    return subprocess.Popen(
        [sys.executable, "-c", COMMAND, *shlex.split(ENDLESS)],
        cwd=lab.folder,
        env=dict(lab.environment()),
        stdin=subprocess.DEVNULL,
        start_new_session=True,
        **streams,
    )


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_text_and_nothing_else(language_labs: Lab, number: signal.Signals, code: int) -> None:
    with endless(language_labs, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout
        first = process.stdout.read(50)
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    assert process.returncode == code
    assert (first + out).endswith(b"\n")
    assert err.count(b"\n") == 1
    assert b" tokens/s" in err


def test_a_signal_to_a_document_ends_in_a_verdict(language_labs: Lab) -> None:
    process = language_labs.start(f"{ENDLESS} --json")
    try:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and not _has_loaded(process.pid):
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        result = finished(process)
    finally:
        kill(process)
    assert result.code == 130
    verdict = json.loads(result.out)
    assert (verdict["exit_code"], verdict["failures"][0]["kind"]) == (130, "Interrupted")
    assert len(verdict["generation"]["text"]) == verdict["generation"]["tokens"]


def _has_loaded(pid: int) -> bool:
    return "onnxruntime" in Path(f"/proc/{pid}/maps").read_text()


def test_whoever_reads_may_go(language_labs: Lab) -> None:
    with endless(language_labs, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stderr
        process.stdout.read(20)
        process.stdout.close()
        err = process.stderr.read()
        process.wait(timeout=60)
    assert (process.returncode, err) == (141, b"")


def test_a_terminal_is_given_no_control_characters(language_lab: Lab) -> None:
    (language_lab.folder / "text.txt").write_text("\x1b[31mred\x07\t\x9b" * 300, encoding="utf-8")
    line = "generate language.yaml --step train --tokens 60 --temperature 0 --threads 1 --quiet --prompt red"
    plain = language_lab(line)
    assert plain.code == 0, plain.err
    assert {"\x1b", "\x07", "\t", "\x9b"} <= set(plain.out)
    shown = on_terminal(language_lab, line)
    assert {"\\x1b", "\\x07", "\\x9b"} <= {shown[place : place + 4] for place in range(len(shown))}
    assert not {"\x1b", "\x07", "\x9b"} & set(shown)
    assert "\t" in shown

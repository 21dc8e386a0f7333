"""The commands that run no step, and the command line's manners."""

import json
import os
import subprocess
import sys

import pytest
from conftest import COMMAND, Lab

from mlctl import __version__


def test_version(lab: Lab) -> None:
    assert lab("--version").out == f"mlctl {__version__}\n"
    assert lab("--version --help").code == 0


def test_help_lists_every_command(lab: Lab) -> None:
    result = lab("--help")
    assert result.code == 0
    commands = [line.split()[0] for line in result.out.partition("Commands:")[2].splitlines() if line.strip()]
    assert commands == [
        "run", "prepare", "train", "prune", "distill", "export", "quantize", "eval", "serve",
        "plan", "show", "init", "schema", "verify", "gc", "doctor", "inspect", "bench", "compare", "generate",
        "publish", "models", "promote", "rollback", "token", "debug",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("trian tiny.yaml", "No such command 'trian'"),
        ("run", "Missing argument 'RECIPE'"),
        ("run tiny.yaml --fast", "No such option: --fast"),
        ("run tiny.yaml --threads 0", "Invalid value for '--threads'"),
        ("run nowhere.yaml", "nowhere.yaml: "),
        ("run .", ".: "),
        ("run tiny.yaml --until evaluate", "the recipe has no step 'evaluate'"),
        ("run tiny.yaml --force evaluate", "the recipe has no step 'evaluate'"),
        ("export tiny.yaml", "the recipe has no export step"),
        ("run tiny.yaml --until prepare --force train", "train is forced, and is no part of what is asked for"),
        ("plan tiny.yaml 'train.model={arch: cnn}'", "cnn takes no inputs of regression; choose linear or mlp"),
        ("run tiny.yaml --threads 1000000", "Invalid value for '--threads'"),
        ("verify nowhere.yaml", "there is no such recipe"),
        ("train tiny.yaml --device tpu", "'tpu' is not a device"),
        ("quantize tiny.yaml", "the recipe has no quantize step"),
        ("prune tiny.yaml", "the recipe has no prune step"),
        ("distill tiny.yaml", "the recipe has no distill step"),
        ("serve tiny.yaml", "there is nothing to serve: no step above makes an ONNX model"),
        ("serve", "there is nothing to serve"),
        ("serve tiny.yaml --repository models", "a model and a repository cannot both be served"),
        ("serve nowhere.onnx", "nowhere.onnx: there is no such model"),
        ("serve nowhere.onnx --name a/b", "'a/b' is no name for a model"),
        ("serve model.onnx --step export", "`--step` says how the steps of a recipe are made, and a file has none"),
        ("serve model.onnx --force export", "`--force` says how the steps of a recipe are made, and a file has none"),
        ("serve model.onnx --store elsewhere", "`--store` says how the steps of a recipe are made"),
        ("serve model.onnx --threads 2", "`--threads` says how the steps of a recipe are made"),
        ("serve --repository models --allow-code", "`--allow-code` says how the steps of a recipe are made, and a rep"),
        ("serve --repository models --name x", "`--name` calls the one model of a recipe or a file"),
        ("serve model.onnx --host ''", "the address to listen on is empty"),
        ("serve model.onnx serve.host=", "serve.host"),
        ("serve model.onnx --set serve.port=99999", "serve.port"),
        ("serve --repository models serve.prt=0", "did you mean 'port'"),
        ("serve --repository models serve.from=export", "`serve.from` names a step of a recipe"),
        ("serve model.onnx train.epochs=3", "there is no recipe, so that keys below serve alone can be set"),
        ("run tiny.yaml --set quantize.half={}", "no step above makes an ONNX model"),
        (
            "plan tiny.yaml export={} 'quantize={method: qat, label_smoothing: 0.1}'",
            "quantize.label_smoothing: it needs classes, and regression has none",
        ),
        ("run tiny.yaml serve={}", "serve: no step above makes an ONNX model"),
    ],
)
def test_what_cannot_be_is_refused_with_exit_2_and_a_next_step(lab: Lab, line: str, message: str) -> None:
    (lab.folder / "model.onnx").touch()
    result = lab(line)
    assert (result.code, result.out) == (2, "")
    assert message in result.err
    assert "  next: " in result.err
    assert "Traceback" not in result.err
    assert not (lab.store / "artifacts").exists() or not list((lab.store / "artifacts").iterdir())


def test_the_environment_says_how_many_threads_work(lab: Lab) -> None:
    assert lab("prepare tiny.yaml", OMP_NUM_THREADS="1").code == 0
    manifest = json.loads((lab.artifact("tiny", "prepare") / "manifest.json").read_text())
    assert manifest["made"]["threads"] == 1
    result = lab("prepare tiny.yaml", OMP_NUM_THREADS="two")
    assert (result.code, result.out) == (2, "")
    assert "the environment variable OMP_NUM_THREADS is 'two', where a number from 1 belongs" in result.err
    assert lab("prepare tiny.yaml --threads 1", OMP_NUM_THREADS="two").code == 0


def test_no_arguments_show_the_help(lab: Lab) -> None:
    result = lab("")
    assert result.code == 2
    assert "Usage: mlctl" in result.out


def test_a_recipe_with_a_stage_that_is_not_built_runs_down_to_it(lab: Lab) -> None:
    assert lab("run tiny.yaml export={} quantize={} --until train").code == 0


def test_show_says_where_artifacts_lie_and_what_they_measured(finished_lab: Lab) -> None:
    lines = finished_lab("show whole.yaml").out.splitlines()
    assert f"train: .mlctl/artifacts/{finished_lab.artifact('whole', 'train').name}" in lines
    assert any(line.startswith("  eval[export].accuracy = ") for line in lines)
    shown = finished_lab.json("show whole.yaml")
    assert [step["step"] for step in shown] == ["prepare", "train", "export", "eval"]
    assert shown[1]["manifest"]["made"]["threads"] == 1
    assert shown[1]["manifest"]["made"]["choices"]["device"] == "cpu"


def test_show_of_what_was_never_run(lab: Lab) -> None:
    assert lab("show tiny.yaml").out == "prepare: not made yet\ntrain: not made yet\n"


def test_the_resolved_recipe_is_the_same_recipe(finished_lab: Lab) -> None:
    text = finished_lab("show whole.yaml --resolved").out
    (finished_lab.folder / "resolved.yaml").write_text(text)
    plan = finished_lab("plan resolved.yaml").out
    assert [line.split()[1] for line in plan.splitlines()] == ["reuse"] * 4
    assert finished_lab.json("show whole.yaml --resolved")["train"]["model"]["channels"] == [4]


def test_schema_is_json(lab: Lab) -> None:
    assert json.loads(lab("schema").out)["title"] == "mlctl recipe"


def test_gc_keeps_what_recipes_need_and_removes_the_rest_only_when_told(finished_lab: Lab) -> None:
    kept = finished_lab.bytes_of()
    assert finished_lab("train tiny.yaml train.epochs=1 --quiet").code == 0
    listed = finished_lab("gc whole.yaml")
    assert listed.code == 0
    assert listed.out.splitlines()[-1].startswith("1 folder, ")
    assert listed.out.splitlines()[0].split()[:2] == ["would", "go"]
    assert len(finished_lab.bytes_of()) > len(kept)
    removed = finished_lab("gc whole.yaml --delete").out
    assert removed.splitlines()[0].split()[0] == "removed"
    assert finished_lab.bytes_of() == kept
    assert finished_lab("gc whole.yaml").out == "0 folders, 0 B\n"


def test_gc_forgets_recipes_that_are_gone(finished_lab: Lab) -> None:
    assert finished_lab("gc tiny.yaml").out == "0 folders, 0 B\n"
    (finished_lab.folder / "whole.yaml").unlink()
    assert finished_lab("gc tiny.yaml").out.splitlines()[-1].startswith("4 folders, ")


def test_gc_stops_when_a_recipe_that_uses_the_store_does_not_load(finished_lab: Lab) -> None:
    (finished_lab.folder / "whole.yaml").write_text("mlctl: 1\nname: whole\ntrian: {}\n")
    result = finished_lab("gc tiny.yaml --delete")
    assert result.code == 2
    assert "trian" in result.err
    assert len(list((finished_lab.store / "artifacts").iterdir())) == 6


def test_doctor_says_what_the_machine_has(lab: Lab) -> None:
    result = lab("doctor")
    assert result.code == 0
    names = [line.split()[0] for line in result.out.splitlines()]
    assert names == [
        "mlctl", "system", "processor", "cores", "instructions", "integers", "memory", "GPU", "libraries", "store",
    ]  # fmt: skip
    found = lab.json("doctor")
    assert found["machine"]["processor"]["logical_cores"] == len(os.sched_getaffinity(0))
    assert found["versions"]["torch"]


def test_a_fifo_is_no_data(lab: Lab) -> None:
    os.mkfifo(lab.folder / "pipe.csv")
    result = lab("plan tiny.yaml prepare.source=pipe.csv")
    assert result.code == 3
    assert "pipe.csv" in result.err


def test_a_store_that_is_reached_by_a_link_is_the_same_store(finished_lab: Lab) -> None:
    (finished_lab.folder / "link").symlink_to(finished_lab.store)
    assert finished_lab("run whole.yaml --store link --quiet").code == 0
    assert finished_lab("gc tiny.yaml --store link").out == "0 folders, 0 B\n"
    assert finished_lab(f"gc tiny.yaml --store {finished_lab.store.resolve()}").out == "0 folders, 0 B\n"


def test_doctor_finds_damage_in_the_store(finished_lab: Lab) -> None:
    (finished_lab.artifact("tiny", "train") / "model.safetensors").write_bytes(b"")
    assert "model.safetensors: train: the file has 0 bytes" in finished_lab("doctor").out


def test_init_writes_a_recipe_that_runs_and_a_schema_beside_it(lab: Lab) -> None:
    result = lab("init rows.csv --target y -o drawn.yaml")
    assert (result.code, result.out) == (0, "")
    assert (lab.folder / "drawn.yaml").read_text().startswith("# yaml-language-server: $schema=.mlctl/schema.json\n")
    assert json.loads((lab.store / "schema.json").read_text())["title"] == "mlctl recipe"
    assert lab("train drawn.yaml train.epochs=1").code == 0
    again = lab("init rows.csv -o drawn.yaml")
    assert again.code == 2
    assert "drawn.yaml: the file is already there" in again.err


def test_init_on_standard_output_writes_no_file(lab: Lab) -> None:
    before = sorted(lab.folder.iterdir())
    assert "task: image-classification" in lab("init images.csv --output -").out
    assert sorted(lab.folder.iterdir()) == before


def test_nothing_is_left_in_the_working_directory(lab: Lab) -> None:
    before = sorted(lab.folder.iterdir())
    elsewhere = lab.folder.parent / "store"
    assert lab(f"train tiny.yaml --store {elsewhere}").code == 0
    assert lab("plan tiny.yaml", MLCTL_STORE=str(elsewhere)).out == "prepare  reuse\ntrain    reuse\n"
    assert sorted(lab.folder.iterdir()) == before


def test_whoever_stops_reading_gets_no_traceback(finished_lab: Lab) -> None:
    command = f"{sys.executable} -c '{COMMAND}' schema | true"
    shell = ["/bin/bash", "-c", f"{command}; exit ${{PIPESTATUS[0]}}"]
    done = subprocess.run(
        shell, cwd=finished_lab.folder, env=finished_lab.environment(), capture_output=True, text=True
    )
    assert done.stderr == ""
    assert done.returncode in (0, 141)


def test_debug_shows_the_traceback_and_nothing_else_does(lab: Lab) -> None:
    assert "Traceback" in lab("run nowhere.yaml --debug").err
    assert "Traceback" not in lab("run nowhere.yaml").err

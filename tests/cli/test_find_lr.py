import json
import signal

import pytest
from conftest import TINY, Finished, Lab, finished
from PIL import Image

TWO = TINY + TINY[TINY.index("train:") :].replace("train:", "train.other:").replace("[4]", "[8]")


def find_lr(lab: Lab, line: str, **environment: str) -> Finished:
    return lab(f"train --find-lr --device cpu --threads 1 {line}", **environment)


def test_the_curve_and_the_suggestion_are_shown_and_no_model_is_made(lab: Lab) -> None:
    before = {path.name for path in lab.folder.iterdir()}
    result = find_lr(lab, "tiny.yaml", COLUMNS="80")
    assert result.code == 0, result.err
    assert "prepare  run" in result.err
    image = lab.store / "reports" / "tiny.train.find-lr.png"
    lines = result.out.splitlines()
    assert max(map(len, lines[:16])) <= 80
    assert "1e-7" in lines[15]
    assert lines[16].startswith("train: learning rate ")
    assert "(the recipe has 0.001 for adamw): the loss falls fastest there; the loss is least at " in lines[16]
    assert lines[17] == f"curve: {image.relative_to(lab.folder)}"
    assert all(line.isprintable() for line in lines)
    with Image.open(image) as opened:
        assert opened.size == (960, 540)
    assert {path.name for path in lab.folder.iterdir()} == {*before, ".mlctl"}
    assert [path.name for path in (lab.store / "steps" / "tiny").iterdir()] == ["prepare"]

    # And once more, as JSON and into a file of one's own: the very same.
    result = find_lr(lab, "tiny.yaml --json --output here.png")
    assert "prepare  reuse" in result.err
    assert (lab.folder / "here.png").read_bytes() == image.read_bytes()
    verdict = json.loads(result.out)
    (curve,) = verdict["curves"]
    assert len(curve["rates"]) == len(curve["losses"]) == len(curve["smoothed"]) > 50
    assert curve["rates"][0] == 1e-7
    assert curve["image"] == "here.png"
    assert f"train: learning rate {curve['suggestion']:.2g} (" in lines[16]
    (step,) = verdict["steps"]
    (figure,) = step["figures"]
    assert (figure["figure"], figure["value"]) == ("suggested_lr", curve["suggestion"])
    assert (verdict["command"], verdict["exit_code"], verdict["passed"]) == ("train", 0, True)


def test_every_train_step_has_a_curve_of_its_own(lab: Lab) -> None:
    (lab.folder / "two.yaml").write_text(TWO)
    verdict = json.loads(find_lr(lab, "two.yaml --json").out)
    assert [curve["step"] for curve in verdict["curves"]] == ["train", "train.other"]
    assert sorted(path.name for path in (lab.store / "reports").iterdir()) == [
        "tiny.train.find-lr.png",
        "tiny.train.other.find-lr.png",
    ]


@pytest.mark.parametrize(
    ("recipe", "arguments", "environment", "message"),
    [
        (TWO, "--output here.png", {}, "a curve for each of its train steps: train, train.other"),
        (TINY, "--output .", {}, "no file can be written there"),
        (TINY, "--output missing/here.png", {}, "no file can be written there"),
        (TINY[: TINY.index("train:")], "", {}, "the recipe has no train step"),
        (TINY.replace("arch: mlp, hidden: [4]", "arch: nets:Net"), "", {}, "allow it to run with `--allow-code`"),
        (TINY, "", {"WORLD_SIZE": "2", "RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}, "one process"),
    ],
    ids=["two steps", "folder", "no folder", "no train", "code", "processes"],
)
def test_what_cannot_be_is_refused_before_anything_runs(
    lab: Lab, recipe: str, arguments: str, environment: dict[str, str], message: str
) -> None:
    (lab.folder / "bad.yaml").write_text(recipe)
    result = find_lr(lab, f"bad.yaml {arguments}", **environment)
    assert result.code == 2, result.err
    assert message in result.err
    assert not (lab.store / "artifacts").exists()


def test_data_that_cannot_be_prepared_is_the_only_thing_told(lab: Lab) -> None:
    (lab.folder / "rows.csv").write_text("a,b,y\n1,x,3\n")
    result = find_lr(lab, "tiny.yaml")
    assert result.code == 3
    assert not result.out
    assert not (lab.store / "reports").exists()


def test_ctrl_c_ends_it_without_an_image(lab: Lab) -> None:
    wide = "--set train.model.hidden=[2500,2500,2500]"
    with lab.start(f"train --find-lr --threads 1 tiny.yaml {wide}") as process:
        assert process.stderr
        for line in process.stderr:
            if line.startswith("train") and "find" in line:
                break
        process.send_signal(signal.SIGINT)
        result = finished(process)
    assert result.code == 130
    assert not list(lab.store.glob("reports/*"))


def test_a_folder_that_is_none_is_no_bug(lab: Lab) -> None:
    lab.store.mkdir()
    (lab.store / "reports").write_text("no folder")
    result = find_lr(lab, "tiny.yaml")
    assert result.code == 5, result.err
    assert "tiny.train.find-lr.png: train: the curve cannot be written" in result.err
    assert not result.out

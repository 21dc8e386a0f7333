"""teach through the real engine: what a teacher answers is kept once, whole, and the same again."""

import json

import numpy as np
import pytest
import torch
from conftest import Lab
from schools import NAME, School, figures, outcome, softmax

from mlctl.data.description import Scaling
from mlctl.data.prepared import PreparedData
from mlctl.training.trained import stored_model


def test_a_networks_answers_to_the_train_split_are_kept_in_its_order(finished_lab: Lab) -> None:
    school = School(finished_lab)
    verdict = school.ask("train")
    assert verdict.failures == ()
    assert outcome(verdict) == "ran"
    assert {path.name for path in school.folder.iterdir()} == {"answers.json", "logits.npy", "manifest.json"}
    (logits,) = school.answers.arrays
    assert isinstance(logits, np.memmap)
    (images,) = school.data.split("train").inputs
    _, model = stored_model(finished_lab.artifact("whole", "train"), None)
    with torch.inference_mode():
        expected = model(torch.from_numpy(images.copy())).numpy()
    # The largest logit is 0 and exact; those within 16 of it err by half a float16 step, 2^-8, and so do shares.
    np.testing.assert_allclose(softmax(logits), expected, atol=2**-8)
    assert (logits.max(axis=1) == 0).all()
    assert json.loads((school.folder / "answers.json").read_text())["arrays"] == {
        "logits": {"dtype": "float16", "shape": [len(images), 2]}
    }
    found = figures(verdict)
    assert found["train_rows"].value == len(images)
    assert 0 <= found["validation_accuracy"].value <= 1


def test_on_the_second_try_the_teacher_is_not_run(finished_lab: Lab) -> None:
    school = School(finished_lab)
    school.ask("train")
    before = {path.name: path.read_bytes() for path in school.folder.iterdir()}
    assert outcome(school.ask("train")) == "reused"
    # Only answers about tokens depend on how many of them are kept.
    assert outcome(school.ask("train", top_k=3)) == "reused"
    assert outcome(school.ask("train", forced=[NAME])) == "ran"
    assert (school.folder / "logits.npy").read_bytes() == before["logits.npy"]
    assert (school.folder / "answers.json").read_bytes() == before["answers.json"]


def test_a_regressions_teacher_answers_in_the_unit_that_its_target_is_scaled_to(finished_lab: Lab) -> None:
    school = School(finished_lab, "tiny")
    verdict = school.ask("train")
    assert verdict.failures == ()
    (numbers,) = school.answers.arrays
    _, model = stored_model(finished_lab.artifact("tiny", "train"), None)
    (features,) = school.data.split("train").inputs
    with torch.inference_mode():
        expected = model.raw_outputs(torch.from_numpy(features.copy())).numpy()
    assert numbers.dtype == np.float32
    # The same arithmetic in batches of another size.
    np.testing.assert_allclose(numbers, expected, rtol=1e-5, atol=1e-6)


def test_a_teacher_whose_target_was_scaled_otherwise_answers_in_the_students_unit(finished_lab: Lab) -> None:
    text = (finished_lab.folder / "tiny.yaml").read_text()
    plain = text.partition("train:")[0].partition("prepare:")[2] + "  standardize_target: false\n"
    (finished_lab.folder / "tiny.yaml").write_text(f"{text}prepare.plain:{plain}")
    assert finished_lab("run tiny.yaml --threads 1").code == 0
    school = School(finished_lab, "tiny")
    verdict = school.ask("train")
    assert verdict.failures == ()
    data = PreparedData.open(finished_lab.artifact("tiny", "prepare.plain"))
    assert data.description.target_scaling == Scaling()
    _, model = stored_model(finished_lab.artifact("tiny", "train"), None)
    with torch.inference_mode():
        expected = model(torch.from_numpy(data.split("train").inputs[0].copy())).numpy()
    # Float32 through another order of the same products and sums.
    np.testing.assert_allclose(school.answers.arrays[0][:, 0], expected, rtol=1e-4, atol=1e-5)
    assert figures(verdict)["validation_rmse"].value < 2 * np.std(data.split("validation").targets)


@pytest.mark.parametrize("top_k", [5, 64])
def test_of_a_language_models_answers_the_likeliest_tokens_and_the_true_one_are_kept(
    language_lab: Lab, top_k: int
) -> None:
    school = School(language_lab, "language")
    assert school.ask("train", top_k=top_k).failures == ()
    (windows,), targets = school.data.split("train").inputs, school.data.split("train").targets
    _, model = stored_model(language_lab.artifact("language", "train"), None)
    with torch.inference_mode():
        expected = softmax(model(torch.from_numpy(windows.astype(np.int64))).numpy())
    if top_k > expected.shape[-1]:
        (logits,) = school.answers.arrays
        np.testing.assert_allclose(softmax(logits), expected, atol=2**-8)
        return
    values, indices, others = school.answers.arrays
    assert (values.shape, values.dtype.name) == ((*windows.shape, top_k), "float16")
    assert (indices.shape, indices.dtype.name) == ((*windows.shape, top_k), "uint16")
    kept = np.take_along_axis(expected, indices.astype(np.int64), axis=-1)
    shares = softmax(np.concatenate((values, others), axis=-1))
    np.testing.assert_allclose(shares[..., :-1], kept, atol=2**-8)
    np.testing.assert_allclose(shares[..., -1], 1 - kept.sum(axis=-1), atol=2**-8)
    assert (indices == targets[..., None]).any(axis=-1).all()
    likeliest = np.sort(expected, axis=-1)[..., ::-1][..., : top_k - 1]
    np.testing.assert_allclose(kept[..., : top_k - 1], likeliest, atol=1e-6)

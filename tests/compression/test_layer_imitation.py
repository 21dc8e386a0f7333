"""Layers that a student imitates: which are found, what their distance is, and what learns with the student."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mlctl.compression.distillation.answer_forms import AnswerForm
from mlctl.compression.distillation.distillation import AnswerLoss
from mlctl.compression.distillation.layer_imitation import AttentionDistance, Distance, FeatureDistance, LayersImitated
from mlctl.compression.distillation.layer_outputs import LayerShape, Watch, layer_shapes
from mlctl.compression.distillation.layer_pairs import LayerPair, found_pairs, named_pairs
from mlctl.compression.distillation.starting import start_from
from mlctl.compression.distillation.teacher import NetworkTeacher
from mlctl.errors import StepFailed
from mlctl.events import silent
from mlctl.models.complete import CompleteModel, InputScaling
from mlctl.models.table import build
from mlctl.recipe.networks import (
    CnnSettings,
    LstmSettings,
    MlpSettings,
    NetworkSettings,
    ResNetSettings,
    TransformerSettings,
    VitSettings,
)
from mlctl.recipe.optimization import AdamWSettings
from mlctl.recipe.train import FitSettings
from mlctl.tasks.cross_entropy import CrossEntropy
from mlctl.training.batches import Samples
from mlctl.training.loop import fit
from mlctl.training.precision import Choice

torch.set_num_threads(1)  # these networks are too small to be shared
CPU = torch.device("cpu")
FLOAT32 = Choice("float32", "")
IMAGES = ((1, 8, 8),)
SMALL, LARGE = CnnSettings(channels=(3, 4)), CnnSettings(channels=(5, 6))
IMAGE = torch.arange(128, dtype=torch.float32).reshape(2, 1, 8, 8) / 128
TOKENS = torch.arange(12).reshape(2, 6)


def model_of(settings: NetworkSettings, shape: tuple[int, ...] = (1, 8, 8), seed: int = 0) -> CompleteModel:
    torch.manual_seed(seed)
    scaling = None if settings.arch in ("transformer", "lstm", "gru") else InputScaling()
    outputs = 12 if scaling is None else 3
    return CompleteModel(build(settings, (shape,), outputs), (scaling,), nn.Identity())


def pairs_of(student: CompleteModel, teacher: CompleteModel, example: Tensor = IMAGE) -> list[tuple[str, str]]:
    found = found_pairs(layer_shapes(student, (example,)), layer_shapes(teacher, (example,)))
    return [(pair.student.name, pair.teacher.name) for pair in found]


@pytest.mark.parametrize(
    ("student", "teacher", "expected"),
    [
        # Both blocks of either give 4x4 pixels.
        (SMALL, LARGE, [("blocks.1", "blocks.1")]),
        (SMALL, CnnSettings(channels=(5, 6, 7, 8)), [("blocks.1", "blocks.0")]),
        (
            ResNetSettings(depth=8, width=4),
            ResNetSettings(depth=14, width=6),
            [("blocks.0", "blocks.1"), ("blocks.1", "blocks.3"), ("blocks.2", "blocks.5")],
        ),
        (MlpSettings(hidden=(4,)), MlpSettings(hidden=(9, 8)), [("hidden.0", "hidden.1")]),
        (
            VitSettings(patch=4, width=8, layers=1, heads=2),
            VitSettings(patch=4, width=12, layers=3, heads=2),
            [("blocks.0", "blocks.2")],
        ),
    ],
)
def test_the_last_blocks_of_every_common_size_are_paired(
    student: NetworkSettings, teacher: NetworkSettings, expected: list[tuple[str, str]]
) -> None:
    assert pairs_of(model_of(student), model_of(teacher)) == expected


def test_a_layer_is_watched_before_an_activation_works_in_place_with_its_gradients() -> None:
    torch.manual_seed(2)
    layer = nn.Linear(4, 5)
    network = nn.Sequential(layer, nn.ReLU(inplace=True))
    rows = torch.randn(3, 4)
    with Watch(network, ["0"]) as watch:
        network(rows)
        watched = watch.outputs["0"]
    expected = layer(rows)
    assert expected.min() < 0
    assert torch.equal(watched, expected)
    mine, wanted = (torch.autograd.grad(each.square().sum(), layer.weight)[0] for each in (watched, expected))
    assert torch.equal(mine, wanted)


def test_layers_over_tokens_are_paired() -> None:
    student = model_of(TransformerSettings(width=8, layers=1, heads=2), (6,))
    teacher = model_of(TransformerSettings(width=12, layers=3, heads=2), (6,))
    assert pairs_of(student, teacher, TOKENS) == [("blocks.0", "blocks.2")]
    recurrent = model_of(LstmSettings(embedding=4, hidden=5, layers=1), (6,))
    assert pairs_of(recurrent, teacher, TOKENS) == [("dropout", "blocks.2")]


def test_images_without_a_common_size_are_paired_at_their_ends_and_averaged() -> None:
    student, teacher = model_of(CnnSettings(channels=(3,))), model_of(CnnSettings(channels=(5, 6)))
    found = found_pairs(
        [each for each in layer_shapes(student, (IMAGE,)) if each.name == "blocks.0"],
        [each for each in layer_shapes(teacher, (IMAGE,)) if each.name == "blocks.1"],
    )
    (pair,) = found
    assert (pair.student.shape, pair.teacher.shape) == ((3, 8, 8), (6, 4, 4))
    student_features, teacher_features = torch.randn(2, 3, 8, 8), torch.randn(2, 6, 4, 4)
    distance = FeatureDistance(pair)
    averaged = student_features.reshape(2, 3, 4, 2, 4, 2).mean((3, 5))
    expected = (distance.projection(averaged) - teacher_features).square().mean()
    torch.testing.assert_close(distance(student_features, teacher_features), expected)


def test_what_does_not_fit_is_refused_with_all_that_there_is() -> None:
    student = model_of(MlpSettings(hidden=(4,)))
    teacher = model_of(VitSettings(patch=4, width=8, layers=1, heads=2))
    with pytest.raises(StepFailed) as refusal:
        found_pairs(
            [each for each in layer_shapes(student, (IMAGE,)) if each.name == "hidden.0"],
            [each for each in layer_shapes(teacher, (IMAGE,)) if each.name == "blocks.0"],
        )
    assert refusal.value.what == (
        "no layers of student and teacher fit each other; the student has hidden.0 [4], the teacher blocks.0 [4, 8]"
    )
    shapes = layer_shapes(student, (IMAGE,)), layer_shapes(teacher, (IMAGE,))
    with pytest.raises(StepFailed, match=r"the teacher has no layer 'blocks.7' .* it has .*blocks.0 \[4, 8\]"):
        named_pairs({"hidden.0": "blocks.7"}, *shapes)
    with pytest.raises(StepFailed, match="the student has no layer 'block'"):
        named_pairs({"block": "blocks.0"}, *shapes)
    with pytest.raises(StepFailed, match=r"hidden.0 \[4\] cannot imitate blocks.0 \[4, 8\]"):
        named_pairs({"hidden.0": "blocks.0"}, *shapes)


def test_vectors_have_no_places_to_look_at() -> None:
    pair = LayerPair(LayerShape("hidden.0", (4,), True), LayerShape("hidden.0", (8,), True))
    with pytest.raises(StepFailed, match="without places that could be looked at"):
        AttentionDistance(pair)


@pytest.mark.parametrize("shape", [(3, 4, 5), (6, 7)])
def test_attention_is_where_squares_are_large_whatever_their_number_and_size(shape: tuple[int, ...]) -> None:
    wider = (shape[0] + 2, *shape[1:]) if len(shape) == 3 else (*shape[:-1], shape[-1] + 2)
    pair = LayerPair(LayerShape("a", shape, True), LayerShape("b", wider, True))
    student, teacher = torch.randn(3, *shape), torch.randn(3, *wider)
    axis = 1 if len(shape) == 3 else 2
    maps = [(each.double().numpy() ** 2).mean(axis).reshape(3, -1) for each in (student, teacher)]
    unit = [each / np.linalg.norm(each, axis=1, keepdims=True) for each in maps]
    expected = ((unit[0] - unit[1]) ** 2).sum(1).mean()
    distance = AttentionDistance(pair)
    # Float32 sums of some dozen numbers.
    np.testing.assert_allclose(distance(student, teacher).item(), expected, rtol=1e-5)
    assert distance(student, 5 * student).item() < 1e-12
    assert list(distance.parameters()) == []


def imitation(student: CompleteModel, teacher: CompleteModel, distance: Distance) -> LayersImitated:
    shapes = layer_shapes(student, (IMAGE,)), layer_shapes(teacher, (IMAGE,))
    pairs = named_pairs({"blocks.0": "blocks.0", "blocks.1": "blocks.1"}, *shapes)
    answer_loss = AnswerLoss(AnswerForm("logits", (3,)), 4.0)
    return LayersImitated(
        student,
        NetworkTeacher(teacher, CPU, FLOAT32),
        pairs,
        distance,
        answer_loss=answer_loss,
        hard=0.5,
        layer_weight=2.0,
        seed=4,
    )


def projections_of(student: CompleteModel) -> nn.Module:
    return student.network.get_submodule("projections")


def images(count: int) -> Samples:
    generator = np.random.default_rng(6)
    pixels = generator.normal(size=(count, 1, 8, 8)).astype(np.float32)
    return Samples((pixels,), generator.integers(0, 3, count))


def taught(student: CompleteModel, teaching: Any, folder: Path, **changes: Any) -> None:
    settings = FitSettings(
        epochs=12, batch_size=8, optimizer=AdamWSettings(lr=1e-2), precision="float32", keep_best=None, **changes
    )
    fit(
        student, images(24), images(8), CrossEntropy(), settings,
        seed=1, device=CPU, resume=folder, tell=silent, teaching=teaching,
    )  # fmt: skip


def test_the_whole_is_answers_and_layers_each_with_its_weight() -> None:
    student, teacher = model_of(SMALL).eval(), model_of(LARGE, seed=1)
    with imitation(student, teacher, FeatureDistance) as teaching:
        outputs = student.raw_outputs(IMAGE)
        found = teaching.loss(outputs, torch.tensor([0, 1]), (IMAGE,), ())
        distances = projections_of(student)
    answers = AnswerLoss(AnswerForm("logits", (3,)), 4.0)(outputs, torch.tensor([0, 1]), (teacher.raw_outputs(IMAGE),))
    layers = []
    hidden, shown = IMAGE, IMAGE
    blocks = (model.network.get_submodule("blocks").children() for model in (student, teacher))
    for mine, theirs, distance in zip(*blocks, distances.children(), strict=True):
        hidden, shown = mine(hidden), theirs(shown)
        layers.append((distance.get_submodule("projection")(hidden) - shown).square().mean())
    torch.testing.assert_close(found, 0.5 * answers + 2.0 * torch.stack(layers).mean())


@pytest.mark.parametrize("distance", [FeatureDistance, AttentionDistance])
def test_layers_come_nearer_and_the_plain_student_is_left(tmp_path: Path, distance: Distance) -> None:
    student, teacher = model_of(SMALL), model_of(LARGE, seed=1)
    plain, before = student.network, {name: each.clone() for name, each in teacher.network.state_dict().items()}
    with imitation(student, teacher, distance) as teaching:
        projections = [each.detach().clone() for each in projections_of(student).parameters()]
        assert bool(projections) == (distance is FeatureDistance)
        first = _distance(student, teaching)
        taught(student, teaching, tmp_path)
        assert _distance(student, teaching) < first
        moved = zip(projections, projections_of(student).parameters(), strict=True)
        assert all(not torch.equal(old, new) for old, new in moved)
    assert student.network is plain
    assert not any("projection" in name for name in plain.state_dict())
    assert not any(module._forward_hooks for module in (*plain.modules(), *teacher.modules()))
    for name, each in teacher.network.state_dict().items():
        assert torch.equal(each, before[name]), name


def _distance(student: CompleteModel, teaching: LayersImitated) -> float:
    (pixels,) = images(24).inputs
    inputs = (torch.from_numpy(pixels),)
    with torch.no_grad():
        outputs = student.eval().raw_outputs(*inputs)
        return teaching.loss(outputs, torch.zeros(24, dtype=torch.int64), inputs, ()).item()


@pytest.mark.parametrize("micro_batch", [None, 4])
def test_projections_are_drawn_from_the_seed_and_learn_to_the_same_bytes(
    tmp_path: Path, micro_batch: int | None
) -> None:
    ends = []
    for attempt in ("one", "two"):
        student = model_of(SMALL)
        (tmp_path / attempt).mkdir()
        torch.manual_seed(len(attempt))
        with imitation(student, model_of(LARGE, seed=1), FeatureDistance) as teaching:
            taught(student, teaching, tmp_path / attempt, micro_batch=micro_batch)
            ends.append({name: each.clone() for name, each in student.network.state_dict().items()})
    assert ends[0].keys() == ends[1].keys()
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])


def test_a_students_layers_start_from_the_teachers_where_name_and_shape_are_the_same() -> None:
    student, teacher = model_of(CnnSettings(channels=(5, 4))).network, model_of(LARGE, seed=1).network
    before = {name: each.clone() for name, each in student.state_dict().items()}
    copied = start_from(student, teacher)
    theirs = teacher.state_dict()
    assert set(copied) == {name for name in before if before[name].shape == theirs[name].shape}
    assert "blocks.0.conv.weight" in copied
    assert "blocks.1.conv.weight" not in copied
    for name, each in student.state_dict().items():
        assert torch.equal(each, theirs[name] if name in copied else before[name]), name
    assert start_from(nn.Linear(2, 3), nn.Conv2d(1, 1, 1)) == ()

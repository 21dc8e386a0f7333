"""What takes part in a training that has a teacher."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from mlctl.compression.distillation.answer_files import Answers
from mlctl.compression.distillation.answer_forms import AnswerForm
from mlctl.compression.distillation.distillation import AnswerLoss, AnswersAsked, AnswersKept
from mlctl.compression.distillation.layer_imitation import AttentionDistance, FeatureDistance, LayersImitated
from mlctl.compression.distillation.layer_outputs import layer_shapes
from mlctl.compression.distillation.layer_pairs import LayerPair, found_pairs, named_pairs
from mlctl.compression.distillation.starting import start_from
from mlctl.compression.distillation.teacher import NetworkTeacher, Teacher
from mlctl.errors import StepFailed
from mlctl.models.complete import CompleteModel
from mlctl.models.files import ModelConfig
from mlctl.recipe.distill import DistillSettings
from mlctl.stages.learning import Beside
from mlctl.stages.lesson_plan import imitates_layers
from mlctl.stages.peers import joined
from mlctl.stages.same_teacher import require_same_teacher
from mlctl.stages.teacher_source import TeacherSource
from mlctl.stages.teachers import Classroom, network_of, open_teacher
from mlctl.training.precision import choose_precision
from mlctl.training.trained import example_of


@contextmanager
def lessons(
    settings: DistillSettings,
    source: TeacherSource,
    answers: Path | None,
    trained: tuple[ModelConfig, CompleteModel],
    classroom: Classroom,
    *,
    seed: int,
) -> Iterator[Beside]:
    """What `taught` is given beside the student and its data; within the block alone.

    `answers` is the folder of the teacher's answers, None where it is asked in every step. Within the block the
    student's network may hold more than itself; after it, it is the plain student again. Raises what opening a teacher
    raises, MachineError where another one is served than when the training began, and StepFailed where answers or
    layers do not fit the student.
    """
    config, model = trained
    if answers is not None:
        kept = Answers.open(answers)
        _require_same_outputs(kept.description.form, config)
        yield Beside(AnswersKept(settings.hard, _answer_loss(settings, kept.description.form)), kept.arrays)
        return
    _, device = joined(classroom.work)
    # The teacher answers in every step, so it computes as fast as its student does.
    teacher = open_teacher(source, classroom, device, choose_precision(settings.precision, device))
    if source.url:
        require_same_teacher(source.url, teacher, classroom.work)
    answer_loss = _answer_loss(settings, _whole(config))
    if not imitates_layers(settings):
        yield Beside(AnswersAsked(settings.hard, answer_loss, teacher))
        return
    assert isinstance(teacher, NetworkTeacher)
    with LayersImitated(
        model,
        teacher,
        _pairs(settings, trained, teacher, classroom),
        FeatureDistance if settings.loss == "features" else AttentionDistance,
        answer_loss=answer_loss,
        hard=settings.hard,
        layer_weight=settings.layer_weight,
        seed=seed,
    ) as teaching:
        yield Beside(teaching)


def initialized(source: TeacherSource, model: CompleteModel, classroom: Classroom) -> tuple[str, ...]:
    """Start the student's layers from the teacher's where name and shape are the same; the names of what was copied."""
    assert source.step is not None
    _, teacher = network_of(source.step, classroom)
    copied = start_from(model.network, teacher.network)
    if not copied:
        raise StepFailed(
            f"no layer of the student has name and shape of one of {source.step.name}",
            next="take `initialize` out, or choose a student of the teacher's kind",
        )
    count = len(model.network.state_dict())
    classroom.work.choices["initialized"] = f"{len(copied)} of {count} arrays from {source.step.name}"
    return copied


def _answer_loss(settings: DistillSettings, form: AnswerForm) -> AnswerLoss:
    others = settings.others_weight if settings.loss == "decoupled" else None
    return AnswerLoss(form, settings.temperature, others)


def _whole(config: ModelConfig) -> AnswerForm:
    """Answers of which nothing is left out."""
    is_text = config.inputs[0].holds_tokens
    row = (*config.inputs[0].shape, config.outputs) if is_text else (config.outputs,)
    return AnswerForm("logits" if config.labels or is_text else "numbers", row)


def _require_same_outputs(form: AnswerForm, config: ModelConfig) -> None:
    if form.row[-1] != config.outputs:
        raise StepFailed(
            f"the teacher gives {form.row[-1]} numbers where the student gives {config.outputs}",
            next="let both learn from the same `prepare`",
        )


def _pairs(
    settings: DistillSettings,
    trained: tuple[ModelConfig, CompleteModel],
    teacher: Teacher,
    classroom: Classroom,
) -> Sequence[LayerPair]:
    config, model = trained
    assert isinstance(teacher, NetworkTeacher)
    example = example_of(classroom.data.split("train").inputs, config)
    mine = layer_shapes(model, tuple(each.to(next(model.network.parameters()).device) for each in example))
    theirs = layer_shapes(teacher.model, tuple(each.to(teacher.device) for each in example))
    pairs = named_pairs(settings.layers, mine, theirs) if settings.layers else found_pairs(mine, theirs)
    classroom.work.choices["layers"] = "; ".join(map(str, pairs))
    return pairs

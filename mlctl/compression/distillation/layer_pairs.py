"""Which layer of a student imitates which of its teacher."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mlctl.compression.distillation.layer_outputs import LayerShape
from mlctl.errors import StepFailed

NEXT = "name the layers in `distill.layers`, the student's first: {blocks.1: blocks.3}"


@dataclass(frozen=True)
class LayerPair:
    """A layer of the student and the one that it imitates."""

    student: LayerShape
    teacher: LayerShape

    def __str__(self) -> str:
        return f"{self.student} like {self.teacher}"


def named_pairs(
    named: Mapping[str, str], student: Sequence[LayerShape], teacher: Sequence[LayerShape]
) -> tuple[LayerPair, ...]:
    """The pairs that a recipe names, the student's layer first.

    Raises StepFailed, listing what there is, for a layer that is not there or gives no array per sample, and for a
    pair of which one gives an image and the other gives tokens.
    """
    pairs = tuple(
        LayerPair(_layer(mine, student, "student"), _layer(theirs, teacher, "teacher"))
        for mine, theirs in named.items()
    )
    for pair in pairs:
        _require_alike(pair)
    return pairs


def found_pairs(student: Sequence[LayerShape], teacher: Sequence[LayerShape]) -> tuple[LayerPair, ...]:
    """For every number of places (height and width, or tokens) that both networks have, the last block of each.

    Where a network has no blocks in a list, all its layers count. Where no number of places is the same, the last
    blocks of both are paired if both give images. Raises StepFailed, listing what there is, where nothing fits.
    """
    mine, theirs = _last_by_places(student), _last_by_places(teacher)
    pairs = [LayerPair(mine[places], theirs[places]) for places in mine if places in theirs]
    if not pairs:
        last = [list(each.values())[-1:] for each in (mine, theirs)]
        pairs = [LayerPair(*pair) for pair in zip(*last, strict=False) if all(len(each.shape) == 3 for each in pair)]
    if not pairs:
        raise StepFailed(
            f"no layers of student and teacher fit each other; the student has {_listed(student)}, "
            f"the teacher {_listed(teacher)}",
            next=NEXT,
        )
    return tuple(pairs)


def _last_by_places(layers: Sequence[LayerShape]) -> dict[tuple[int, ...], LayerShape]:
    blocks = [each for each in layers if each.is_repeated] or layers
    return {each.places: each for each in blocks}


def _layer(name: str, layers: Sequence[LayerShape], whose: str) -> LayerShape:
    for each in layers:
        if each.name == name:
            return each
    raise StepFailed(
        f"the {whose} has no layer {name!r} that gives one array per sample; it has {_listed(layers)}", next=NEXT
    )


def _require_alike(pair: LayerPair) -> None:
    student, teacher = pair.student, pair.teacher
    is_image = len(student.shape) == 3
    if len(student.shape) != len(teacher.shape) or not (is_image or student.places == teacher.places):
        raise StepFailed(f"{student} cannot imitate {teacher}: the one's places are not the other's", next=NEXT)


def _listed(layers: Sequence[LayerShape]) -> str:
    return ", ".join(map(str, layers)) or "none"

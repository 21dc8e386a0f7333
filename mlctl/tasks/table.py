"""The one table of tasks."""

from typing import Any, Final

from mlctl.tasks.embedding import Embedding
from mlctl.tasks.image_classification import ImageClassification
from mlctl.tasks.language_modeling import LanguageModeling
from mlctl.tasks.regression import Regression
from mlctl.tasks.task import Task

TASKS: Final[dict[str, Task[Any]]] = {
    task.name: task for task in (ImageClassification(), Regression(), Embedding(), LanguageModeling())
}

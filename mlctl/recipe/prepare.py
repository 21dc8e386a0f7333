"""What a recipe can say about data, task by task."""

from typing import Annotated, Any, Literal, Self, TypeAlias

from pydantic import Discriminator, Field, Tag, model_validator

from mlctl.recipe.base import Count, Flag, Names, Positive, PositiveFraction, Settings

SPLITS = ("train", "validation", "test")


class SplitByShare(Settings):
    """Rows are dealt out at random, by the recipe's seed."""

    train: PositiveFraction = 0.8
    """Share of rows to learn from."""

    validation: PositiveFraction = 0.1
    """Share of rows that steer training and compression."""

    test: PositiveFraction = 0.1
    """Share of rows that only measure."""

    stratify: Flag = False
    """Give every class the same shares (classification only)."""

    @model_validator(mode="after")
    def _adds_up(self) -> Self:
        total = self.train + self.validation + self.test
        if abs(total - 1) > 1e-9:
            raise ValueError(f"train, validation and test add up to {total:g}, not to 1")
        return self


class SplitByColumn(Settings):
    """A column of the data says for every row `train`, `validation` or `test`."""

    column: str
    """The column's name."""


class SplitFiles(Settings):
    """The files of every split."""

    train: Names
    """Files to learn from."""

    validation: Names | None = None
    """Files that steer training and compression; without them a share of the train files is taken."""

    test: Names
    """Files that only measure."""


class SplitByFiles(Settings):
    """Every split has its own files, so `source` is left out."""

    files: SplitFiles
    """What `source` can be, for each split."""

    validation: PositiveFraction = 0.1
    """Share of the train files' rows that becomes the validation split when no files are given for it."""

    stratify: Flag = False
    """Take that share from every class alike (classification only)."""


def _kind_of_split(value: Any) -> str:
    keys = value if isinstance(value, dict) else getattr(type(value), "model_fields", ())
    return "column" if "column" in keys else "files" if "files" in keys else "share"


SplitSettings: TypeAlias = Annotated[
    Annotated[SplitByShare, Tag("share")]
    | Annotated[SplitByColumn, Tag("column")]
    | Annotated[SplitByFiles, Tag("files")],
    Discriminator(_kind_of_split),
]


class DataSettings(Settings):
    """What every task's data has."""

    task: str
    """What the model is for."""

    source: Names | None = None
    """A path, a glob, a folder of class folders, an archive or some of its files (`a.zip!*.csv`), beside the recipe;
    `https://host/file#sha256=…`, `hf://datasets/owner/name@commit/file`; or a list of these."""

    split: SplitSettings = SplitByShare()
    """Which rows are learnt from, steer, and measure."""

    @model_validator(mode="after")
    def _has_one_origin(self) -> Self:
        by_files = isinstance(self.split, SplitByFiles)
        if by_files and self.source is not None:
            raise ValueError("source and split.files both name files; keep one of them")
        if not by_files and not self.source:
            raise ValueError("source is missing: which file, glob or folder holds the data?")
        return self


class RowData(DataSettings):
    """What every task's data has that consists of rows."""

    on_bad: Literal["fail", "skip"] = "fail"
    """What a row does that cannot be used: fail the step, or be set aside, named and counted."""

    duplicates: Literal["keep", "drop"] = "keep"
    """`drop` keeps the first of rows that are equal in every input and in the target."""


class ImageSettings(Settings):
    """How pixels are found and read."""

    columns: Names | None = None
    """The columns that hold the pixels, as names or globs, row by row of the image; files of images need none."""

    shape: tuple[Count, Count, Count]
    """Channels, height and width; image files are converted and resized to it, IDX and CIFAR files have it."""

    scale: Positive = 255.0
    """The pixel value that becomes 1; the exported graph divides by it."""

    standardize: Flag = False
    """Also subtract the mean and divide by the deviation of each channel of the train split, in the graph."""


class ImageClassificationData(RowData):
    """Images, each of one class."""

    task: Literal["image-classification"]
    """One label out of several for every image."""

    image: ImageSettings
    """The input."""

    label: str | None = None
    """The column that holds the class; class folders, IDX and CIFAR files need none. Of CIFAR-100's two labels `fine`
    is taken, unless this is `coarse`."""


class FeatureSettings(Settings):
    """Numeric columns."""

    columns: Names
    """The columns, as names or globs, in the order of the model's input."""

    standardize: Flag = True
    """Subtract the mean and divide by the deviation of the train split, in the exported graph."""


class RegressionData(RowData):
    """Rows of numbers, each with a number to predict."""

    task: Literal["regression"]
    """One number for every row."""

    features: FeatureSettings
    """The input."""

    target: str
    """The column to predict."""

    standardize_target: Flag = True
    """Learn the target in deviations from its mean; the graph turns answers back into the target's own unit."""

    @model_validator(mode="after")
    def _has_no_classes(self) -> Self:
        if getattr(self.split, "stratify", False):
            raise ValueError("split.stratify needs classes; a regression has none")
        return self


class EmbeddingData(RowData):
    """Arrays for models that were trained elsewhere; there is nothing to learn from.

    A source is an `.npz` file, or several that hold the same arrays: every array (uint8, float32 or int64, the first
    dimension the rows) is the model's input of that name.
    """

    task: Literal["embedding"]
    """An array for every row, judged by its cosine to the answer of the first model that is evaluated."""

    split: SplitByShare = SplitByShare()
    """Which rows calibrate, steer, and measure."""

    @model_validator(mode="after")
    def _has_no_classes(self) -> Self:
        if self.split.stratify:
            raise ValueError("split.stratify needs classes; an embedding has none")
        return self


class CharacterTokens(Settings):
    """Every character of the train split is a token."""

    kind: Literal["characters"] = "characters"
    """One token for each character; where other splits have ones that the train split lacks, these are the token
    `<unknown>`."""


class ByteTokens(Settings):
    """Every byte of the text's UTF-8 is a token."""

    kind: Literal["bytes"]
    """256 tokens, for any text."""


class PairTokens(Settings):
    """Byte-pair encoding (Sennrich et al. 2016), learnt from the train split."""

    kind: Literal["bpe"]
    """Frequent sequences of bytes become one token."""

    vocabulary: Annotated[int, Field(ge=257, le=1_000_000)] = 8192
    """Tokens in all, the 256 bytes included; a train split of more than 32 MiB is learnt from in parts, spread evenly,
    and one with too few frequent pairs gives fewer."""


TokenSettings: TypeAlias = Annotated[CharacterTokens | ByteTokens | PairTokens, Field(discriminator="kind")]
"""The one table of tokens."""


class LanguageModelingData(DataSettings):
    """Text, whose next token is to be predicted.

    A source is any number of plain text files in UTF-8, read one after the other: as they are, but for a byte order
    mark, and with a line feed between two files where the first one does not end its last line.
    """

    task: Literal["language-modeling"]
    """The next token of a text, at every place."""

    tokens: TokenSettings = CharacterTokens()
    """What text is cut into."""

    context: Annotated[int, Field(ge=2, le=65_536)] = 256
    """Tokens of one sample."""

    split: Annotated[
        Annotated[SplitByShare, Tag("share")] | Annotated[SplitByFiles, Tag("files")], Discriminator(_kind_of_split)
    ] = SplitByShare()
    """Which parts of the text are learnt from, steer, and measure: contiguous ones, in this order, or files."""

    @model_validator(mode="after")
    def _has_no_classes(self) -> Self:
        if self.split.stratify:
            raise ValueError("split.stratify needs classes; a text has none")
        return self


PrepareSettings: TypeAlias = Annotated[
    ImageClassificationData | RegressionData | EmbeddingData | LanguageModelingData, Field(discriminator="task")
]
"""The one table of tasks that a recipe can name; `mlctl.tasks.table` holds what each does."""

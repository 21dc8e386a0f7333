"""From text files to streams of tokens per split, in memory of a few blocks."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from mlctl.data.description import DataDescription, Field, Scaling
from mlctl.data.opening import opened_origins
from mlctl.data.pacing import paced
from mlctl.data.statistics import FILE_NAME as STATISTICS_FILE
from mlctl.data.text_splitting import split_text, too_short
from mlctl.data.text_staging import Span, StagedText, stage_text
from mlctl.data.token_files import CHARACTERS_FILE, STREAM_FILE, TOKENIZER_FILE, StreamWriter, narrowest, window_count
from mlctl.data.token_learning import learn
from mlctl.data.tokens import Tokens
from mlctl.errors import DataError
from mlctl.events import Tell
from mlctl.recipe.prepare import LanguageModelingData
from mlctl.units import plural


@dataclass(frozen=True)
class PartStatistics:
    """One split's text: bytes of UTF-8, characters, tokens, and windows of the recipe's `context`."""

    bytes: int
    characters: int
    tokens: int
    rows: int


def prepare_text(settings: LanguageModelingData, base: Path, into: Path, tell: Tell) -> DataDescription:
    """Read the text and write its tokens into the folder `into`.

    For every split `tokens.npy` [tokens] uint8, uint16 or uint32, the narrowest that holds the vocabulary; beside them
    `tokenizer.json`, `token_characters.npy`, `data.json` and `statistics.json`. The bytes depend on the settings and
    the files, not on the core count.

    `base` is the folder of the recipe. Raises DataError for text that is not UTF-8, with file, line and byte, for one
    in which nothing is to be predicted, and for a split without a single window, and what `opened_origins` raises.
    """
    with TemporaryDirectory(prefix="staging-", dir=into) as folder:
        text = _staged(settings, base, Path(folder), tell)
        spans = split_text(settings.split, text, settings.context)
        tokens = learn(settings.tokens, text, spans, tell)
        counts = _write_streams(text, spans, tokens, into, tell)
        statistics = {
            name: PartStatistics(
                len(span), text.characters(span), counts[name], window_count(counts[name], settings.context)
            )
            for name, span in spans.items()
        }
    for name, part in statistics.items():
        if not part.rows:
            raise too_short(name, plural(part.tokens, "token"), settings.context)
    _save(into / TOKENIZER_FILE, tokens.to_json())
    by_split = {name: asdict(each) for name, each in statistics.items()}
    _save(into / STATISTICS_FILE, json.dumps({"splits": by_split}, indent=2))
    np.save(into / CHARACTERS_FILE, tokens.characters(), allow_pickle=False)
    description = _described(settings, tokens.vocabulary, statistics)
    description.save(into)
    return description


def _staged(settings: LanguageModelingData, base: Path, folder: Path, tell: Tell) -> StagedText:
    """All of the text in one file."""
    sources = folder / "sources"
    sources.mkdir()
    origins = opened_origins(settings, base, sources, tell)
    total = sum(origin.path.stat().st_size for origin in origins)
    text = stage_text(origins, folder / "text", paced(tell, "read", total))
    if not text.spans:
        raise DataError("there is not a single character in it", where=origins[0].name, next="give a text")
    return text


def _write_streams(
    text: StagedText, spans: Mapping[str, Span], tokens: Tokens, into: Path, tell: Tell
) -> dict[str, int]:
    """Write every split's tokens; how many they are."""
    tell_position = paced(tell, "tokens", sum(map(len, spans.values())))
    counts, done = {}, 0
    for name, span in spans.items():
        (into / name).mkdir()
        with StreamWriter(into / name / STREAM_FILE, narrowest(tokens.vocabulary)) as stream:
            for part in tokens.encoded(_told(text.blocks(span), done, tell_position)):
                stream.append(part)
        counts[name] = stream.count
        done += len(span)
    return counts


def _told(blocks: Iterable[bytes], done: int, tell_position: Callable[[int], None]) -> Iterator[bytes]:
    """The blocks, while it is told how many bytes are taken; `done` were before."""
    for block in blocks:
        yield block
        done += len(block)
        tell_position(done)


def _described(
    settings: LanguageModelingData, vocabulary: int, statistics: Mapping[str, PartStatistics]
) -> DataDescription:
    dtype, window = narrowest(vocabulary), (settings.context,)
    return DataDescription(
        task=settings.task,
        inputs=(Field("tokens", dtype, window),),
        input_scaling=(Scaling(),),
        target=Field("next", dtype, window),
        target_scaling=Scaling(),
        labels=(),
        rows={name: each.rows for name, each in statistics.items()},
        vocabulary=vocabulary,
        tokens={name: each.tokens for name, each in statistics.items()},
    )


def _save(path: Path, text: str) -> None:
    path.write_text(text + "\n", encoding="utf-8")

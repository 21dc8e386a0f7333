"""A language model goes on with a text: its reader, its vocabulary, and the text as it comes."""

from collections.abc import Iterator
from itertools import islice

from mlctl.data.description import DataDescription
from mlctl.data.token_text import TextStream, TokenText, listed
from mlctl.engine.manifest import Manifest
from mlctl.engine.store import Artifact
from mlctl.events import Note, Tell, Warned
from mlctl.runtime.generation import DECODER_NAME, GraphReader, Reader, WindowReader, generated
from mlctl.runtime.sampling import Sampler, Sampling
from mlctl.runtime.session import OnnxSession
from mlctl.stages.artifacts import Data, Model, OnnxModel
from mlctl.stages.generation_plan import GenerationSettings, Place

READS_AGAIN = "this model reads its window again for every token"


class Generating:
    """Everything that is opened once; then text comes in pieces."""

    def __init__(self, model: Model, data: Data, settings: GenerationSettings, place: Place, tell: Tell) -> None:
        """Raises ArtifactDamaged where a file is not what was written, UsageError for a prompt that the vocabulary
        cannot spell, and what a model raises that cannot be run.
        """
        for folder in (model.folder, data.folder):
            Artifact(folder, Manifest.load(folder)).verify()
        self._settings = settings
        self._text = TokenText.open(data.folder)
        self._prompt = self._text.tokens(settings.prompt) or [self._text.opening]
        if lacking := self._text.lacking(settings.prompt):
            tell(Warned(f"the vocabulary lacks {listed(lacking)}, which is read as an unknown character"))
        capacity = DataDescription.load(data.folder).inputs[0].shape[0]
        if isinstance(model, OnnxModel):
            self._reader = _graph_reader(model, capacity, place, tell)
        else:
            self._reader = _network_reader(model, capacity, place, tell)

    def pieces(self) -> Iterator[str]:
        """The text that each new token completes: whole characters, and often none where tokens are bytes."""
        settings, stream = self._settings, TextStream(self._text)
        never = () if self._text.unknown is None else (self._text.unknown,)
        sampler = Sampler(Sampling(settings.temperature, settings.top_k, settings.top_p), settings.seed, never)
        for token in islice(generated(self._reader, self._prompt, sampler), settings.tokens):
            yield stream.after(token)


def _graph_reader(model: OnnxModel, capacity: int, place: Place, tell: Tell) -> Reader:
    device = "cpu" if place.device == "auto" else place.device
    decoder = model.folder / DECODER_NAME
    if decoder.exists():
        return GraphReader(OnnxSession(decoder, threads=place.threads, device=device), capacity)
    tell(Note(READS_AGAIN))
    return WindowReader(OnnxSession(model.graph, threads=place.threads, device=device), capacity)


def _network_reader(model: Model, capacity: int, place: Place, tell: Tell) -> Reader:
    # torch takes seconds to load, which an exported model need not wait for.
    from mlctl.models.network_reader import NetworkReader
    from mlctl.models.stateful import Stateful
    from mlctl.training.devices import resolve_device
    from mlctl.training.trained import as_callable, stored_model, use_threads

    use_threads(place.threads)
    device = resolve_device(place.device)
    network = stored_model(model.folder, place.code)[1].network.to(device)
    if isinstance(network, Stateful):
        return NetworkReader(network, capacity)
    tell(Note(READS_AGAIN))
    return WindowReader(as_callable(network, device), capacity)

"""The model card, as people and model hubs read it."""

from dataclasses import replace

import yaml

from mlctl.data.description import DataDescription, Field, Scaling
from mlctl.engine.figures import Figure, Kind
from mlctl.models.complete import InputScaling
from mlctl.models.files import ModelConfig, ModelInput
from mlctl.recipe.networks import CnnSettings, CustomSettings, LstmSettings, NetworkSettings
from mlctl.stages.card import model_card

DATA = DataDescription(
    task="image-classification",
    inputs=(Field("image", "uint8", (1, 8, 8)),),
    input_scaling=(Scaling(16.0),),
    target=Field("label", "int64", ()),
    target_scaling=Scaling(),
    labels=("cat", "Größe"),
    rows={"train": 1258, "validation": 269, "test": 270},
)


def card(network: NetworkSettings) -> str:
    """The card of a small model."""
    config = ModelConfig(
        task=DATA.task,
        network=network,
        inputs=(ModelInput("image", "uint8", (1, 8, 8)),),
        outputs=2,
        input_scaling=(InputScaling(16.0),),
        target_scaling=InputScaling(),
        labels=DATA.labels,
    )
    return model_card(config, DATA, [Figure("validation_accuracy", Kind.METRIC, 0.98765432)])


def test_hubs_find_the_library_the_task_and_the_architecture() -> None:
    for network, arch in ((CnnSettings(), "cnn"), (CustomSettings(arch="nets.mine:Net"), "nets.mine:Net")):
        front = yaml.safe_load(card(network).split("---\n")[1])
        assert front == {"library_name": "mlctl", "tags": [arch], "pipeline_tag": "image-classification"}


def test_people_find_figures_rows_inputs_and_labels() -> None:
    text = card(CnnSettings(channels=(4, 8)))
    assert "# cnn for image-classification" in text
    assert "| validation_accuracy | 0.987654 |" in text
    assert "1,258 train, 269 validation, 270 test" in text
    assert "input `image`: uint8 [1, 8, 8]" in text
    assert "labels cat, Größe" in text
    assert '"channels": [\n    4,\n    8\n  ]' in text


def test_a_language_model_counts_tokens_and_names_its_tokenizer() -> None:
    data = replace(
        DATA,
        task="language-modeling",
        inputs=(Field("tokens", "uint8", (16,)),),
        labels=(),
        vocabulary=27,
        tokens={"train": 9_000_000, "validation": 500_000, "test": 500_001},
    )
    config = ModelConfig(
        task=data.task,
        network=LstmSettings(arch="lstm"),
        inputs=(ModelInput("tokens", "int64", (16,)),),
        outputs=27,
        input_scaling=(InputScaling(),),
        target_scaling=InputScaling(),
        labels=(),
    )
    text = model_card(config, data, [])
    assert yaml.safe_load(text.split("---\n")[1])["pipeline_tag"] == "text-generation"
    assert "Trained on 9,000,000 train, 500,000 validation, 500,001 test tokens." in text
    assert "input `tokens`: int64 [16], tokens of `tokenizer.json`" in text

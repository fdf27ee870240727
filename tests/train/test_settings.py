import json
from pathlib import Path
from typing import Any

import pytest

from batchnorm.train.settings import GanSettings, LeNetSettings, ResNetSettings, Settings
from tests.train.small import gan_settings, resnet_settings, settings


@pytest.mark.parametrize(
    "asked, kind",
    [
        (settings(Path("data"), image_size=32), LeNetSettings),
        (resnet_settings(Path(), block="basic", augment=False), ResNetSettings),
        (gan_settings(Path(), normalization="ghost:8"), GanSettings),
    ],
)
def test_settings_survive_json(asked: Settings, kind: type[Settings]) -> None:
    assert type(asked) is kind
    assert Settings.from_json(json.loads(json.dumps(asked.to_json()))) == asked


@pytest.mark.parametrize(
    "changes", [{"epochs": "3"}, {"epochs": None}, {"unknown": 1}, {"learning_rate": "fast"}]
)
def test_values_of_a_wrong_kind_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(changes))):
        Settings.from_json({**settings(Path("data")).to_json(), **changes})


def test_a_missing_setting_is_refused() -> None:
    values = settings(Path("data")).to_json()
    del values["seed"]
    with pytest.raises(ValueError, match="expected the settings"):
        Settings.from_json(values)
    with pytest.raises(ValueError, match="expected the settings"):
        Settings.from_json(None)


def test_a_gan_from_before_there_was_a_choice_had_ours() -> None:
    asked = gan_settings(Path())
    values = asked.to_json()
    assert values.pop("normalization") == "ours"
    assert Settings.from_json(values) == asked
    # What had no default then is still missed.
    for other in (settings(Path()), resnet_settings(Path())):
        values = other.to_json()
        del values["normalization"]
        with pytest.raises(ValueError, match="expected the settings"):
            Settings.from_json(values)


def test_the_model_decides_which_settings_there_are() -> None:
    with pytest.raises(ValueError, match="expected the settings .*samples_every"):
        Settings.from_json({**settings(Path("data")).to_json(), "model": "gan"})
    with pytest.raises(ValueError, match="expected the settings of lenet, resnet, gan"):
        Settings.from_json({**settings(Path("data")).to_json(), "model": "vgg"})


def test_of_another_model_nothing_else_is_compared() -> None:
    given = {"model": "gan", "steps": 5, "seed": 8}
    assert settings(Path("data")).differences(given) == ["model: this run's is lenet, received gan"]
    assert gan_settings(Path("data")).differences(given) == [
        "steps: this run's is 6, received 5",
        "seed: this run's is 7, received 8",
    ]


def test_differences_name_the_setting_and_both_values() -> None:
    asked = settings(Path("data"))
    assert asked.differences({"epochs": 3, "seed": 7}) == []
    assert asked.differences({"epochs": 4}) == ["epochs: this run's is 3, received 4"]

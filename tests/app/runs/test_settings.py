import json
from pathlib import Path
from typing import Any

import pytest

from batchnorm_app.runs.limits import SettingError
from batchnorm_app.runs.settings import GanSettings, LeNetSettings, ResNetSettings, Settings
from tests.app.small import gan_settings, resnet_settings, settings

pytestmark = pytest.mark.no_backend


@pytest.mark.parametrize(
    "expected, kind",
    [
        (settings(Path("data"), image_size=32), LeNetSettings),
        (resnet_settings(Path(), block="basic", augment=False), ResNetSettings),
        (gan_settings(Path(), normalization="ghost:8"), GanSettings),
    ],
)
def test_settings_survive_json(expected: Settings, kind: type[Settings]) -> None:
    assert type(expected) is kind
    assert Settings.from_json(json.loads(json.dumps(expected.to_json()))) == expected


@pytest.mark.parametrize(
    "changes", [{"epochs": "3"}, {"epochs": None}, {"unknown": 1}, {"learning_rate": "fast"}]
)
def test_values_of_a_wrong_kind_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(changes))):
        Settings.from_json({**settings(Path("data")).to_json(), **changes})


@pytest.mark.parametrize(
    "name, value, reason",
    [
        ("epochs", True, "epochs is true: expected an integer from 1 to 1,000,000."),
        ("learning_rate", 0, "learning_rate is 0: expected a number above 0, up to 1e+30."),
        (
            "optimizer",
            "sgdx",
            "optimizer is \"sgdx\": 'sgdx' is unknown; .* mean 'sgd'? Allowed: adam, .*",
        ),
        ("schedule", "drop:3", 'schedule is "drop:3": expected constant, .* before the last, 3.'),
        ("data_dir", 3, "data_dir is 3: expected text of 1 to 4,096 characters."),
        ("normalization", "gost", "normalization is \"gost\": 'gost' is unknown; .* 'ghost'?"),
    ],
)
def test_a_refusal_names_value_and_range(name: str, value: Any, reason: str) -> None:
    pattern = reason.replace("?", ".").replace("+", "[+]")
    with pytest.raises(SettingError, match=f"^{pattern}$"):
        Settings.from_json({**settings(Path("data")).to_json(), name: value})


@pytest.mark.parametrize(
    "name, value, reason",
    [
        ("augment", 1, "augment is 1: expected true or false."),
        ("momentum", 1, "momentum is 1: expected a number from 0 to below 1."),
        ("depth", 1203, "depth is 1203: expected an integer from 1 to 1,202."),
        ("block", "basik", "'basik' is unknown; did you mean 'basic'. Allowed: basic, bottleneck."),
    ],
)
def test_refusals_of_a_resnet(name: str, value: Any, reason: str) -> None:
    with pytest.raises(SettingError, match=reason):
        Settings.from_json({**resnet_settings(Path("data")).to_json(), name: value})


@pytest.mark.parametrize(
    "changes, reason",
    [
        ({"schedule": "drop:1"}, 'schedule is "drop:1": expected one of constant, cosine.'),
        (
            {"conditioning": "klass"},
            'conditioning is "klass": .* is unknown; .* Allowed: class, none.',
        ),
        ({"average": 1.5}, "average is 1.5: expected a number from 0 to below 1."),
        ({"samples_every": 0}, "samples_every is 0: expected an integer from 1 to 10,000,000."),
        ({"samples_every": -1}, "samples_every is -1: expected an integer from 1 to 10,000,000."),
        ({"width": 10**8}, "width is 100000000: expected an integer from 1 to 512."),
        ({"latent_size": 10**10}, "latent_size is 10000000000: expected an integer from .*"),
        ({"discriminator_steps": 10**8}, "discriminator_steps is 100000000: expected an .* 32."),
        ({"normalization": "none"}, 'normalization is "none": it cannot depend on the class.*'),
    ],
)
def test_refusals_of_a_gan(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(SettingError, match=f"^{reason}$"):
        Settings.from_json({**gan_settings(Path("data")).to_json(), **changes})


def test_the_ends_of_the_ranges_are_allowed() -> None:
    for seed in (0, 2**32 - 1):
        assert settings(Path("data"), seed=seed, epochs=1_000_000).seed == seed
    expected = gan_settings(Path("data"), conditioning="none", normalization="none", average=0)
    assert expected.average == 0.0
    assert type(expected.average) is float


def test_a_missing_setting_is_refused() -> None:
    values = settings(Path("data")).to_json()
    del values["seed"]
    with pytest.raises(ValueError, match="expected the settings"):
        Settings.from_json(values)
    with pytest.raises(ValueError, match="expected the settings"):
        Settings.from_json(None)


def test_a_gan_from_before_there_was_a_choice_had_ours() -> None:
    expected = gan_settings(Path())
    values = expected.to_json()
    assert values.pop("normalization") == "ours"
    assert Settings.from_json(values) == expected
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
    values = {"model": "gan", "steps": 5, "seed": 8}
    assert settings(Path("data")).differences(values) == [
        "model: this run's is lenet, received gan"
    ]
    assert gan_settings(Path("data")).differences(values) == [
        "steps: this run's is 6, received 5",
        "seed: this run's is 7, received 8",
    ]


def test_differences_name_the_setting_and_both_values() -> None:
    expected = settings(Path("data"))
    assert expected.differences({"epochs": 3, "seed": 7}) == []
    assert expected.differences({"epochs": 4}) == ["epochs: this run's is 3, received 4"]

import json
from pathlib import Path
from typing import Any

import pytest

from batchnorm.train.settings import Settings
from tests.train.small import settings


def test_settings_survive_json() -> None:
    asked = settings(Path("data"), image_size=32)
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


def test_differences_name_the_setting_and_both_values() -> None:
    asked = settings(Path("data"))
    assert asked.differences({"epochs": 3, "seed": 7}) == []
    assert asked.differences({"epochs": 4}) == ["epochs: this run's is 3, received 4"]

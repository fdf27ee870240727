"""`batchnorm evaluate`."""

from pathlib import Path
from typing import Any

import pytest

from batchnorm.train.gan import evaluate as scoring
from batchnorm.train.gan.evaluate import Asked
from batchnorm.train.run import Run
from tests.cli.calling import call, error, interrupt


def test_commands_for_the_wrong_run(finished: Path, untrained: Run, tmp_path: Path) -> None:
    for command in ("sample", "evaluate"):
        text = error(call(command, finished))
        assert f"{finished} is a run of lenet, which generates nothing" in text
        assert "is not a run" in error(call(command, tmp_path / "nowhere"))
    assert "is a run of gan, which looks at no image" in error(call("features", untrained.folder))


def test_the_options_of_an_evaluation(untrained: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(
        scoring, "evaluate", lambda run, asks, console: asked.append((run.folder, asks))
    )
    given = "--count 5 --train-count 128 --judge a.keras --features b.keras --judge-epochs 3"
    for more in ("", f"{given} --seed 4"):
        result = call("evaluate", untrained.folder, *more.split())
        assert result.exit_code == 0, result.output
    assert asked == [
        (untrained.folder, Asked()),
        (
            untrained.folder,
            Asked(
                count=5,
                train_count=128,
                judge=Path("a.keras"),
                features=Path("b.keras"),
                judge_epochs=3,
                seed=4,
            ),
        ),
    ]


def test_evaluations_that_fail_are_told_in_words(
    untrained: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bad.keras").write_bytes(b"garbage")
    for option in ("--judge", "--features"):
        assert "bad.keras is damaged" in error(
            call("evaluate", untrained.folder, option, "bad.keras")
        )
        text = error(call("evaluate", untrained.folder, option, "none.keras"))
        assert "none.keras does not exist" in text
    monkeypatch.setattr(scoring, "train_judge", interrupt)
    assert error(call("evaluate", untrained.folder), code=130).endswith("Interrupted.")

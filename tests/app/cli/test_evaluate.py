"""`batchnorm evaluate`."""

from pathlib import Path
from typing import Any

import pytest

from batchnorm_app.evaluate import generator as scoring
from batchnorm_app.evaluate.generator import EvaluationRequest
from batchnorm_app.runs.run import Run
from tests.app.cli.calling import call, error, interrupt

pytestmark = pytest.mark.slow_on_jax


def test_commands_for_the_wrong_run(finished: Path, untrained: Run, tmp_path: Path) -> None:
    for command in ("sample", "evaluate"):
        text = error(call(command, finished))
        assert f"{finished} is a run of lenet, which generates nothing" in text
        assert "is not a run" in error(call(command, tmp_path / "nowhere"))
    assert "is a run of gan, which has no classifier" in error(call("features", untrained.folder))


def test_the_options_of_an_evaluation(untrained: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    requests: list[Any] = []
    monkeypatch.setattr(
        scoring,
        "evaluate_generator",
        lambda run, request, console: requests.append((run.folder, request)),
    )
    options = "--count 5 --train-count 128 --judge a.keras --features b.keras --judge-epochs 3"
    for line in ("", f"{options} --seed 4"):
        result = call("evaluate", untrained.folder, *line.split())
        assert result.exit_code == 0, result.output
    assert requests == [
        (untrained.folder, EvaluationRequest()),
        (
            untrained.folder,
            EvaluationRequest(
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

"""The commands that draw pictures of a run."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from batchnorm_app.runs.run import Run
from tests.app.cli.calling import call, error, hide

pytestmark = pytest.mark.slow_on_jax


def test_a_picture_of_samples(untrained: Run, tmp_path: Path) -> None:
    picture = tmp_path / "a.png"
    result = call("sample", untrained.folder, "--mix", "0:3", "--count", 2, "--output", picture)
    assert result.exit_code == 0, result.output
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert f"Drawn: {picture}" in result.stdout


def test_samples_of_classes_and_of_mixtures(
    untrained: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[Any] = []

    def keep(run: Run, *arguments: Any) -> Path:
        calls.append((run.folder, *arguments))
        return Path("drawn.png")

    monkeypatch.setattr("batchnorm_app.train.gan.sample.sample", keep)
    monkeypatch.setattr("batchnorm_app.train.gan.sample.mix", keep)
    for more in ("", "--classes 0,3,Bag --count 4 --seed 5 --output a.pdf", "--mix 0:Bag"):
        result = call("sample", untrained.folder, *more.split())
        assert result.exit_code == 0, result.output
        assert result.stdout == "Drawn: drawn.png\n"
    assert calls == [
        (untrained.folder, None, 10, 0, None),
        (untrained.folder, ["0", "3", "Bag"], 4, 5, Path("a.pdf")),
        (untrained.folder, ["0", "Bag"], 10, 0, None),
    ]


@pytest.mark.parametrize(
    "options, code, words",
    [
        ("--mix 0:3 --classes 0", 2, "--mix and --classes exclude each other"),
        (
            "--classes 0,bog",
            1,
            "'bog' is not a class; did you mean 'Bag'? Allowed: 0 T-shirt/top, 1",
        ),
        ("--mix 3", 1, "a mixture needs two classes, such as 0:3"),
        ("--mix 0:3:4", 1, "a mixture needs two classes, such as 0:3"),
        ("--mix 0:3 --count 1", 1, "at least 2 images in a row; received 1"),
        ("--output a.txt", 1, "a.txt is not a picture's name"),
        ("--output nowhere/a.png", 1, "nowhere/a.png cannot be written"),
    ],
)
def test_samples_that_cannot_be_drawn(untrained: Run, options: str, code: int, words: str) -> None:
    assert words in error(call("sample", untrained.folder, *options.split()), code)


def test_features_of_an_image(finished: Path, tmp_path: Path) -> None:
    picture = tmp_path / "maps.png"
    result = call("features", finished, "--image", 3, "--output", picture)
    assert result.exit_code == 0, result.output
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert str(picture) in result.stdout


def test_features_leave_the_picture_of_the_training(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished, folder := tmp_path / "run")
    before = (folder / "feature_maps.png").read_bytes()
    assert f"Drawn: {folder / 'features.png'}" in call("features", folder, "--image", 3).stdout
    assert (folder / "feature_maps.png").read_bytes() == before
    assert (folder / "features.png").read_bytes() != before


def test_features_in_a_format_that_is_none(finished: Path, tmp_path: Path) -> None:
    for name in ("map", "map.foo"):
        text = error(call("features", finished, "--output", tmp_path / name))
        assert f"{name} is not a picture's name: it must end in .png, .pdf" in text


def test_features_of_an_image_that_is_not_there(finished: Path) -> None:
    assert "0 to 49" in error(call("features", finished, "--image", 50))


@pytest.mark.parametrize("content", [None, b"", b"garbage"])
def test_features_of_a_run_without_its_model(
    finished: Path, tmp_path: Path, content: bytes | None
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    (folder / "model.keras").unlink()
    if content is not None:
        (folder / "model.keras").write_bytes(content)
    text = error(call("features", folder))
    assert ("does not exist" if content is None else "is damaged") in text


def test_features_of_what_is_no_run(tmp_path: Path) -> None:
    assert "is not a run" in error(call("features", tmp_path))
    assert "is not a run" in error(call("features", tmp_path / "nowhere"))


def test_statistics_of_a_run(finished: Path, tmp_path: Path) -> None:
    picture = tmp_path / "kept.pdf"
    result = call("statistics", finished, "--output", picture)
    assert result.exit_code == 0, result.output
    assert picture.read_bytes().startswith(b"%PDF")
    assert f"Drawn: {picture}" in result.stdout
    image = (finished / "statistics.png").read_bytes()
    assert f"Drawn: {finished / 'statistics.png'}" in call("statistics", finished).stdout
    assert (finished / "statistics.png").read_bytes() == image


def test_statistics_that_cannot_be_drawn(finished: Path, untrained: Run, tmp_path: Path) -> None:
    assert "is not a run" in error(call("statistics", tmp_path / "nowhere"))
    text = error(call("statistics", untrained.folder))
    assert "is a run of gan, which keeps no statistics of each epoch" in text
    for name in ("kept", "kept.txt"):
        text = error(call("statistics", finished, "--output", tmp_path / name))
        assert f"{name} is not a picture's name: it must end in .png, .pdf" in text
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    (folder / "statistics" / "00002.npz").write_bytes(b"garbage")
    assert "00002.npz is damaged" in error(call("statistics", folder))


def test_statistics_need_matplotlib(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hide(monkeypatch, "matplotlib")
    text = error(call("statistics", finished))
    assert "matplotlib is not installed: pip install 'batchnorm[train]'" in text

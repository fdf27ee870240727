"""Results of a classifier's run: its numbers, its pictures, its closing table."""

import keras
from rich.console import Console
from rich.table import Table

from batchnorm.data import Dataset
from batchnorm_app.console import say
from batchnorm_app.files import atomic, read_numbers, write_json
from batchnorm_app.plots.curves import curves
from batchnorm_app.plots.feature_maps import feature_maps
from batchnorm_app.runs.history import Epoch
from batchnorm_app.runs.run import Run
from batchnorm_app.runs.settings import ClassifierSettings
from batchnorm_app.train.accuracy import accuracy
from batchnorm_app.train.pictures import draw_statistics

HINT = "delete it and --resume."  # which writes it again
_ROWS = {
    "test_accuracy": "in inference mode, with the moving statistics",
    "test_accuracy_batch_statistics": "with each batch's own statistics",
    "gap": "gap",
}


def write(
    run: Run, settings: ClassifierSettings, data: Dataset, model: keras.Model, epochs: list[Epoch]
) -> None:
    """Measures the trained model, draws the pictures, and marks the run as finished.

    Args:
        run: receives `curves.png`, `feature_maps.png`, `statistics.png` if there are any,
            and, last, `results.json`.
        settings: of the run.
        data: of the run; the feature maps are those of the first test image.
        model: the trained model.
        epochs: the history.
    """
    inference = accuracy(model, data.test, settings.batch_size)
    batch = accuracy(model, data.test, settings.batch_size, training=True, seed=settings.seed)
    with atomic(run.curves) as temporary:
        curves([epoch._asdict() for epoch in epochs], temporary)
    with atomic(run.feature_maps) as temporary:
        title = data.classes[data.test.labels[0]]
        feature_maps(model, data.test.images[0], temporary, title=title)
    if run.statistics.exists():
        draw_statistics(run)
    results = {
        "test_accuracy": inference,
        "test_accuracy_batch_statistics": batch,
        "gap": batch - inference,
        "epochs": len(epochs),
        "seconds": sum(epoch.seconds for epoch in epochs),
    }
    write_json(run.results, results)


def show(run: Run, console: Console) -> None:
    """Prints the closing table of a finished run.

    Args:
        run: the run.
        console: prints the table.

    Raises:
        UserError: its `results.json` is damaged.
    """
    results = read_numbers(run.results, [*_ROWS, "epochs", "seconds"], HINT)
    table = Table(title="Test accuracy", show_header=False)
    for _ in range(2):
        table.add_column(overflow="fold")  # keeps all digits on a narrow terminal
    for name, text in _ROWS.items():
        table.add_row(text, f"{results[name]:{'+' if name == 'gap' else ''}.4f}")
    plural = "" if results["epochs"] == 1 else "s"
    closing = f"{results['epochs']} epoch{plural} in {results['seconds']:.1f} s; see {run.folder}"
    console.print(table)
    say(closing, console)

"""What views of each photo gain, and what they cost: python benchmarks/views.py RUN [RUN ...].

RUN ... are finished runs that validated other people each, such as the folds of a cross-validation, with their data_dir
in place. Each predicts the people that it has not learnt from, with every row of VIEWS in turn, in the precision it was
validated in. The table pools them: scores, and how much higher they are than with the first row, in pairs over people.
The speed is that of the model alone, photos being decoded before, and the sum over the views of a row.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from measure import folder, machine, parser

if TYPE_CHECKING:
    from maskcls.evaluation.predictions import Predictions

MEASURES = ("f1", "acc")


def main() -> None:
    """Predicts with every row of views, and compares."""
    arguments = parser(__doc__)
    arguments.add_argument("runs", nargs="+", type=folder, metavar="RUN", help="run folder")
    runs = arguments.parse_args().runs
    from maskcls.data.views import VIEWS
    from maskcls.evaluation.findings import Findings
    from maskcls.evaluation.intervals import Draws
    from maskcls.evaluation.metrics import Score
    from maskcls.evaluation.paired import joined_people, paired_difference

    tables: dict[str, list[Predictions]] = {name: [] for name in VIEWS}
    seconds = dict.fromkeys(VIEWS, 0.0)
    for run in runs:
        for name, (table, taken) in predictions_by_views(run).items():
            tables[name].append(table)
            seconds[name] += taken
    pooled = {name: joined_people(parts) for name, parts in tables.items()}
    plain = next(iter(pooled))
    draws = Draws.of(pooled[plain].people)
    findings = {name: Findings(table, draws) for name, table in pooled.items()}
    scores = [Score(pooled[plain].headline, name) for name in MEASURES]
    print(f"{len(draws.rows):,} photos of {draws.weights.shape[1]:,} people, {len(runs)} runs; {machine()}\n")
    print(f"| views | {' | '.join(f'{name} | higher by' for name in MEASURES)} | photos/s | ratio |")
    print("|---" * (2 * len(MEASURES) + 3) + "|")
    for name in pooled:
        cells = []
        for score in scores:
            gain = paired_difference(findings[plain], findings[name], score).interval
            higher = f"{gain.value:+.4f} [{gain.low:+.4f}, {gain.high:+.4f}]" if name != plain else ""
            cells += [f"{findings[name].scores[score].value:.4f}", higher]
        rate, ratio = len(draws.rows) / seconds[name], seconds[plain] / seconds[name]
        print(f"| {name} | {' | '.join(cells)} | {rate:,.0f} | {ratio:.2f} |")


def predictions_by_views(run_folder: str | Path) -> dict[str, tuple[Predictions, float]]:
    """Returns what a run says about its validation photos by each row of VIEWS, and the seconds it took."""
    from dataclasses import replace

    from maskcls.data.pixel_cache import PixelCache
    from maskcls.data.views import VIEWS, mean_of_views
    from maskcls.machine import decoding_threads
    from maskcls.modeling.model import attention_for, load_model
    from maskcls.training.builders import read_data
    from maskcls.training.loop import predict
    from maskcls.training.processes import Launch
    from maskcls.training.run_folder import RunFolder
    from maskcls.training.sharding import prepare_to_predict
    from maskcls.training.validation import Validation

    run, config = RunFolder.open(run_folder)
    accelerator = Launch(precision=run.precision()).accelerator
    split = {"train_profile": str(run.train_profiles), "valid_profile": str(run.valid_profiles)}
    preprocessing, valid = run.read_preprocessing(), read_data(config.model_copy(update=split)).valid
    cache = PixelCache(valid.table, preprocessing, config.cache_dir)
    cache.build(num_threads=decoding_threads(config.num_workers))
    photos = replace(valid, reader=cache.open())
    model = prepare_to_predict(accelerator, load_model(str(run.best), attention=attention_for(accelerator.device)))
    logits, seconds = {}, {}
    for view in dict.fromkeys(view for views in VIEWS.values() for view in views):  # each once, whatever row it is in
        started = time.perf_counter()
        logits[view] = predict(
            accelerator, model, photos, preprocessing, batch_size=config.valid_batch_size, views=[view]
        )
        seconds[view] = time.perf_counter() - started
    said = {}
    for name, views in VIEWS.items():
        of_row = mean_of_views([logits[view] for view in views])
        said[name] = Validation(valid, config.output, of_row).predictions, sum(seconds[view] for view in views)
    return said


if __name__ == "__main__":
    main()

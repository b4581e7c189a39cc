"""What each step from one model to the final answer gains: python benchmarks/winning.py FOLDS OTHER_FOLDS.

Each is a folder with the runs of all folds of one recipe, finished and with their data_dir in place; both recipes speak
about the classes, and validated the same people. Every run predicts the people that it has not learnt from. Where a
step is fitted (the decision, the blend), people are answered by what was fitted on others. Every line says how much
higher it scores than the line that it is compared with, with the 95 % interval over people, and ** where that leaves
out 0. There is no correction for their number.

What several folds gain by answering together cannot be measured on these people, whom all folds but one have seen.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from measure import machine, parser

if TYPE_CHECKING:
    from maskcls.evaluation.decision import Decision
    from maskcls.evaluation.predictions import Predictions

MEASURES = ("f1", "acc")


@dataclass(frozen=True)
class Step:
    """A way to answer, what it answered, and the step that it is compared with."""

    name: str
    answers: Predictions
    against: str


@dataclass(frozen=True)
class Recipe:
    """What the folds of a recipe say about the people that each validated."""

    name: str
    output: str
    by_views: dict[str, Predictions]  # row of VIEWS -> all people


def main() -> None:
    """Predicts, answers in every way, compares."""
    folders = {"folds": "with the runs of one recipe", "other_folds": "with those of another"}
    arguments = parser(__doc__, **folders).parse_args()
    recipes = [out_of_fold(Path(getattr(arguments, name))) for name in folders]
    steps = [step for recipe in recipes for step in steps_of_recipe(recipe, recipes[0].name)]
    print_steps(steps + steps_of_blend(recipes))


def out_of_fold(folder: Path) -> Recipe:
    """Returns what the runs in a folder say; of several seeds, those of the first."""
    from views import predictions_by_views

    from maskcls.config import load_config
    from maskcls.evaluation.paired import joined_people
    from maskcls.training.run_folder import RunFolder

    runs = [run for run in RunFolder.all_in(folder) if run.predictions.is_file() and "_seed" not in run.path.name]
    found = [predictions_by_views(run.path) for run in runs]
    by_views = {name: joined_people([of_run[name][0] for of_run in found]) for name in found[0]}
    return Recipe(folder.name, load_config(runs[0].config).output, by_views)


def steps_of_recipe(recipe: Recipe, first: str) -> list[Step]:
    """Returns every step alone, and all together."""
    from maskcls.evaluation.decision import Decision
    from maskcls.evaluation.pooling import pooled_people

    def fit(people: Predictions) -> Decision:
        return Decision.fit(people, recipe.output)

    name, plain, output = recipe.name, recipe.by_views["none"], recipe.output
    return [
        Step(name, plain, first),
        Step(f"{name}, flip", recipe.by_views["flip"], name),
        Step(f"{name}, 5 views", recipe.by_views["5"], name),
        Step(f"{name}, decision", decided(fit, plain, plain, output), name),
        Step(f"{name}, by person", pooled_people(plain), name),
        Step(f"{name}, all of it", decided(fit, plain, recipe.by_views["5"], output, by_person=True), name),
    ]


def steps_of_blend(recipes: Sequence[Recipe]) -> list[Step]:
    """Returns the blend of the recipes, compared with whichever of them is better on the people who choose.

    Each recipe has its temperatures before; they are fitted on all people, being a number or three.
    """
    from maskcls.evaluation.blend import blend, mixed
    from maskcls.evaluation.decision import Decision
    from maskcls.evaluation.paired import on_common_photos
    from maskcls.evaluation.pooling import pooled_people
    from maskcls.evaluation.predictions import parts_of_people

    decisions = [Decision.fit(recipe.by_views["none"], recipe.output) for recipe in recipes]

    def tempered(views: str) -> list[Predictions]:
        tables = [
            replace(table, probabilities=decision.tempered(table.probabilities, recipe.output))
            for decision, recipe in zip(decisions, recipes, strict=True)
            for table in [recipe.by_views[views]]
        ]
        return on_common_photos(tables)

    found = blend(tempered("none"))
    of_views = mixed(tempered("5"), found.counts_without[parts_of_people(found.blended)])
    everything = decided(Decision.fit_tempered, found.blended, of_views, "class", by_person=True)
    return [
        Step("the better one", found.best_single, recipes[0].name),
        Step("mean", found.mean, "the better one"),
        Step("blend", found.blended, "the better one"),
        Step("blend, 5 views", of_views, "blend"),
        Step("blend, by person", pooled_people(found.blended), "blend"),
        Step("blend, all of it", everything, "the better one"),
    ]


def decided(
    fit: Callable[[Predictions], Decision], fitted_on: Predictions, said: Predictions, output: str, *,
    by_person: bool = False,
) -> Predictions:  # fmt: skip
    """Returns answers for what was said, by decisions fitted on predictions of other people; both of the same photos.

    The order is infer.py's: temperatures, then the mean over a person's photos, then offsets and rule.
    """
    import numpy as np

    from maskcls.evaluation.pooling import agreed, pooled
    from maskcls.evaluation.predictions import NUM_PARTS, parts_of_people
    from maskcls.labels import HEAD_CLASSES

    parts, head = parts_of_people(fitted_on), fitted_on.headline
    answers = np.empty(len(said), np.int64)
    for part in range(NUM_PARTS):
        decision, held = fit(fitted_on.rows(parts != part)), said.rows(parts == part)
        groups = held.people if by_person else None
        probabilities = pooled(decision.tempered(held.probabilities, output), groups)
        answers[parts == part] = agreed(decision.decided(probabilities), groups)[head]
    return replace(said, probabilities={head: np.eye(len(HEAD_CLASSES[head]), dtype=np.float32)[answers]})


def print_steps(steps: Sequence[Step]) -> None:
    """Prints a Markdown table of the scores, and of the differences with their intervals."""
    from maskcls.evaluation.findings import Findings
    from maskcls.evaluation.intervals import Draws
    from maskcls.evaluation.metrics import Score
    from maskcls.evaluation.paired import on_common_photos, paired_difference

    tables = on_common_photos([step.answers for step in steps])
    draws = Draws.of(tables[0].people)
    findings = {step.name: Findings(table, draws) for step, table in zip(steps, tables, strict=True)}
    print(f"{len(tables[0]):,} photos of {draws.weights.shape[1]:,} people; {machine()}\n")
    print(f"| answered by | compared with | {' | '.join(f'{name} | higher by' for name in MEASURES)} |")
    print("|---" * (2 * len(MEASURES) + 2) + "|")
    for step in steps:
        cells = []
        for score in (Score("class", name) for name in MEASURES):
            value, gain = findings[step.name].scores[score], None
            if step.name != step.against:
                gain = paired_difference(findings[step.against], findings[step.name], score).interval
            higher = f"{gain.value:+.4f} [{gain.low:+.4f}, {gain.high:+.4f}]{' **' * gain.is_clear}" if gain else ""
            cells += [f"{value.value:.4f} [{value.low:.4f}, {value.high:.4f}]", higher]
        against = step.against if step.name != step.against else ""
        print(f"| {step.name} | {against} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()

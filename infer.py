"""Predicts a folder with a run's best model: python infer.py --model_dir runs/exp2 [--infer_data_dir D].

Run folder -> data -> model -> predict -> output.csv, probabilities.parquet. Everything but the photos comes from the
run folder: preprocessing, output form, weights. Several processes work too: accelerate launch infer.py --model_dir ...
"""

from __future__ import annotations

import argparse

from maskcls.paths import full_path
from maskcls.program import errors_end_the_program
from maskcls.words import Words, language


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model_dir", required=True, help="run folder that train.py made")
    parser.add_argument(
        "--infer_data_dir", help="images/ with info.csv, images alone, or profile folders; default: the config's"
    )
    parser.add_argument("--batch_size", type=int, help="photos that a process takes at once; default: valid_batch_size")
    parser.add_argument("--output_dir", help="folder for the results; default: the run folder")
    parser.add_argument("--lang", help="en or ko: language of the console; default: as MASKCLS_LANG or LANG says")
    with errors_end_the_program():
        arguments = parser.parse_args()
        infer(
            arguments.model_dir,
            arguments.infer_data_dir,
            batch_size=arguments.batch_size,
            output_dir=arguments.output_dir,
            lang=language(arguments.lang),
        )


def infer(
    model_dir: str, infer_data_dir: str | None, *, batch_size: int | None, output_dir: str | None, lang: str = "en"
) -> None:
    """Predicts every photo and writes the answers in their order."""
    import time
    from dataclasses import replace

    from maskcls.data.inference import inference_data
    from maskcls.errors import UserError, listed
    from maskcls.evaluation.metrics import values_of
    from maskcls.labels import HEAD_CLASSES, head_predictions, head_probabilities, headline
    from maskcls.modeling.model import attention_for, load_model
    from maskcls.progress import Progress
    from maskcls.reporting import charts, console
    from maskcls.reporting.drawing import save_chart
    from maskcls.training.answers import Answers
    from maskcls.training.builders import decoded_pixels
    from maskcls.training.loop import predict, score
    from maskcls.training.processes import Launch
    from maskcls.training.run_folder import RunFolder
    from maskcls.training.sharding import prepare_to_predict

    started, word = time.time(), Words(lang)
    # In the precision of its validation, so that the answers are those that were scored.
    launch = Launch(precision=RunFolder(full_path(model_dir)).precision())
    accelerator = launch.accelerator
    run, config = launch.on_each(lambda: RunFolder.open(model_dir))
    folder = full_path(infer_data_dir) if infer_data_dir is not None else config.infer_data_dir
    if folder is None:
        problem = f"no folder to predict: give --infer_data_dir, or set infer_data_dir in {run.config}"
        raise UserError(problem).of_launch()
    if batch_size is not None and batch_size < 1:
        raise UserError(f"--batch_size is {batch_size}; it is at least 1").of_launch()
    target = full_path(output_dir) if output_dir is not None else run.path
    answers = launch.on_main(lambda: Answers.into(target))

    data = launch.on_each_machine(lambda: inference_data(folder))
    launch.agree_on(data.image_ids, f"{folder} holds other photos here than on the first machine")
    for line in console.ignored_lines(data.ignored, word):
        launch.say(line)
    preprocessing = launch.on_each(run.read_preprocessing)
    reader = decoded_pixels(config, data.photos.table, preprocessing)
    photos = replace(data.photos, reader=reader)
    network = launch.on_each(lambda: load_model(str(run.best), attention=attention_for(accelerator.device)))
    model = prepare_to_predict(accelerator, network)

    own_photos = -(-len(photos) // accelerator.num_processes)
    with Progress(word("predicting"), word("photo_unit"), own_photos, is_shown=launch.is_main) as bar:
        logits = predict(
            accelerator, model, photos, preprocessing, batch_size=batch_size or config.valid_batch_size,
            progress=bar.update,
        )  # fmt: skip
    of_one_colour = [data.image_ids[row] for row in sorted(set().union(*launch.all_of(reader.of_one_colour)))]
    if of_one_colour:
        launch.say(word("one_colour", count=len(of_one_colour), paths=listed(of_one_colour)))
    if num_broken := int((~logits.isfinite().all(1)).sum()):  # every process holds the same
        raise UserError(
            f"{run.best} gives {num_broken:,} of {len(logits):,} photos answers that are not finite numbers, in "
            f"precision {accelerator.mixed_precision}: nothing was written"
        ).of_launch()
    if launch.is_main:
        labels = head_predictions(logits, config.output)[headline(config.output)]
        answers.save(data.image_ids, labels, head_probabilities(logits, config.output))
        if photos.has_labels:
            scores, matrices = score(logits, photos.labels, None, output=config.output)
            head = headline(config.output)
            per_class = dict(zip(HEAD_CLASSES[head], values_of("f1", matrices[head]).tolist(), strict=True))
            trained_on = len(run.trained_people().intersection(photos.people))
            counts = {"photos": len(logits), "people": len(photos.people), "people_trained_on": trained_on}
            answers.save_scores({**counts, **scores, "f1_per_class": per_class})
            save_chart(answers.confusion_matrix, charts.confusion(matrices))
            if trained_on:
                print(word("trained_on", seen=trained_on, people=len(photos.people)))
            print("  ".join(f"{name} {value:.4f}" for name, value in scores.items()))
        duration = console.duration(time.time() - started, word)
        print(word("num_predicted", photos=len(logits), duration=duration, precision=accelerator.mixed_precision))
        print(word("where_answers", answers=answers.table, probabilities=answers.probabilities))
    launch.wait()


if __name__ == "__main__":
    main()

"""Predicts a folder with the best model of a run, or of several: python infer.py --model_dir runs/exp2[,runs/exp3].

Run folders -> data -> models -> predict -> output.csv, probabilities.parquet. Everything but the photos comes from the
run folders: preprocessing, output form, weights. Several processes work too: accelerate launch infer.py --model_dir ...
"""

from __future__ import annotations

import argparse

from maskcls.program import errors_end_the_program
from maskcls.words import Words, language


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    who = (
        "who answers: a run folder, a folds folder, a blend.yaml; several with commas between them (averaged); "
        "three attribute runs as one: runs/mask+runs/gender+runs/age"
    )
    parser.add_argument("--model_dir", required=True, help=who)
    parser.add_argument("--weights", metavar="2,1,1", help="weights of the members that commas part; default: equal")
    photos = "images/ with info.csv, images alone, or profile folders; default: the config's"
    parser.add_argument("--infer_data_dir", help=photos)
    decision = "saved: what has been shown to be better on people not learnt from (default), or plain: the likeliest"
    parser.add_argument("--decision", default="saved", help=decision)
    tta = (
        "views of each photo whose mean answers: none, flip (the mirror image too; --tta alone means it) or 5 (zoomed "
        "in and out too); default: %(default)s"
    )
    parser.add_argument("--tta", nargs="?", const="flip", default="none", metavar="VIEWS", help=tta)
    group_by = (
        "what says whose photo each is, so that gender and age are decided once per person from all photos: profile "
        "(the folders), or a column of info.csv"
    )
    parser.add_argument("--group_by", metavar="COLUMN", help=group_by)
    unsure = (
        "mark the photos that may be of more than one class in a column of output.csv; the number is the share of "
        "photos whose true class may be ruled out"
    )
    parser.add_argument("--unsure", type=float, metavar="0.05", help=unsure)
    parser.add_argument("--names", action="store_true", help="name the answers in words, in a column of output.csv")
    parser.add_argument("--batch_size", type=int, help="photos that a process takes at once; default: valid_batch_size")
    output = "folder for the results; default: that of the run, the folds or the blend.yaml"
    parser.add_argument("--output_dir", help=output)
    parser.add_argument("--lang", help="en or ko: language of console and page; default: as MASKCLS_LANG or LANG says")
    with errors_end_the_program():
        arguments = vars(parser.parse_args())
        infer(**{**arguments, "lang": language(arguments["lang"])})


def infer(
    model_dir: str, infer_data_dir: str | None, *, batch_size: int | None, output_dir: str | None,
    weights: str | None = None, decision: str = "saved", tta: str = "none", group_by: str | None = None,
    unsure: float | None = None, names: bool = False, lang: str = "en",
) -> None:  # fmt: skip
    """Predicts every photo and writes the answers in their order."""
    import time

    from maskcls.data.inference import inference_data
    from maskcls.data.views import views_of
    from maskcls.errors import listed
    from maskcls.evaluation.pooling import agreed, heads_of_people, pooled
    from maskcls.progress import Progress
    from maskcls.reporting import charts, console
    from maskcls.reporting.answers_page import Answered, of_members, page_line
    from maskcls.reporting.drawing import save_chart
    from maskcls.training.answerer import thresholds_of
    from maskcls.training.answering import ask, check_batch_size, load_runs
    from maskcls.training.answers import Answers, answer_scores, names_of
    from maskcls.training.ensemble import open_ensemble, output_folder, photos_folder, precision_of
    from maskcls.training.processes import Launch

    started, word = time.time(), Words(lang)
    # In the precision of its validation, so that the answers are those that were scored.
    launch = Launch(precision=precision_of(model_dir))
    precision = launch.accelerator.mixed_precision
    with launch.together():
        ensemble = open_ensemble(model_dir, weights, decision=decision)
        folder, views = photos_folder(ensemble, infer_data_dir), views_of(tta)
        conformal = thresholds_of(ensemble, unsure)
        check_batch_size(batch_size)
        if group_by is not None:
            heads_of_people(ensemble.output_heads)
    for line in console.ensemble_lines(ensemble, precision, word):
        launch.say(line)

    data = launch.on_each_machine(lambda: inference_data(folder, group_by))
    launch.agree_on(data.image_ids, f"{folder} holds other photos here than on the first machine")
    answers = launch.on_main(lambda: Answers.into(output_folder(ensemble, output_dir)))
    for line in console.ignored_lines(data.ignored, word):
        launch.say(line)
    runs, photos = load_runs(launch, ensemble.runs), data.photos
    own_photos = -(-len(photos) // launch.num_processes)
    with Progress(word("predicting"), word("photo_unit"), own_photos * len(runs), is_shown=launch.is_main) as bar:
        answered = ask(launch, runs, photos, batch_size=batch_size, views=views, progress=bar.update)
    if answered.of_one_colour:
        paths = [data.image_ids[row] for row in answered.of_one_colour]
        launch.say(word("one_colour", count=len(paths), paths=listed(paths)))

    if launch.is_main:
        probabilities = pooled(ensemble.combined(answered.said), data.groups)
        labels = agreed(ensemble.decision.decided(probabilities), data.groups)
        head, labels_of_head = next(iter(labels.items()))
        columns = {"name": names_of(head, labels_of_head)} if names else {}
        if conformal and unsure:
            is_unsure = conformal.unsure(probabilities, labels_of_head, unsure, is_pooled=data.groups is not None)
            columns["unsure"] = ["unsure" if is_so else "" for is_so in is_unsure]
            print(console.unsure_line(is_unsure, conformal.promised(unsure), word))
        answers.save(data.image_ids, labels_of_head, probabilities, columns=columns)
        if photos.has_labels:
            scores, matrices = answer_scores(labels, photos, ensemble.trained_people())
            answers.save_scores(scores)
            save_chart(answers.confusion_matrix, charts.confusion(matrices))
            for line in console.answer_lines(scores, len(runs), word):
                print(line)
        duration = console.duration(time.time() - started, word)
        print(word("num_predicted", photos=len(photos), duration=duration, precision=precision))
        print(word("where_answers", answers=answers.table, probabilities=answers.probabilities))
        members = of_members(ensemble, answered.said)
        shown = Answered(data.image_ids, photos.column("path").tolist(), labels, probabilities, members)
        print(page_line(answers.page, shown, ensemble.runs, word))
    launch.wait()


if __name__ == "__main__":
    main()

"""The lines that train.py and infer.py print; `word` looks up the language's words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
from accelerate import Accelerator

from maskcls import labels
from maskcls.config import Config
from maskcls.data.dataset import FaceData, Photos
from maskcls.data.label_fixes import CorrectedPhotos
from maskcls.data.loader import BatchPlan
from maskcls.data.profiles import unread_kinds
from maskcls.errors import listed
from maskcls.evaluation.intervals import Interval
from maskcls.evaluation.selection import BestScore
from maskcls.machine import cpu_has_bf16, is_accelerator, quickest_precision
from maskcls.paths import command, shipped
from maskcls.reporting.text import decision_line, padded, width
from maskcls.training.answerer import Answerer
from maskcls.training.ensemble import precisions_of
from maskcls.training.loop import Learner
from maskcls.training.run_folder import RunFolder
from maskcls.words import Words


def split_table(data: FaceData, word: Words) -> str:
    """Returns the people and the photos per class of each split."""
    people = labels.classes_of_people()
    groups = [_group(cell, word) for cell in people]
    rows = {}  # of photos alike: their title -> the class of each group
    for codes in zip(*people.values(), strict=True):
        said = labels.labels_of(codes[0])
        rows[" ".join(word(f"count_{name}_{said[name]}") for name in labels.OF_PHOTO)] = codes
    places = max(10, *map(width, rows))
    heading = padded(word("photos"), 12 + places, right=True)
    lines = [heading + "".join(padded(group, 14, right=True) for group in groups)]
    for name, photos in _splits(data).items():
        count, split = labels.class_counts(photos.labels)["class"], padded(word(name), 11, right=True)
        for title, codes in rows.items():
            cells = "".join(f"{count[code]:>14,}" for code in codes)
            lines.append(f"{split} {padded(title, places, right=True)}{cells}")
        total = word("split_sum", people=len(photos.people), photos=len(photos))
        lines.append(f"{split} {padded(word('all'), places, right=True)}  {total}")
    return "\n".join(lines)


def _splits(data: FaceData) -> dict[str, Photos]:
    return {"train": data.train, **({"valid": data.valid} if len(data.valid) else {})}


def _group(cell: tuple[int, ...], word: Words) -> str:
    """Returns a person's labels as short as they can be: the name of an age group is the same in all languages."""
    parts = []
    for name, label in zip(labels.OF_PERSON, cell, strict=True):
        has_years = labels.ATTRIBUTES[name].first_years
        parts.append(labels.HEAD_CLASSES[name][label] if has_years else word.class_name(name, label))
    return " ".join(parts)


def start_lines(config: Config, data: FaceData, plan: BatchPlan, learner: Learner, word: Words) -> str:
    """Returns what a person wants to see before a run starts: on which photos, what runs where, and how it is split."""
    height, width = config.height_width
    warmup, total = config.scheduler_args.get("warmup_updates") or 0, plan.num_updates * config.last_epoch
    size = sum(parameter.numel() for parameter in learner.network.parameters())
    kind, precision = learner.accelerator.device.type, learner.accelerator.mixed_precision
    lines = [split_table(data, word), *(ignored_lines(data.ignored, word) or [word("only_photos")])]
    if data.of_one_colour:
        lines.append(word("one_colour", count=len(data.of_one_colour), paths=listed(data.of_one_colour)))
    lines += _absent_lines(data, config.output, word)
    if not config.has_validation:
        lines.append(word("nobody_validates"))
    if data.corrected:
        lines += _correction_lines(data.corrected, config.label_fixes, word)
    parts = {"photos": plan.batch_size, "processes": plan.num_processes, "micro_batches": plan.num_accumulated}
    share = plan.batch_size / plan.num_processes / plan.num_accumulated
    lines += [
        word("start_model", model=config.model, parameters=size, height=height, width=width, output=config.output),
        word("start_devices", count=plan.num_processes, kind=kind, precision=precision),
        word("start_update", **parts, share=share, updates=plan.num_updates, epochs=config.epochs),
    ]
    if config.last_epoch < config.epochs:
        lines.append(word("start_stop", epoch=config.last_epoch, epochs=config.epochs))
    if warmup >= total:
        lines.append(word("long_warmup", warmup=warmup, total=total, lr=config.lr))
    return "\n".join(lines)


def ignored_lines(others: Counter[str], word: Words) -> list[str]:
    """Returns what was no photo by its name, if anything; photos of kinds that cannot be read have their own line."""
    named = {kind: word(f"kind_{kind or 'none'}") for kind in ("hidden", "folder", "beside", "")}
    kinds = listed(f"{count:,} {named.get(kind, kind)}" for kind, count in others.most_common())
    lines = [word("ignored", count=others.total(), kinds=kinds)] if others else []
    unread = unread_kinds(others)
    return [*lines, *([word("unread_kinds", kinds=unread)] if unread else [])]


def ensemble_lines(answerer: Answerer, precision: str, word: Words) -> list[str]:
    """Returns what a person should know of those who answer: that they are several, and what is decided otherwise."""
    lines = []
    if len(answerer.runs) > 1:
        lines.append(word("answer_together", count=len(answerer.runs), name=answerer.name))
    if len(precisions := precisions_of(answerer)) > 1:
        lines.append(word("other_precisions", precisions=listed(precisions), precision=precision))
    if any(step.is_on for step in answerer.decision.steps.values()):
        lines.append(decision_line(answerer.decision, word))
    return lines


def unsure_line(is_unsure: np.ndarray, risk: float, word: Words) -> str:
    """Returns how many of the photos are unsure at the risk that was promised."""
    counts = {"count": int(is_unsure.sum()), "photos": len(is_unsure)}
    return word("num_unsure", **counts, coverage=f"{100 * (1 - risk):g}%")


def answer_lines(scores: Mapping[str, Any], num_runs: int, word: Words) -> list[str]:
    """Returns the scores of a prediction of labelled photos, and a warning of people that were learnt from."""
    lines = []
    if seen := scores["people_trained_on"]:
        key = "trained_on" if num_runs == 1 else "members_trained_on"
        lines.append(word(key, seen=seen, people=scores["people"]))
    measured = {name: value for name, value in scores.items() if isinstance(value, float)}
    return [*lines, "  ".join(f"{name} {value:.4f}" for name, value in measured.items())]


def _absent_lines(data: FaceData, output: str, word: Words) -> list[str]:
    """Returns a line for each split that lacks classes of the task; of all, those that its attributes allow."""
    lines = []
    for name, photos in _splits(data).items():
        counts = labels.class_counts(photos.labels)
        absent = {head: [label for label, count in enumerate(counts[head]) if not count] for head in counts}
        heads = list(labels.ATTRIBUTES) if labels.headline(output) == "class" else [output]
        named = [word.class_name(head, label) for head in heads for label in absent[head]]
        for code in absent["class"] if labels.headline(output) == "class" else []:
            if not any(label in absent[head] for head, label in labels.labels_of(code).items()):
                named.append(word.class_name("class", code))
        lines += [word(f"absent_{name}", classes=listed(named))] if named else []
    return lines


def _correction_lines(corrected: CorrectedPhotos, path: str | None, word: Words) -> list[str]:
    rows, unmatched, people = corrected.num_rows, corrected.num_unmatched_rows, sorted(set(corrected.changed))
    lines = [word("start_labels", photos=len(corrected.changed), people=len(people), path=path, unmatched=unmatched)]
    if unmatched > rows / 2:
        lines.append(word("foreign_labels", rows=rows, unmatched=unmatched, path=path, people=listed(people) or "-"))
    return lines


def update_facts(values: Mapping[str, float], word: Words) -> dict[str, str]:
    """Returns what the progress shows of the last interval, beside time and ETA."""
    return {
        "loss": f"{values['train/loss']:.3f}",
        "lr": f"{values['train/lr']:.1e}",
        word("speed"): f"{values['train/images_per_second']:.0f}",
        word("waiting"): f"{values['train/waiting_share']:.0%}",
    }


def advice(values: Mapping[str, float], accelerator: Accelerator, word: Words, *, uses_cache: bool) -> str:
    """Returns a line when the first interval shows time that a setting would save, else nothing."""
    lines = []
    if values["train/waiting_share"] > 0.1:
        lines.append(word("advice_disk" if uses_cache else "advice_cache", share=values["train/waiting_share"]))
    if accelerator.device.type == "cpu" and accelerator.mixed_precision == "no" and cpu_has_bf16():
        lines.append(word("advice_bf16", file=shipped("accelerate_configs/cpu.yaml")))
    elif is_accelerator(accelerator.device) and accelerator.mixed_precision == "no":
        precision = quickest_precision()
        lines += [word("advice_precision", precision=precision)] if precision != "no" else []
    return "".join(f"{line}\n" for line in lines)


def epoch_line(
    epoch: int, num_epochs: int, scores: Mapping[str, float], word: Words, *, seconds: float, is_best: bool
) -> str:
    """Returns one epoch's validation in a line, with the names of metrics.jsonl."""
    numbers = [f"{name} {value:.4f}" for name, value in scores.items()]
    title, best = word("epoch_of", epoch=epoch, epochs=num_epochs), [word("is_best")] if is_best else []
    return "  ".join([title, *numbers, duration(seconds, word), *best])


def all_trained_line(config: Config, word: Words) -> str:
    """Returns what is said when a run resumes whose epochs are all trained."""
    if config.last_epoch < config.epochs:
        return word("all_trained_until", epoch=config.last_epoch)
    return word("all_trained", epochs=config.epochs, more=config.epochs + 1)


def end_lines(
    run: RunFolder, best: BestScore, scores: Mapping[str, Interval] | None, word: Words, *, seconds: float,
    notes: list[str],
) -> str:  # fmt: skip
    """Returns the scores of the best epoch with their 95 % intervals, where things lie, and the next command.

    scores: None where nobody validated.
    """
    report = [word("where_report", path=run.report)] if run.report.exists() else []
    lasted = duration(seconds, word)
    if scores is None:
        results = [word("no_scores", epoch=best.epoch, duration=lasted)]
    else:
        width = max(map(len, scores))
        results = [
            word("best_score", criterion=best.criterion, value=best.value, epoch=best.epoch, duration=lasted),
            *(f"  {name:<{width}}  {interval}" for name, interval in scores.items()),
            f"  {word('in_brackets')}",
        ]
    lines = [
        *results,
        ", ".join([word("where_model", path=run.best), *report]),
        *notes,
        word("next_command", command=command("infer", "--model_dir", run.path)),
    ]
    return "\n".join(lines)


def duration(seconds: float, word: Words) -> str:
    """Returns 42 s, 3 min 20 s or 2 h 05 min."""
    minutes, rest = divmod(round(seconds), 60)
    if minutes >= 60:
        return word("duration_hours", hours=minutes // 60, minutes=minutes % 60)
    if minutes:
        return word("duration_minutes", minutes=minutes, seconds=rest)
    return word("duration_seconds", seconds=rest)

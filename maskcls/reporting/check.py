"""What `maskcls check` and `train.py --check` look at, say and judge: go or no go."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from maskcls.config import Config
from maskcls.data import profiles
from maskcls.data.dataset import FaceData
from maskcls.data.inspection import Finding, inspect_profiles, save_findings
from maskcls.errors import UserError
from maskcls.machine import decoding_threads
from maskcls.progress import Progress
from maskcls.reporting import console
from maskcls.reporting.journal import state_to_resume
from maskcls.reporting.text import padded
from maskcls.training.builders import build_learner, open_data
from maskcls.training.preflight import Estimate, try_out
from maskcls.training.processes import Launch
from maskcls.training.run_folder import RunFolder, check_outputs
from maskcls.training.state import restore
from maskcls.words import Words

NUM_SHOWN = 5  # findings of one kind on the screen; --fix-report has all


def check(
    config: Config, launch: Launch, run: RunFolder | None, *, lang: str, decode: bool = False, table: Path | None = None
) -> None:
    """Prints what is found and what a run will take; the last line is go or no go. Collective.

    run: the one that would resume. table: CSV for all findings. Raises UserError when it is no go.
    """
    say, word = launch.say, Words(lang)
    with no_go():
        launch.on_main(lambda: check_outputs(config, run))
        state = state_to_resume(launch, run, word) if run is not None else None
    data, problem = None, None
    try:
        data = open_data(config, launch)
    except UserError as error:  # reported below unless the inspection finds what is behind it
        problem = error
    if data is not None:
        with no_go():
            learner, plan = build_learner(config, launch, data)
            if state is not None:
                restore(launch, learner, state, data_key=data.key)

    def look() -> list[Finding]:
        findings = inspected(config, data, problem, word, decode=decode)
        if table:
            save_findings(findings, table)
        return findings

    findings = launch.on_main(look)
    say(finding_lines(findings, table, word))
    if errors := counted(findings, "error", word):
        raise UserError(word("no_go_data", errors=errors)).of_launch()
    assert data is not None  # its problem would be an error among the findings
    with no_go():
        estimate = try_out(config, launch, data, learner, plan, run)
    say(console.start_lines(config, data, plan, learner, word))
    say(estimate_lines(config, estimate, word))

    def check_room() -> None:
        for name, has_room in estimate.has_room.items():
            if not has_room:
                raise UserError(word("no_go_disk", name=name, folder=getattr(config, name)))

    launch.on_each(check_room)  # every machine may have a cache_dir of its own
    warnings = counted(findings, "warning", word)
    say(word("go_warned", warnings=warnings) if warnings else word("go"))


@contextmanager
def no_go() -> Iterator[None]:
    """Says of an error that it would end a run."""
    try:
        yield
    except UserError as error:
        error.args = (f"no go: {error}",)
        raise


def inspected(
    config: Config, data: FaceData | None, problem: UserError | None, word: Words, *, decode: bool
) -> list[Finding]:
    """Returns what is found in the photos of the splits, or, when they cannot be split, in all that the config names.

    problem: why they cannot; it is reported unless the inspection finds what is behind it.
    """
    named = profiles.named_people(config.data_dir, config.train_profile, config.valid_profile)
    if data is not None:
        named = replace(named, train=data.train.people, valid=data.valid.people)
    num_threads = max(decoding_threads(config.num_workers), 1)
    with Progress(word("looking"), word("photo_unit")) as bar:
        findings = inspect_profiles(config.data_dir, named, decode=decode, num_threads=num_threads, progress=bar.update)
    if problem is not None and not any(finding.severity == "error" for finding in findings):
        findings = [Finding("error", "split", str(problem)), *findings]
    return findings


def finding_lines(findings: Sequence[Finding], report: Path | None, word: Words) -> str:
    """Returns the findings by kind, the worst first, the first few of each; findings are in English."""
    groups: dict[tuple[str, str], list[Finding]] = defaultdict(list)
    for finding in findings:
        groups[finding.severity, finding.kind].append(finding)
    lines = []
    for (severity, kind), found in groups.items():
        title = f"{padded(word(severity), 8)} {kind}"
        for finding in found[:NUM_SHOWN]:
            place = "/".join(part for part in (finding.profile, finding.file) if part)
            lines.append(f"{title}: {f'{place}: ' if place else ''}{finding.text}")
        if len(found) > NUM_SHOWN:
            lines.append(f"{title}: {word('more' if report else 'more_hidden', count=len(found) - NUM_SHOWN)}")
    what = ", ".join(filter(None, (counted(findings, name, word) for name in ("error", "warning", "note"))))
    what = what or word("found_nothing")
    lines.append(word("found_written", what=what, path=report) if report else word("found", what=what))
    text = "\n".join(lines)
    return text.encode("utf-8", "backslashreplace").decode()  # a file's name may be no UTF-8


def counted(findings: Sequence[Finding], severity: str, word: Words) -> str:
    """Returns how many findings have this severity, "3 errors"; an empty text when none has."""
    count = sum(finding.severity == severity for finding in findings)
    return word(f"one_{severity}" if count == 1 else f"some_{severity}", count=count) if count else ""


def estimate_lines(config: Config, estimate: Estimate, word: Words) -> str:
    """Returns what a run will take."""
    speed, seconds = config.train_batch_size / estimate.update_seconds, estimate.epoch_seconds
    epoch, run = console.duration(seconds, word), console.duration(seconds * config.last_epoch, word)
    epochs, update = config.last_epoch, estimate.update_seconds
    time = word("estimate_time", update=update, speed=speed, epoch=epoch, run=run, epochs=epochs)
    memory = word("estimate_memory", memory=estimate.memory_gb)
    kept = word("kept_on_device", kept=estimate.kept_gb) if estimate.kept_gb else ""
    sizes = {"run": estimate.run_bytes, "state": estimate.state_bytes, "cache": estimate.cache_bytes}
    megabytes = {name: size / 1e6 for name, size in sizes.items()}
    disk = word("estimate_disk", **megabytes, free=estimate.free_bytes / 1e9)
    return f"{time}\n{memory}{kept}\n{disk}"

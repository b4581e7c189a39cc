"""A config is either whole, or one message names everything that is wrong with it and where."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from maskcls.config import MAY_CHANGE, RUNTIME_KEYS, Config, load_config
from maskcls.errors import UserError
from maskcls.labels import OUTPUT_HEADS
from maskcls.setting import help_texts

ROOT = Path(__file__).parents[1]
MINIMAL = "data_dir: faces\ndataset_args: {output: class}\n"
WEIGHTED = MINIMAL + "criterion: weighted_sum\n"
FORM = "terms of weighted_sum is a list of {criterion: name, factor: number, criterion_args: {...}}"

Write = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write_text(text: str) -> Path:
        path = tmp_path / "exp.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return write_text


def message(path: Path, *overrides: str) -> str:
    """Returns the error of a config, its folder left out."""
    with pytest.raises(UserError) as error:
        load_config(path, overrides)
    return str(error.value).replace(f"{path.parent}/", "")


# What is read


def test_two_keys_are_enough_and_the_others_have_their_defaults(write: Write) -> None:
    config = load_config(write(MINIMAL))
    assert (config.data_dir, config.output) == (str(Path.cwd() / "faces"), "class")
    required = {"data_dir", "dataset_args"}
    defaults = {key: field.default for key, field in Config.model_fields.items() if key not in required}
    filled_in = {"model_dir": str(Path.cwd() / "runs"), "num_classes": 18}
    assert {key: getattr(config, key) for key in defaults} == defaults | filled_in
    assert len(defaults) > 30


def test_size_is_a_number_or_height_and_width(write: Write) -> None:
    assert load_config(write(f"{MINIMAL}image_size: 96\n")).height_width == (96, 96)
    assert load_config(write(f"{MINIMAL}image_size: [80, 60]\n")).height_width == (80, 60)


# Paths


PATHS = ("data_dir", "train_profile", "valid_profile", "cache_dir", "model_dir", "label_fixes", "infer_data_dir")


def test_every_path_is_expanded_absolute_and_stored_so(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, work = tmp_path / "home", tmp_path / "work"
    (work / "models" / "vit").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(work)
    lines = "\n".join(f"{key}: {'~/' if number % 2 else 'here/../'}{key}" for number, key in enumerate(PATHS))
    text = f"{lines}\ndataset_args: {{output: class}}\nmodel_args: {{pretrained: models/vit}}\n"
    config = load_config(write(text))
    config.save(tmp_path / "saved.yaml")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/nowhere")
    for each in (config, load_config(tmp_path / "saved.yaml")):
        folders = [home if number % 2 else work for number in range(len(PATHS))]
        expected = {key: str(folder / key) for folder, key in zip(folders, PATHS, strict=True)}
        expected["cache_dir"] = "~/cache_dir"  # each machine's and each user's own
        assert {key: getattr(each, key) for key in PATHS} == expected
        assert each.model_args == {"pretrained": str(work / "models" / "vit")}
    texts = help_texts(Config).items()
    spoken_of = {key for key, text in texts if re.search(r"\b(folder|CSV|file)\b", text["en"])}
    assert spoken_of - {"name", "cache", "tensorboard", "report", "model_args"} == set(PATHS)


@pytest.mark.parametrize("pretrained", ["google/vit-base-patch16-224", "resnet", "facebook/convnextv2-tiny-1k-224"])
def test_a_hub_id_stays_as_it_is(pretrained: str, write: Write) -> None:
    arguments = load_config(write(f"{MINIMAL}model_args: {{pretrained: {pretrained}}}\n")).model_args
    assert arguments == {"pretrained": pretrained}


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("model_dir: ''", "exp.yaml:3: model_dir is '': string should have at least 1 character"),
        (
            "cache_dir: ~~no-one/x",
            "cache_dir is '~~no-one/x': ~~no-one/x: there is no such home folder (a file of that",
        ),
        ('label_fixes: "a\\0b"', "label_fixes is 'a\\x00b': 'a\\x00b' holds a NUL character, which no path can"),
        ("valid_profile: ''", "exp.yaml:3: valid_profile is '': string should have at least 1 character"),
        ("valid_profile: None", "valid_profile is 'None': nothing is written null, and a path of that name ./None"),
        ("model_args: {pretrained: None}", "model_args is {'pretrained': 'None'}: nothing is written null"),
    ],
)
def test_what_is_no_path_is_refused(line: str, words: str, write: Write) -> None:
    assert words in message(write(f"{MINIMAL}{line}\n"))


def test_none_is_a_word_for_nobody_and_a_file_of_that_name_has_a_folder(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "none").write_text("000001_female_Asian_45\n")
    for text, overrides in ((f"{MINIMAL}valid_profile: none\n", []), (MINIMAL, ["valid_profile=none"])):
        config = load_config(write(text), overrides)
        assert (config.valid_profile, config.has_validation) == ("none", False)
        config.save(tmp_path / "saved.yaml")
        assert load_config(tmp_path / "saved.yaml").valid_profile == "none"
    for text, read in (("null", None), ("./none", str(tmp_path / "none"))):
        config = load_config(write(f"{MINIMAL}valid_profile: {text}\n"))
        assert (config.valid_profile, config.has_validation) == (read, True)


def test_label_fixes_are_the_same_wherever_their_file_lies(write: Write, tmp_path: Path) -> None:
    for name, text in {"a.csv": "one", "b.csv": "one", "c.csv": "two"}.items():
        (tmp_path / name).write_text(text)
    run = load_config(write(MINIMAL), [f"label_fixes={tmp_path}/a.csv"])
    old = load_config(write(MINIMAL), ["label_fixes=of/another/folder.csv"])
    for former, name, number in [(run, "a", 0), (run, "b", 0), (run, "c", 1), (old, "a", 0)]:
        found = former.differences(load_config(write(MINIMAL), [f"label_fixes={tmp_path}/{name}.csv"]))
        assert len(found) == number and all(text.startswith("label_fixes is ") for text in found), (name, found)
    assert len(run.differences(load_config(write(MINIMAL)))) == len(load_config(write(MINIMAL)).differences(run)) == 1


# What is refused


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("sede: 1", "exp.yaml:3: unknown key 'sede'. Did you mean 'seed'?"),
        ("train_batchsize: 8", "exp.yaml:3: unknown key 'train_batchsize'. Did you mean 'train_batch_size'?"),
        ("xyzzy: 1", "exp.yaml:3: unknown key 'xyzzy'."),
        ("seed: 1.5", "exp.yaml:3: seed is 1.5: input should be a valid integer"),
        ("seed: '1'", "exp.yaml:3: seed is '1': input should be a valid integer"),
        ("seed: -1", "exp.yaml:3: seed is -1: input should be greater than or equal to 0"),
        ("lr: fast", "exp.yaml:3: lr is 'fast': input should be a valid number"),
        ("lr: 0", "exp.yaml:3: lr is 0: input should be greater than 0"),
        ("epochs: true", "exp.yaml:3: epochs is True: input should be a valid integer"),
        ("epochs:", "exp.yaml:3: epochs is None: input should be a valid integer"),
        ("ema_decay: 1", "exp.yaml:3: ema_decay is 1: input should be less than 1"),
        ("tensorboard: 1", "exp.yaml:3: tensorboard is 1: input should be a valid boolean"),
        ("model_args: 3", "exp.yaml:3: model_args is 3: input should be a valid dictionary"),
        (
            "best_criterion: accuracy",
            "exp.yaml:3: best_criterion is 'accuracy': input should be 'acc', 'balanced_acc', 'f1' or 'loss'",
        ),
        ("cache: disk", "exp.yaml:3: cache is 'disk': input should be 'memory_map' or 'none'"),
        ("head_weights: {masc: 1}", "exp.yaml:3: head_weights is 'masc': input should be 'mask', 'gender' or 'age'"),
        ("image_size: big", "exp.yaml:3: image_size is 'big': input should be a valid integer, or input should be"),
        ("fold: 5", "exp.yaml:3: fold is 5, but num_folds is 5: folds count from 0"),
        ("weight_decay: .inf", "exp.yaml:3: weight_decay is inf: input should be a finite number"),
        ("max_grad_norm: .nan", "exp.yaml:3: max_grad_norm is nan: input should be"),
        ("max_grad_norm: None", "input should be a valid number; nothing is written null"),
        ("name: 0123", "exp.yaml:3: name is 83: input should be a valid string; as text it stands in quotes"),
        ("name: on", "exp.yaml:3: name is True: input should be a valid string; as text it stands in quotes"),
        ("crop_box: [0, 0, 1]", "exp.yaml:3: crop_box is [0, 0, 1]: list should have at least 4 items"),
        ("dataset: CustomDataset", "exp.yaml:3: unknown dataset 'CustomDataset'. Did you mean 'CustomDatasetSplitBy"),
        ("augmentation: strnog", "exp.yaml:3: unknown augmentation 'strnog'. Did you mean 'strong'? Known: light, no"),
        ("model: convnxt", "exp.yaml:3: unknown model 'convnxt'. Did you mean 'convnext'? Known: auto, convnext"),
        ("criterion: focl", "exp.yaml:3: unknown criterion 'focl'. Did you mean 'focal'? Known: BCELoss, cross_entr"),
        ("optimizer: AdmW", "Did you mean 'AdamW'? Known: Lion, and the classes of torch.optim"),
        ("scheduler: OneCycle", "Did you mean 'OneCycleLR'? Known: constant, warmup_cosine, and the classes of"),
        ("criterion_args: {weigth: balanced}", "exp.yaml:3: criterion_args: cross_entropy takes no 'weigth'. Did you"),
        ("augmentation_args: {rotate: 1}", "light takes no 'rotate'. Did you mean 'rotation'? It takes: shift,"),
        ("optimizer_args: {beta: [0.9, 0.95]}", "exp.yaml:3: optimizer_args: AdamW takes no 'beta'. Did you mean 'be"),
        ("optimizer_args: {lr: 1}", "exp.yaml:3: optimizer_args: AdamW takes no 'lr'."),
        ("scheduler_args: {warmup: 5}", "scheduler_args: warmup_cosine takes no 'warmup'. Did you mean 'warmup_"),
        ("scheduler: StepLR", "exp.yaml:3: scheduler_args: StepLR needs 'step_size'"),
        ("criterion: weighted_sum", "exp.yaml:3: criterion_args: weighted_sum needs 'terms'"),
        ("model_args: {image_size: 3}", "exp.yaml:3: model_args: vit takes no 'image_size'."),
    ],
)
def test_each_mistake_has_its_words_and_its_line(line: str, words: str, write: Write) -> None:
    assert words in message(write(f"{MINIMAL}{line}\n"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("{output: masks}", "output is 'masks'. Did you mean 'mask'? It is one of: all, class, mask, gender, age"),
        ("{output: all, std: [0.2, 0, 0.2]}", "std is [0.2, 0, 0.2]; it divides"),
        ("{output: all, sdt: null}", "CustomDatasetSplitByProfile takes no 'sdt'. Did you mean 'std'?"),
        ("{}", "CustomDatasetSplitByProfile needs 'output'"),
    ],
)
def test_the_dataset_arguments_are_checked(arguments: str, words: str, write: Write) -> None:
    problem = message(write(f"data_dir: x\ndataset_args: {arguments}\n"))
    assert words in problem and "exp.yaml:2: " in problem


def test_missing_keys_are_named_with_what_they_mean(write: Write) -> None:
    problem = message(write("seed: 1\n"))
    assert "exp.yaml: data_dir is missing: folder of the profile folders, one per person" in problem
    assert "exp.yaml: dataset_args is missing: its arguments: output (all | class | mask | gender | age)" in problem


def test_all_problems_come_in_one_message(write: Write) -> None:
    lines = ["sede: 1", "lr: fast", "model: vitt", "lr: 1", "optimizer_args: {beta: 1}", "num_workers: -1"]
    heading, *problems = message(write(MINIMAL + "\n".join(lines)), "seed", "epochs=many").splitlines()
    assert heading == "7 problems in exp.yaml:"
    assert len(problems) == 7
    assert all(problem.startswith("  - ") for problem in problems)
    for words in [
        "exp.yaml:3: unknown key 'sede'",
        "exp.yaml:5: unknown model 'vitt'",
        "exp.yaml:6: duplicate key 'lr', first in line 4",
        "exp.yaml:7: optimizer_args: AdamW takes no 'beta'",
        "exp.yaml:8: num_workers is -1",
        "override 'seed' is not of the form key=value",
        "override epochs=many: epochs is 'many'",
    ]:
        assert sum(words in problem for problem in problems) == 1, words


def test_contradictions_come_in_one_message_too(write: Write) -> None:
    text = f"{MINIMAL}num_classes: 3\nfold: 9\nmodel_args: {{num_labels: 8}}\nhead_weights: {{mask: 2}}\nmodel: vitt\n"
    heading, *problems = message(write(text)).splitlines()
    assert heading == "5 problems in exp.yaml:"
    assert [problem.split(":")[1] for problem in problems] == ["3", "4", "5", "6", "7"]


def test_numbers_as_argument_names_are_refused(write: Write) -> None:
    assert "optimizer_args: AdamW takes no 1" in message(write(f"{MINIMAL}optimizer_args: {{1: 2}}\n"))
    assert "model_args: vit takes no True" in message(write(f"{MINIMAL}model_args: {{on: 2}}\n"))


# weighted_sum


def test_a_weighted_sum_is_read(write: Write) -> None:
    terms = "[{criterion: focal, factor: 0.5, criterion_args: {gamma: 1}}, {criterion: f1}]"
    config = load_config(write(f"{WEIGHTED}criterion_args: {{terms: {terms}}}\n"))
    assert [term["criterion"] for term in config.criterion_args["terms"]] == ["focal", "f1"]


@pytest.mark.parametrize(
    ("terms", "words"),
    [
        ("3", FORM),
        ("[]", FORM),
        ("{criterion: f1}", FORM),
        ("[f1, focal]", f"{FORM}, not 'f1'"),
        ("[{criterion: f1, weight: 2}]", f"{FORM}, not {{'criterion': 'f1', 'weight': 2}}"),
        ("[{factor: 2}]", f"{FORM}, not {{'factor': 2}}"),
        ("[{criterion: focl}]", "unknown criterion 'focl'. Did you mean 'focal'?"),
        ("[{criterion: focal, criterion_args: {gama: 1}}]", "focal takes no 'gama'. Did you mean 'gamma'?"),
        ("[{criterion: focal, criterion_args: [1]}]", FORM),
        ("[{criterion: focal, criterion_args: 1}]", FORM),
        ("[{criterion: focal, factor: much}]", FORM),
        ("[{criterion: weighted_sum}]", "weighted_sum needs 'terms'"),
        ("[{criterion: weighted_sum, criterion_args: {terms: [{criterion: focl}]}}]", "unknown criterion 'focl'"),
    ],
)
def test_the_terms_of_a_weighted_sum_are_checked(terms: str, words: str, write: Write) -> None:
    problem = message(write(f"{WEIGHTED}criterion_args:\n  terms: {terms}\n"))
    assert words in problem
    assert "exp.yaml:4: " in problem


# Overrides


def test_an_override_repairs_what_the_file_says(write: Write) -> None:
    assert load_config(write(f"{MINIMAL}lr: fast\n"), ["lr=0.1"]).lr == 0.1


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("--epoch 3", "override --epoch=3: unknown key 'epoch'. Did you mean 'epochs'?"),
        ("name=0123", "override name=0123: name is 83: input should be a valid string; as text: name='\"0123\"'"),
        ("--max_grad_norm=None", "max_grad_norm is 'None': input should be a valid number; nothing is written null"),
        ("epochs=None", "override epochs=None: epochs is 'None': input should be a valid integer"),
        ("seed=many", "override seed=many: seed is 'many': input should be a valid integer"),
        ("--fold=5", "override --fold=5: fold is 5, but num_folds is 5: folds count from 0"),
        ("model=vitt", "override model=vitt: unknown model 'vitt'. Did you mean 'vit'?"),
        ("model_args.widht=3", "override model_args.widht=3: model_args: vit takes no 'widht'."),
    ],
)
def test_a_wrong_value_stands_in_its_override(override: str, words: str, write: Write) -> None:
    assert words in message(write(MINIMAL), *override.split(" "))


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from(["f1", "all"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["output", "mean", "terms", "criterion", "factor", 1, True]), inner, max_size=3
        )
    ),
    max_leaves=6,
)


@settings(
    max_examples=150, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    values=st.dictionaries(st.sampled_from(list(Config.model_fields)), VALUES, max_size=4),
    criterion=st.sampled_from(["f1", "weighted_sum"]),
)
def test_no_value_of_any_key_ends_in_anything_but_a_message(
    values: dict[str, Any], criterion: str, write: Write
) -> None:
    text = yaml.safe_dump({"data_dir": "x", "dataset_args": {"output": "all"}, "criterion": criterion} | values)
    try:
        assert isinstance(load_config(write(text)), Config)
    except UserError as error:
        assert "exp.yaml" in str(error)


# Saved and filled in


FULL = """
data_dir: 얼굴/profiles
name: "1e5"
dataset_args: {output: gender, mean: [0.5, 0.25, 1.0e-3], std: null}
image_size: [80, 60]
crop_box: [0, 0.1, 1, 0.9]
lr: 1e-5
optimizer_args: {betas: [0.9, 0.95], eps: 1e-12}
model_args: {num_labels: 1, pretrained: "null"}
ema_decay: 0.999
"""


def test_a_saved_config_is_read_as_it_was(write: Write, tmp_path: Path) -> None:
    config = load_config(write(FULL))
    config.save(tmp_path / "saved.yaml")
    assert load_config(tmp_path / "saved.yaml") == config
    assert set(yaml.safe_load((tmp_path / "saved.yaml").read_text(encoding="utf-8"))) == set(Config.model_fields)


# What a run may be continued as


def test_a_run_of_a_config_may_resume_as_that_config(write: Write) -> None:
    config = load_config(write(f"{MINIMAL}\nema_decay: 0.9"))
    run = config.with_statistics([0.5, 0.4, 0.3], [0.2, 0.2, 0.2])
    assert run.differences(config) == run.differences(run) == config.differences(run) == []


@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")  # of the values that no config would take
def test_every_key_but_those_that_may_change_is_a_difference(write: Write) -> None:
    """Each key gets another value in turn, null too, which is what a YAML without the key says."""
    run = load_config(write(f"{MINIMAL}\nema_decay: 0.9")).with_statistics([0.5, 0.4, 0.3], [0.2, 0.2, 0.2])
    guarded = 0
    for key in Config.model_fields.keys() - {"num_classes"}:
        now = getattr(run, key)
        for other in [{"output": "age"}] if key == "dataset_args" else ["another", None]:
            found = run.differences(run.model_copy(update={key: other}))
            is_found = len(found) == 1 and found[0].startswith(f"{key} is ") and ", in the run " in found[0]
            is_right = is_found if key not in MAY_CHANGE and other != now else found == []
            assert is_right, (key, other, found)
            guarded += 1
    assert guarded > 60


def test_what_a_run_is_about_and_what_not() -> None:
    assert {"report", "max_device_batch_size", "nan_policy", "cache_dir"} <= RUNTIME_KEYS < MAY_CHANGE
    assert {"epochs", "data_dir"} <= MAY_CHANGE - RUNTIME_KEYS
    assert MAY_CHANGE.isdisjoint({"seed", "lr", "dataset_args", "image_size", "train_batch_size"})


def test_statistics_that_are_given_twice_and_differ_are_a_difference(write: Write) -> None:
    config = load_config(write(MINIMAL))
    run = config.with_statistics([0.5, 0.4, 0.3], [0.2, 0.2, 0.2])
    (found,) = run.differences(config.with_statistics([0.5, 0.4, 0.25], [0.2, 0.2, 0.2]))
    assert found.startswith("dataset_args is ") and "0.25" in found


@pytest.mark.parametrize(
    ("interval", "updates", "minutes"),
    [
        ("500 updates", 500, None), ("1 update", 1, None), ("10 minutes", None, 10), ("1 minute", None, 1),
        ("null", None, None),
    ],
)  # fmt: skip
def test_a_checkpoint_interval_is_in_updates_or_in_minutes(
    interval: str, updates: int | None, minutes: int | None, write: Write
) -> None:
    config = load_config(write(f"{MINIMAL}\ncheckpoint_interval: {interval}"))
    assert (config.checkpoint_every("updates"), config.checkpoint_every("minutes")) == (updates, minutes)


@pytest.mark.parametrize("interval", ["0 updates", "updates", "5", "5 hours", "-1 minutes", "1.5 minutes", "5updates"])
def test_any_other_checkpoint_interval_is_refused(interval: str, write: Write) -> None:
    with pytest.raises(UserError, match=r"checkpoint_interval is "):
        load_config(write(f"{MINIMAL}\ncheckpoint_interval: {interval}"))


def test_the_nan_policy_is_one_of_two(write: Write) -> None:
    with pytest.raises(UserError, match=r"nan_policy is 'skip': input should be 'stop' or 'skip_update'"):
        load_config(write(f"{MINIMAL}\nnan_policy: skip"))


@pytest.mark.parametrize("output", OUTPUT_HEADS)
def test_the_number_of_classes_is_filled_in_and_statistics_are_left_open(output: str, write: Write) -> None:
    config = load_config(write(f"data_dir: x\ndataset_args: {{output: {output}, mean: null}}\n"))
    assert config.num_classes == {"all": 18, "class": 18, "mask": 3, "gender": 2, "age": 3}[output]
    assert (config.preprocessing["mean"], config.preprocessing["std"]) == (None, None)
    seen = config.with_statistics((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    assert seen.dataset_args == {"output": output, "mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6]}
    assert config.dataset_args == {"output": output, "mean": None}


def test_every_shipped_config_is_whole() -> None:
    paths = sorted((ROOT / "configs").glob("*.yaml"))
    loaded = {path.name: load_config(path) for path in paths}
    assert "demo.yaml" in loaded
    assert len(loaded) == len(paths) >= 1


# Before torch


def test_only_the_first_process_of_a_launch_speaks(write: Write) -> None:
    code = (
        "from maskcls.program import errors_end_the_program\n"
        "from maskcls.config import load_config\n"
        f"with errors_end_the_program(): load_config({str(write('seed: x'))!r})\n"
    )
    for rank, says_something in (("0", True), ("1", False)):
        ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={"LOCAL_RANK": rank})
        assert (ended.returncode, bool(ended.stderr)) == (2, says_something)

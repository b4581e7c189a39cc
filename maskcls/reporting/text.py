"""The English and Korean words of the report and the console.

Error messages, names of scores and config keys are the same in both languages: they are searched for and typed.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Callable, Sequence

from maskcls.errors import UserError, did_you_mean
from maskcls.labels import ATTRIBUTES, decode_class

LANGUAGES = ("en", "ko")


def language(option: str | None) -> str:
    """Returns en or ko: the option, else MASKCLS_LANG, LC_ALL or LANG (the first that is set) when it says ko.

    Raises UserError when the option is another language.
    """
    if option is not None:
        if option not in LANGUAGES:
            near = did_you_mean(option, list(LANGUAGES))
            raise UserError(f"unknown language {option!r} in --lang.{near} Known: {', '.join(LANGUAGES)}")
        return option
    chosen = next(filter(None, (os.environ.get(name) for name in ("MASKCLS_LANG", "LC_ALL", "LANG"))), "")
    return "ko" if re.match("ko([^a-z]|$)", chosen.lower()) else "en"


def words(language: str) -> Callable[..., str]:
    """Returns the look-up of one language: word("people", n=3); names in braces are filled in."""

    def word(key: str, **values: object) -> str:
        return TEXT[key][language].format(**values)

    return word


def class_name(head: str, label: int, word: Callable[..., str]) -> str:
    """Returns a label of a head as a person reads it: not worn · male · 30–59."""
    parts = zip(ATTRIBUTES, decode_class(label), strict=True) if head == "class" else [(head, label)]
    return " · ".join(word(f"{name}_{value}") for name, value in parts)


def width(text: str) -> int:
    """Returns the places that a text takes in the terminal: Hangul takes two each."""
    whole = unicodedata.normalize("NFC", text)  # macOS spells a syllable of a file's name in parts
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in whole)


def padded(text: str, places: int, *, right: bool = False) -> str:
    """Returns the text filled with spaces to a width in the terminal; `right`: it stands at the right."""
    spaces = " " * (places - width(text))
    return spaces + text if right else text + spaces


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Returns rows of cells as text with columns of equal width."""
    widths = [max(map(width, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(map(padded, row, widths)).rstrip() for row in rows)


TEXT: dict[str, dict[str, str]] = {
    key: {"en": english, "ko": korean}
    for key, english, korean in (
        # labels
        ("class", "18 classes", "18개 클래스"),
        ("mask", "mask", "마스크"),
        ("gender", "gender", "성별"),
        ("age", "age group", "나이대"),
        ("race", "race", "인종"),
        ("years", "aged", "나이"),
        ("mask_0", "worn", "착용"),
        ("mask_1", "incorrect", "잘못 착용"),
        ("mask_2", "not worn", "미착용"),
        ("gender_0", "male", "남성"),
        ("gender_1", "female", "여성"),
        ("age_0", "under 30", "30세 미만"),
        ("age_1", "30–59", "30~59세"),
        ("age_2", "60+", "60세 이상"),
        ("f1", "macro-F1", "매크로 F1"),
        ("acc", "accuracy", "정확도"),
        ("all", "all", "전체"),
        # page
        ("title", "Report of {run}", "{run} 보고서"),
        ("kind_of_page", "Report of a run", "학습 보고서"),
        ("skip", "Skip to the content", "본문으로 건너뛰기"),
        ("sections", "Sections", "목차"),
        ("made", "made on {date}", "{date} 작성"),
        ("model", "model", "모델"),
        (
            "validated",
            "{photos} photos of {people} people, none of them trained on",
            "학습에 쓰지 않은 {people}명의 사진 {photos}장",
        ),
        (
            "intervals_note",
            "Below each score its 95% interval, from resampling people and not photos, because the photos "
            "of one person are not independent.",
            "각 지표 아래는 95% 신뢰구간입니다. 한 사람의 사진들은 서로 독립이 아니므로 "
            "사진이 아니라 사람 단위로 재표집했습니다.",
        ),
        ("missing", "Not available: {reason}", "표시할 수 없음: {reason}"),
        (
            "no_script",
            "Charts and filters need JavaScript; all tables can be read without.",
            "차트와 필터에는 JavaScript가 필요합니다. 표는 모두 그대로 읽을 수 있습니다.",
        ),
        # sections
        ("summary", "In a minute", "한눈에 보기"),
        ("comparison", "Comparison", "비교"),
        ("curves", "Learning", "학습 과정"),
        ("confusion", "Confusion", "혼동 행렬"),
        ("slices", "Groups", "집단별 성능"),
        ("calibration", "Calibration", "신뢰도 보정"),
        ("consistency", "Agreement", "개인 일관성"),
        ("mistakes", "Mistakes", "오답"),
        ("data", "Data", "데이터"),
        ("config", "Config", "설정"),
        ("cost", "Time and environment", "시간과 환경"),
        # summary
        ("score", "score", "지표"),
        (
            "says_heads",
            "Best at {best} ({best_value} right), weakest at {worst} ({worst_value}).",
            "가장 잘 맞힌 항목: {best} ({best_value}). 가장 약한 항목: {worst} ({worst_value}).",
        ),
        (
            "says_confusion",
            "The most frequent mistake about {head}: {truth} taken for {predicted}, {count} of {total} "
            "photos ({share}).",
            "{head}에서 가장 잦은 오답: {truth} → {predicted}, {total}장 중 {count}장 ({share}).",
        ),
        (
            "says_gap",
            "Clear difference in {head} accuracy by {group}: {higher} ahead of {lower} by {difference} points.",
            "{head} 정확도의 차이가 뚜렷한 집단({group}): {higher} > {lower}, {difference}%p.",
        ),
        (
            "says_no_gap",
            "No clear difference between genders, age groups or races was found.",
            "성별·나이대·인종 사이에 뚜렷한 차이는 발견되지 않았습니다.",
        ),
        (
            "says_sure",
            "It is surer than it is right: it says {confidence} on average and is right in {accuracy}.",
            "실제보다 확신이 큽니다: 평균 확신 {confidence}, 실제 정확도 {accuracy}.",
        ),
        (
            "says_unsure",
            "It is less sure than it is right: it says {confidence} on average and is right in {accuracy}.",
            "실제보다 확신이 작습니다: 평균 확신 {confidence}, 실제 정확도 {accuracy}.",
        ),
        (
            "says_calibrated",
            "Its confidence can be believed: {confidence} on average, right in {accuracy}.",
            "확신을 믿을 수 있습니다: 평균 확신 {confidence}, 실제 정확도 {accuracy}.",
        ),
        (
            "says_people",
            "{share} of the people get answers that contradict each other (another gender or age group on "
            "another photo).",
            "사진마다 성별이나 나이대 예측이 서로 다른 사람: {share}.",
        ),
        (
            "says_better",
            "Better than {other} by {difference} ({score}): the difference is clear.",
            "{other}보다 {score} {difference} 높음: 차이가 뚜렷합니다.",
        ),
        (
            "says_worse",
            "Worse than {other} by {difference} ({score}): the difference is clear.",
            "{other}보다 {score} {difference} 낮음: 차이가 뚜렷합니다.",
        ),
        (
            "says_alike",
            "Not distinguishable from {other}: {score} differs by {difference}, which is within the noise.",
            "{other}와(과) 구별되지 않음: {score} 차이 {difference}, 오차 범위 안입니다.",
        ),
        # comparison
        (
            "compared",
            "Against {other}, on the {photos} photos of {people} people that both validated. "
            "Positive: this run is better.",
            "{other}와(과) 비교. 두 실행이 모두 검증한 {people}명의 사진 {photos}장 기준. 양수: 이 실행이 더 좋음.",
        ),
        ("difference", "difference", "차이"),
        ("better", "chance to be better", "더 나을 확률"),
        ("verdict", "verdict", "판단"),
        ("clear", "clear", "뚜렷함"),
        ("noise", "within the noise", "오차 범위 안"),
        # curves
        ("loss", "loss", "손실"),
        ("learning_rate", "learning rate", "학습률"),
        ("update", "update", "업데이트"),
        ("epoch", "epoch", "에폭"),
        ("train", "train", "학습"),
        ("valid", "valid", "검증"),
        (
            "best_epoch",
            "Best epoch: {epoch} of {epochs}, chosen by {criterion}.",
            "최고 에폭: {epochs}개 중 {epoch}번째 (기준: {criterion}).",
        ),
        ("every_epoch", "Every epoch as a table", "에폭별 표"),
        ("chart_loss", "Loss by update, training and validation", "업데이트별 학습·검증 손실"),
        ("chart_scores", "Scores by update, training and validation", "업데이트별 학습·검증 지표"),
        ("chart_heads", "Accuracy of each attribute after every epoch", "에폭별 항목 정확도"),
        ("chart_rate", "Learning rate by update", "업데이트별 학습률"),
        # confusion
        (
            "confusion_note",
            "Rows are the truth, columns the answer. Colour is the share of the row. Move the pointer or, "
            "in the table, the arrow keys to read a cell.",
            "행은 정답, 열은 예측입니다. 색은 행 안에서의 비율입니다. 마우스나 화살표 키로 칸을 읽을 수 있습니다.",
        ),
        ("truth", "truth", "정답"),
        ("predicted", "answer", "예측"),
        ("counts", "photos", "장수"),
        ("shares", "% of row", "행 비율 %"),
        ("right_share", "{share} right", "정답 {share}"),
        (
            "cell",
            "{truth} → {predicted}: {count} of {total} photos, {share} of the row",
            "{truth} → {predicted}: {total}장 중 {count}장, 행의 {share}",
        ),
        # slices
        (
            "slices_note",
            "Accuracy within each group with its 95% interval; the dashed line is all photos. Wide "
            "intervals mean few people: do not read a difference into them.",
            "집단별 정확도와 95% 신뢰구간입니다. 점선은 전체 사진입니다. "
            "구간이 넓으면 사람이 적다는 뜻이므로 차이로 읽지 마세요.",
        ),
        ("group", "group", "집단"),
        ("people", "people", "사람"),
        ("photos", "photos", "사진"),
        ("gaps", "Largest differences", "가장 큰 차이"),
        (
            "gaps_note",
            "The largest difference of each kind, among groups of at least 20 people, in percentage points. Clear: the "
            "interval, widened for choosing the largest of several, does not hold 0.",
            "20명 이상인 집단 사이의 가장 큰 차이(%p)입니다. "
            "여러 쌍에서 고른 것을 감안해 넓힌 구간이 0을 포함하지 않으면 뚜렷하다고 봅니다.",
        ),
        ("as_table", "All groups as a table", "전체 표"),
        ("measure", "Measure", "항목"),
        # calibration
        (
            "calibration_note",
            "Of the answers given with a confidence of 80%, about 80% should be right: dots on the line. "
            "Below it the model is too sure, above it too cautious. The size of a dot is the number of photos.",
            "확신 80%로 답한 사진은 약 80%가 맞아야 합니다(대각선). 선 아래는 과신, 위는 지나치게 조심하는 것입니다. "
            "점의 크기는 사진 수입니다.",
        ),
        ("ece", "ECE", "ECE"),
        ("ece_after", "with temperature", "온도 보정 후"),
        ("temperature", "temperature", "온도"),
        ("confidence", "confidence", "확신"),
        # consistency
        (
            "consistency_note",
            "All photos of a person show the same gender and age. Share of people for whom the answers "
            "of their photos differ:",
            "한 사람의 사진은 성별과 나이가 모두 같습니다. 사진마다 예측이 다른 사람의 비율:",
        ),
        ("any", "gender or age group", "성별 또는 나이대"),
        ("suspects", "Labels worth a second look", "다시 확인할 라벨"),
        (
            "suspects_note",
            "The model contradicts these labels most. Either it is wrong, or the folder name is.",
            "모델이 가장 강하게 반대하는 라벨입니다. 모델이 틀렸거나 폴더 이름이 틀렸습니다.",
        ),
        ("profile", "profile", "프로필"),
        ("label", "label", "라벨"),
        ("suspicion", "suspicion", "의심도"),
        ("reason", "reason", "이유"),
        # mistakes
        (
            "mistakes_note",
            "The most confident wrong answers, one per person and kind of mistake. Select one to see all "
            "photos of that person.",
            "가장 확신한 오답입니다(사람과 오답 종류마다 한 장). 선택하면 그 사람의 모든 사진을 볼 수 있습니다.",
        ),
        (
            "attention_note",
            "The second picture shows where the model found evidence for its answer: {method}.",
            "두 번째 그림은 모델이 답의 근거로 본 곳입니다: {method}.",
        ),
        ("rollout", "attention rollout", "어텐션 롤아웃"),
        ("cam", "Grad-CAM", "Grad-CAM"),
        ("no_maps", "What the model looked at is not available: {reason}.", "모델이 본 곳을 표시할 수 없음: {reason}."),
        ("kind", "Kind of mistake", "오답 종류"),
        ("attribute", "Attribute", "항목"),
        ("shown", "{shown} of {total}", "{total}개 중 {shown}개"),
        ("show_more", "Show more", "더 보기"),
        ("none_shown", "No mistake of this kind.", "해당하는 오답이 없습니다."),
        ("no_mistakes", "Not a single mistake.", "오답이 없습니다."),
        ("wrong_photos", "{wrong} of {photos} photos", "사진 {photos}장 중 {wrong}장"),
        ("no_photo", "photo not found", "사진 없음"),
        (
            "photos_gone",
            "{count} photos could not be read from {folder}.",
            "{folder}에서 사진 {count}장을 읽을 수 없습니다.",
        ),
        ("looked_at", "looked at", "본 곳"),
        ("photo", "photo", "사진"),
        ("close", "Close", "닫기"),
        (
            "shrunk",
            "Pictures were made smaller to keep this file below {limit} MB.",
            "파일을 {limit} MB 아래로 유지하기 위해 그림을 줄였습니다.",
        ),
        # data
        ("class_counts", "Photos per class", "클래스별 사진 수"),
        ("sum", "sum", "합계"),
        ("batch", "The first training batch, as the model sees it", "모델이 보는 첫 학습 배치"),
        ("batch_note", "After augmentation: {augmentation}.", "증강 후: {augmentation}."),
        # config
        ("config_note_default", "What differs from the defaults.", "기본값과 다른 설정입니다."),
        ("config_note_run", "What differs from {other}.", "{other}와(과) 다른 설정입니다."),
        ("setting", "setting", "설정"),
        ("this_run", "this run", "이 실행"),
        ("default", "default", "기본값"),
        ("same_config", "No difference.", "차이가 없습니다."),
        # cost
        ("images_per_second", "images/s in training", "학습 이미지/초"),
        ("waiting_share", "share of time waiting for photos", "사진을 기다린 시간 비율"),
        ("peak_memory", "peak memory", "최대 메모리"),
        ("updates", "updates", "업데이트 수"),
        ("epochs", "epochs", "에폭 수"),
        ("training_time", "time in training passes", "학습 시간"),
        ("environment", "Environment", "환경"),
        # console: before the run; labels are 9 places wide in both languages
        ("count_mask_0", "worn", "착용"),
        ("count_mask_1", "incorrect", "잘못 착용"),
        ("count_mask_2", "not_worn", "미착용"),
        ("split_sum", "{people:,} people, {photos:,} photos", "{people:,}명, 사진 {photos:,}장"),
        ("kind_hidden", "hidden", "숨김 파일"),
        ("kind_folder", "in folders", "하위 폴더"),
        ("kind_beside", "beside images/", "images/ 밖의 사진"),
        ("kind_none", "without extension", "확장자 없음"),
        (
            "unread_kinds",
            "warning  photos of a kind that cannot be read are left out: {kinds}. Convert them to JPEG or PNG",
            "경고     읽을 수 없는 형식의 사진 제외: {kinds}. JPEG나 PNG로 변환하세요",
        ),
        ("only_photos", "every file is a photo", "모든 파일이 사진"),
        (
            "passed_over",
            "passed over {count:,} entries that are no photos by their names: {kinds}",
            "이름으로 보아 사진이 아닌 항목 {count:,}개 제외: {kinds}",
        ),
        (
            "start_labels",
            "labels   {photos} photos of {people} people corrected by {path}; {unmatched} rows match no folder",
            "라벨     {path}로 {people}명의 사진 {photos}장 수정, 맞는 폴더가 없는 행 {unmatched}개",
        ),
        (
            "foreign_labels",
            "warning  {unmatched} of the {rows} rows of {path} match no folder: is it about these people? "
            "It corrects {people}",
            "경고     {path}의 행 {rows}개 중 {unmatched}개에 맞는 폴더가 없음: 이 사람들에 대한 파일인가요? "
            "수정된 사람: {people}",
        ),
        (
            "one_colour",
            "warning  {count} photos show nothing, all their pixels have one colour: {paths}",
            "경고     모든 픽셀이 한 가지 색인 사진 {count}장: {paths}",
        ),
        (
            "absent_train",
            "warning  no training photo is of these classes, which cannot be learnt: {classes}",
            "경고     학습 사진이 없어 배울 수 없는 클래스: {classes}",
        ),
        (
            "absent_valid",
            "warning  no validation photo is of these classes, which count 0 in f1: {classes}",
            "경고     검증 사진이 없어 f1에서 0으로 계산되는 클래스: {classes}",
        ),
        (
            "start_model",
            "model    {model}, {parameters:,} parameters, {height} x {width} pixels, output {output}",
            "모델     {model}, 파라미터 {parameters:,}개, {height} x {width} 픽셀, output {output}",
        ),
        (
            "start_devices",
            "devices  {count} x {kind}, precision {precision}",
            "장치     {count} x {kind}, 정밀도 {precision}",
        ),
        (
            "start_update",
            "update   {photos} photos = {devices} devices x {passes} passes x {share:g}; {updates} updates an epoch, "
            "{epochs} epochs",
            "업데이트 사진 {photos}장 = 장치 {devices}개 x 누적 {passes}번 x {share:g}장, 에폭당 업데이트 {updates}번, "
            "총 {epochs}에폭",
        ),
        (
            "long_warmup",
            "warning  the warm-up takes {warmup:,} updates and the run has {total:,}: it never gets to lr {lr:g}. "
            "Lower scheduler_args.warmup_updates",
            "경고     워밍업은 {warmup:,}업데이트인데 학습 전체가 {total:,}업데이트: lr {lr:g}에 이르지 못함. "
            "scheduler_args.warmup_updates를 줄이세요",
        ),
        ("start_run", "run      {path}", "실험     {path}"),
        ("going_on", "going on from {folder}", "이어서 학습: {folder}"),
        ("starting_again", "going on from the start: no state was saved", "처음부터 학습: 저장된 상태가 없음"),
        (
            "all_trained",
            "epochs={epochs} are trained: only scores and report are made again. For more: epochs={more}",
            "epochs={epochs}까지 모두 학습했음: 점수와 보고서만 다시 만듦. 더 학습하려면: epochs={more}",
        ),
        # console: wandb
        (
            "wandb_online",
            "wandb: {run}, pictures of people are uploaded to {server}",
            "wandb: {run}, 사람 사진이 {server}에 업로드됨",
        ),
        (
            "wandb_offline",
            "wandb offline ({reason}): nothing leaves this machine. To upload it: {command}",
            "wandb 오프라인 ({reason}): 이 컴퓨터 밖으로 나가는 것이 없음. 업로드하려면: {command}",
        ),
        (
            "wandb_off",
            "wandb is off ({reason}): nothing leaves this machine",
            "wandb 꺼짐 ({reason}): 이 컴퓨터 밖으로 나가는 것이 없음",
        ),
        ("wandb_configured", "as configured", "설정대로"),
        ("wandb_says", "wandb's settings say {mode}", "wandb 설정: {mode}"),
        ("wandb_no_login", "not logged in", "로그인하지 않음"),
        ("wandb_unreachable", "{host} is not reachable: {problem}", "{host}에 연결할 수 없음: {problem}"),
        ("wandb_failed", "{mode} failed: {problem}", "{mode} 실패: {problem}"),
        # console: the run
        ("epoch_of", "epoch {epoch}/{epochs}", "에폭 {epoch}/{epochs}"),
        ("is_best", "best", "최고"),
        ("speed", "images/s", "장/초"),
        ("waiting", "waiting", "대기"),
        (
            "advice_disk",
            "advice   {share:.0%} of the time waits for photos: put cache_dir on a faster disk",
            "조언     시간의 {share:.0%}를 사진을 기다리는 데 씀: cache_dir을 더 빠른 디스크에 두세요",
        ),
        (
            "advice_cache",
            "advice   {share:.0%} of the time waits for photos: set cache: memory_map, or raise num_workers",
            "조언     시간의 {share:.0%}를 사진을 기다리는 데 씀: cache: memory_map으로 하거나 num_workers를 늘리세요",
        ),
        (
            "advice_bf16",
            "advice   this processor has bf16: --config_file {file} trains 1.5 to 2 times faster",
            "조언     이 프로세서는 bf16을 지원함: --config_file {file}로 1.5~2배 빨라집니다",
        ),
        (
            "advice_precision",
            "advice   the GPU computes in float32: accelerate launch --mixed_precision {precision} is faster",
            "조언     GPU가 float32로 계산 중: accelerate launch --mixed_precision {precision}이 더 빠름",
        ),
        (
            "stopped",
            "stopped: {criterion} has not been better for {epochs} epochs",
            "조기 종료: {epochs}에폭 동안 {criterion} 개선 없음",
        ),
        (
            "best_score",
            "best valid/{criterion} {value:.4f} in epoch {epoch}; {duration} in all",
            "최고 valid/{criterion} {value:.4f} (에폭 {epoch}), 총 {duration}",
        ),
        ("in_brackets", "in brackets: 95 % interval over people", "대괄호 안: 사람 단위 95% 신뢰구간"),
        ("where_model", "model {path}", "모델 {path}"),
        ("where_report", "report {path}", "보고서 {path}"),
        (
            "no_report",
            "warning: {reason}. Everything else is there; to make the report again: {command}",
            "경고: {reason}. 나머지는 모두 저장됨. 보고서를 다시 만들려면: {command}",
        ),
        ("next_command", "next: {command}", "다음: {command}"),
        ("duration_seconds", "{seconds} s", "{seconds}초"),
        ("duration_minutes", "{minutes} min {seconds:02d} s", "{minutes}분 {seconds:02d}초"),
        ("duration_hours", "{hours} h {minutes:02d} min", "{hours}시간 {minutes:02d}분"),
        # console: prediction
        (
            "trained_on",
            "warning: the run was trained on {seen:,} of these {people:,} people: the scores tell what it "
            "remembers, too, not only how it does on others",
            "경고: 이 {people:,}명 중 {seen:,}명은 학습에 쓰인 사람입니다. 점수에는 다른 사람에 대한 성능만이 아니라 "
            "기억한 것도 들어 있습니다",
        ),
        ("predicting", "predicting", "예측 중"),
        ("photo_unit", "photo", "사진"),
        (
            "num_predicted",
            "{photos:,} photos in {duration}, precision {precision}",
            "사진 {photos:,}장, {duration}, 정밀도 {precision}",
        ),
        ("where_answers", "answers {answers}, probabilities {probabilities}", "답 {answers}, 확률 {probabilities}"),
        # console: check
        ("looking", "looking", "검사 중"),
        ("error", "error", "오류"),
        ("warning", "warning", "경고"),
        ("note", "note", "참고"),
        ("one_error", "{count} error", "오류 {count}건"),
        ("one_warning", "{count} warning", "경고 {count}건"),
        ("one_note", "{count} note", "참고 {count}건"),
        ("errors", "{count} errors", "오류 {count}건"),
        ("warnings", "{count} warnings", "경고 {count}건"),
        ("notes", "{count} notes", "참고 {count}건"),
        ("more", "{count} more", "{count}건 더"),
        ("more_hidden", "{count} more, see --fix-report", "{count}건 더, 전체는 --fix-report로"),
        ("found", "found    {what}", "결과     {what}"),
        ("found_written", "found    {what}; all in {path}", "결과     {what}, 전체는 {path}"),
        ("found_nothing", "nothing to tell", "알릴 것 없음"),
        (
            "estimate_time",
            "time     {update:.2f} s an update ({speed:.0f} photos/s), {epoch} an epoch, {run} for {epochs}",
            "시간     업데이트당 {update:.2f}초 (초당 사진 {speed:.0f}장), 에폭당 {epoch}, {epochs}에폭에 {run}",
        ),
        ("estimate_memory", "memory   {memory:.1f} GB a process", "메모리   프로세스당 {memory:.1f} GB"),
        (
            "kept_on_device",
            ", {kept:.1f} GB of it photos that stay on the device",
            ", 그중 {kept:.1f} GB는 장치에 남겨 두는 사진",
        ),
        (
            "estimate_disk",
            "disk     run {run:,.0f} MB (two states of {state:,.0f} MB, best/), decoded photos {cache:,.0f} MB, "
            "free {free:,.1f} GB",
            "디스크   실험 {run:,.0f} MB ({state:,.0f} MB 상태 2개와 best/), 디코딩한 사진 {cache:,.0f} MB, "
            "남은 공간 {free:,.1f} GB",
        ),
        ("go", "go", "go: 학습 가능"),
        ("go_warned", "go, with {warnings} to look at", "go: 학습 가능, 살펴볼 {warnings}"),
        (
            "no_go_data",
            "no go: {errors} in photos or lists. Training would stop or be wrong",
            "no go: 사진이나 목록에 {errors}. 학습이 멈추거나 잘못됩니다",
        ),
        (
            "no_go_disk",
            "no go: the disk of {name} {folder} has no room for a run",
            "no go: {name} {folder} 디스크에 실험을 위한 공간이 부족함",
        ),
        # command
        ("written", "report {path} ({size})", "보고서 {path} ({size})"),
    )
}

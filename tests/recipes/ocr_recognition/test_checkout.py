"""Recognisers of a PaddleOCR checkout, which ``PADDLEOCR_CHECKOUT`` names; its own requirements must be installed."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import paddle
import pytest

pytest.importorskip("cv2", reason="needs the ocr extra")
pytest.importorskip("rapidfuzz", reason="needs the ocr extra")
pytest.importorskip("matplotlib", reason="needs its fonts")

from paddle_warm_callbacks import CheckpointStore
from paddle_warm_callbacks.errors import InvalidArgumentError
from recipes.ocr_recognition import train
from recipes.ocr_recognition.checkout import Checkout
from recipes.ocr_recognition.dictionary import read_dictionary
from recipes.ocr_recognition.rendering import DataSet, Lines, write_text_lines

CHECKOUT = Path(os.environ.get("PADDLEOCR_CHECKOUT", ""))
REC = CHECKOUT / "configs" / "rec"
pytestmark = pytest.mark.filterwarnings("ignore")  # what the checkout's code warns of is its own affair
needs_checkout = pytest.mark.skipif(not CHECKOUT.name, reason="PADDLEOCR_CHECKOUT is not set")

# File, height and width, and the number of tensors with rows of characters; a checkout has the files of its time. Not
# PP-OCRv3 as it was in 2024, en_PP-OCRv3_rec.yml: its SAR head fails in its own code (paddle.minimum of int64, int32).
MODELS = [
    ("rec_mv3_none_none_ctc.yml", (32, 64), 2),
    ("rec_mv3_none_bilstm_ctc.yml", (32, 64), 2),
    ("rec_svtrnet.yml", (64, 256), 2),
    ("PP-OCRv3/en_PP-OCRv3_mobile_rec.yml", (48, 64), 5),
    ("PP-OCRv4/en_PP-OCRv4_rec.yml", (48, 64), 4),
    ("PP-OCRv4/en_PP-OCRv4_mobile_rec.yml", (48, 64), 4),
    ("PP-OCRv5/PP-OCRv5_mobile_rec.yml", (48, 64), 4),
    ("PP-OCRv5/PP-OCRv5_server_rec.yml", (48, 64), 4),
    ("SVTRv2/ch_SVTRv2_rec.yml", (48, 64), 4),
]


@pytest.fixture(scope="module")
def lines(tmp_path_factory: pytest.TempPathFactory) -> tuple[DataSet, DataSet]:
    folder = tmp_path_factory.mktemp("data") / "lines"
    return write_text_lines(folder, lines=Lines(old=8, kept=4, new=4, val=4), seed=7)


def opened(file: Path, data: DataSet) -> Checkout:
    characters = read_dictionary(data.dictionary)
    return Checkout.open(CHECKOUT, file, data.dictionary, characters, use_space_char=False)


def fine_tune(folder: Path, file: Path, old: DataSet, new: DataSet, checkpoint: Path, *overrides: str) -> str:
    """Run the recipe from a checkpoint, in ``folder/run``; return what it printed."""
    arguments = [
        *(f"data.{name}={path}" for name, path in vars(new).items()),
        *(f"model.checkout={CHECKOUT}", f"model.config={file}", f"old_labels={old.dictionary}"),
        *(f"checkpoint={checkpoint}", f"output={folder / 'run'}"),
    ]
    done = subprocess.run(
        [sys.executable, train.__file__, *arguments, *overrides], capture_output=True, text=True, timeout=500
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def trained(run_dir: Path) -> Any:
    checkpoint = CheckpointStore(str(run_dir)).latest_verified()
    assert checkpoint is not None
    return checkpoint


@needs_checkout
@pytest.mark.recipes
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("file", "size", "moved"), MODELS)
def test_a_distilled_file_of_the_official_layout_fills_all_of_the_network(
    tmp_path: Path, lines: tuple[DataSet, DataSet], file: str, size: tuple[int, int], moved: int
) -> None:
    if not (REC / file).exists():
        pytest.skip(f"this checkout has no {file}")
    old, new = lines
    network = opened(REC / file, old).network()
    given = {name: tensor.numpy() for name, tensor in network.state_dict().items()}
    others = {f"Teacher.{name}": tensor * 0 for name, tensor in network.state_dict().items()}
    students = {f"Student.{name}": tensor for name, tensor in network.state_dict().items()}
    paddle.save({**others, **students}, str(tmp_path / "best_accuracy.pdparams"))
    sizes = [f"data.height={size[0]}", f"data.width={size[1]}", "data.max_length=3"]
    short = [
        "train.epochs=1",
        "train.batch_size=4",
        "train.unfreeze=staged",
        "compare_cold=false",
        "compare_dropped=false",
    ]
    printed = fine_tune(tmp_path, REC / file, old, new, tmp_path / "best_accuracy.pdparams", *sizes, *short)
    count = len(given)
    assert f"{count - moved} tensors loaded, {moved} transplanted, 0 not, of {count};" in printed
    # One epoch of stage 0: the head alone was trained, so backbone and neck are still the file's, to the bit.
    after = trained(tmp_path / "run" / "new").read_model()
    assert set(after) == set(given)
    for name, array in after.items():
        assert name.startswith("head.") or array.tobytes() == given[name].tobytes(), name


@needs_checkout
@pytest.mark.recipes
@pytest.mark.timeout(600)
def test_paddleocrs_own_evaluation_takes_the_checkpoint_and_finds_what_we_found(tmp_path: Path) -> None:
    file = REC / "rec_mv3_none_none_ctc.yml"
    counts = Lines(old=1, kept=4, new=4, val=12)
    old, new = write_text_lines(tmp_path / "lines", known="AB", new="cd", lines=counts)
    # A network that says A whatever it sees: right now and then, and near it elsewhere.
    weights = opened(file, old).network().state_dict()
    weights["head.fc.bias"].set_value(paddle.to_tensor([0.0, 100.0, 0.0]))
    paddle.save(weights, str(tmp_path / "always_a.pdparams"))
    overrides = [
        *("data.height=32", "data.width=100", "data.max_length=3"),
        *(
            "train.lr=1e-12",
            "train.epochs=1",
            "train.batch_size=4",
            "compare_cold=false",
            "compare_dropped=false",
        ),
    ]
    fine_tune(tmp_path, file, old, new, tmp_path / "always_a.pdparams", *overrides)
    logs = (tmp_path / "run" / "vdl" / "new" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    ours = {record["tag"]: record["value"] for record in map(json.loads, logs)}
    assert 0 < ours["eval/acc"] < ours["eval/edit"] < 1
    done = subprocess.run(
        [
            *(sys.executable, "tools/eval.py", "-c", str(file), "-o", "Global.use_gpu=false"),
            f"Global.pretrained_model={trained(tmp_path / 'run' / 'new').path}/model",
            f"Global.character_dict_path={new.dictionary}",
            "Eval.dataset.name=SimpleDataSet",
            f"Eval.dataset.data_dir={new.val.parent}",
            f"Eval.dataset.label_file_list=['{new.val}']",
            *("Eval.loader.num_workers=0", "Eval.loader.batch_size_per_card=16"),
        ],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    printed = done.stdout + done.stderr
    assert done.returncode == 0, printed
    theirs = {name: float(value) for name, value in re.findall(r"(acc|norm_edit_dis):([\d.e-]+)", printed)}
    assert theirs["acc"] == pytest.approx(ours["eval/acc"], abs=1e-4)
    assert theirs["norm_edit_dis"] == pytest.approx(ours["eval/edit"], abs=1e-4)


@needs_checkout
def test_what_ctc_does_not_read_is_refused(lines: tuple[DataSet, DataSet]) -> None:
    with pytest.raises(InvalidArgumentError, match="NRTRLabelDecode"):
        opened(REC / "rec_mtb_nrtr.yml", lines[1])
    (distillation,) = (REC / "PP-OCRv3").glob("*PP-OCRv3_*rec_distillation.yml")
    with pytest.raises(InvalidArgumentError, match=r"(?s)DistillationCTCLabelDecode.*the student's own"):
        opened(distillation, lines[1])


def test_a_folder_that_is_no_checkout_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        InvalidArgumentError, match=r"(?s)not a PaddleOCR checkout.*ppocr/, tools/ and configs/"
    ):
        Checkout.open(tmp_path, tmp_path / "rec.yml", tmp_path / "d.txt", ["a"], use_space_char=False)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ppocr" / "modeling").mkdir(parents=True)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "broken.yml").write_text("Global: [", encoding="utf-8")
    for file in ("typo.yml", "broken.yml"):
        with pytest.raises(InvalidArgumentError, match=rf"(?s)model\.config.*{file}"):
            Checkout.open(tmp_path, tmp_path / file, tmp_path / "d.txt", ["a"], use_space_char=False)

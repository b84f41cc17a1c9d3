"""Resume wins over warm, warm over cold; each says what it did; nothing is silent."""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path
from typing import Any

import paddle
import pytest

from paddle_warm_callbacks import (
    CheckpointStore,
    EveryNEpochs,
    EveryNSteps,
    HeadTransplant,
    KeepBest,
    KeepLatest,
    PeriodicCheckpoint,
    WarmStartCallback,
)
from paddle_warm_callbacks.errors import (
    CoverageError,
    InvalidArgumentError,
    NoUsableCheckpointError,
    SourceError,
)
from tests.callbacks.runs import (
    STEPS,
    Losses,
    Points,
    bits,
    fit,
    interrupted_run,
    model,
    resumed,
)


@pytest.mark.parametrize("after", [(0, 0), (1, 0), (1, STEPS - 2)])
def test_the_same_command_again_goes_on_to_the_bit(tmp_path: Path, after: tuple[int, int]) -> None:
    control = Losses()
    uninterrupted = model()
    fit(uninterrupted, PeriodicCheckpoint(str(tmp_path / "control")), control)
    interrupted_run(tmp_path, after)
    continued, losses = model(), Losses()
    warm = resumed(tmp_path)
    fit(continued, warm, PeriodicCheckpoint(str(tmp_path)), losses)
    assert losses.seen == {at: loss for at, loss in control.seen.items() if at > after}
    assert bits(continued) == bits(uninterrupted)
    assert warm.report is not None
    assert warm.report.kind == "resume"
    assert warm.report.share_loaded == 1.0
    assert set(warm.report.optimizer_restored) == {"body.weight", "body.bias", "fc.weight", "fc.bias"}
    assert any("index work only" in note for note in warm.report.notes)


def test_a_resume_wins_over_a_source(tmp_path: Path) -> None:
    interrupted_run(tmp_path)
    source = model(seed=9).network
    warm = resumed(tmp_path, source=source)
    fit(model(), warm, epochs=2)
    assert warm.report is not None
    assert warm.report.resumed_from == f"step-{STEPS + 1:08d}"


def test_without_a_checkpoint_the_source_is_taken(tmp_path: Path) -> None:
    source, trained = model(seed=9), model()
    start = StartBits()
    warm = resumed(tmp_path, source=source.network)
    fit(trained, warm, start)
    assert warm.report is not None
    assert (warm.report.kind, warm.report.share_loaded) == ("warm", 1.0)
    assert start.bits == bits(source)


class StartBits(paddle.callbacks.Callback):  # type: ignore[misc]
    """The parameters as the first step finds them."""

    bits: dict[str, bytes] | None = None

    def on_train_batch_begin(self, step: int, logs: Any = None) -> None:
        self.bits = self.bits or bits(self.model)


def test_without_either_it_is_cold_and_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    warm = resumed(tmp_path / "new")
    with caplog.at_level(logging.INFO, "paddle_warm_callbacks"):
        fit(model(), warm)
    assert warm.report is not None
    assert warm.report.kind == "cold"
    assert "cold start" in caplog.text


def test_a_head_grows_from_a_saved_model(tmp_path: Path) -> None:
    old = model(classes=2)
    old.save(str(tmp_path / "old"))
    grown, start = model(classes=3, seed=4), StartBits()
    warm = WarmStartCallback(
        str(tmp_path / "old.pdparams"), head=HeadTransplant("fc", ["a", "b"], ["c", "b", "a"])
    )
    fit(grown, warm, start)
    assert warm.report is not None
    assert warm.report.transplanted == ("fc.weight", "fc.bias")
    fresh = model(classes=3, seed=4).network
    fresh.body.weight.set_value(old.network.body.weight)
    weight = fresh.fc.weight.numpy()
    weight[:, 1], weight[:, 2] = old.network.fc.weight.numpy()[:, 1], old.network.fc.weight.numpy()[:, 0]
    assert start.bits is not None
    assert start.bits["fc.weight"] == weight.tobytes()
    assert start.bits["body.weight"] == old.network.body.weight.numpy().tobytes()


def test_what_is_probably_not_meant_is_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    model(classes=3).save(str(tmp_path / "old"))

    def warnings(head: HeadTransplant | None) -> list[str]:
        caplog.clear()
        fit(
            model(classes=3 if head else 4),
            WarmStartCallback(str(tmp_path / "old"), head=head, min_loaded=0.1),
        )
        return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]

    old = ["scratch", "dent", "spot"]
    assert warnings(HeadTransplant("fc", old, ["dent", "scratch", "spot"])) == []
    (misspelt,) = warnings(HeadTransplant("fc", old, ["dent", "scrach", "spot"]))
    assert "'scrach' is a new label, and the old label 'scratch' is dropped" in misspelt
    (without_head,) = warnings(None)
    assert "fc has 4 outputs here and 3 in the source" in without_head
    assert 'head=HeadTransplant("fc", old_labels=[…], new_labels=[…])' in without_head


def test_the_log_has_the_table_of_layers_only_in_detail(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model().save(str(tmp_path / "old"))
    for level, in_detail in ((logging.INFO, False), (logging.DEBUG, True)):
        caplog.clear()
        with caplog.at_level(level, "paddle_warm_callbacks"):
            fit(model(), WarmStartCallback(str(tmp_path / "old")))
        assert "4 tensors loaded, 0 transplanted, 0 not, of 4; 100.0% of parameters" in caplog.text
        assert ("layer  loaded  transplanted  not loaded" in caplog.text) == in_detail


def test_old_labels_come_from_the_source_metadata(tmp_path: Path) -> None:
    fit(model(classes=3), PeriodicCheckpoint(str(tmp_path), metadata={"labels": ["a", "b", "c"]}))
    warm = WarmStartCallback(str(tmp_path), head=HeadTransplant("fc", None, ["c", "d", "a", "b"]))
    fit(model(classes=4), warm)
    assert warm.report is not None
    assert warm.report.transplanted == ("fc.weight", "fc.bias")
    model().save(str(tmp_path / "plain"))
    with pytest.raises(InvalidArgumentError, match="old labels are not known"):
        fit(
            model(),
            WarmStartCallback(str(tmp_path / "plain.pdparams"), head=HeadTransplant("fc", None, ["x"])),
        )


def test_too_little_loaded_is_an_error(tmp_path: Path) -> None:
    stranger = paddle.nn.Linear(2, 2)
    paddle.save(stranger.state_dict(), str(tmp_path / "stranger.pdparams"))
    with pytest.raises(CoverageError):
        fit(model(), WarmStartCallback(str(tmp_path / "stranger.pdparams")))


def test_a_source_that_is_not_there_is_an_error_that_lists_what_was_tried(tmp_path: Path) -> None:
    with pytest.raises(SourceError) as caught:
        fit(model(), WarmStartCallback(str(tmp_path / "nowhere.pdparams")))
    assert "nowhere.pdparams" in str(caught.value)


def test_checkpoints_of_which_none_verifies_are_never_a_cold_start(tmp_path: Path) -> None:
    interrupted_run(tmp_path)
    for file in tmp_path.glob("checkpoints/*/model.pdparams"):
        file.write_bytes(file.read_bytes()[:-7])
    with pytest.raises(NoUsableCheckpointError):
        fit(model(), resumed(tmp_path))


def test_a_damaged_newest_steps_back_and_says_why(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    interrupted_run(tmp_path, (1, 1))
    newest = CheckpointStore(str(tmp_path)).list()[-1]
    file = Path(newest.path) / "model.pdopt"
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 4
    file.write_bytes(data)
    control, continued = model(), model()
    fit(control, PeriodicCheckpoint(str(tmp_path / "control")))
    warm = resumed(tmp_path)
    fit(continued, warm, PeriodicCheckpoint(str(tmp_path), save=EveryNSteps(1)))
    assert warm.report is not None
    assert warm.report.resumed_from == f"step-{STEPS + 1:08d}"
    assert newest.name in caplog.text
    assert "model.pdopt" in caplog.text
    assert bits(continued) == bits(control)


def test_the_best_can_be_resumed(tmp_path: Path) -> None:
    keep = KeepBest("acc") | KeepLatest(1)
    fit(model(), PeriodicCheckpoint(str(tmp_path), keep=keep), epochs=4, eval_data=Points())
    store = CheckpointStore(str(tmp_path))
    best = store.best()
    assert best is not None
    warm = WarmStartCallback(run_dir=str(tmp_path), resume_from="best")
    fit(model(), warm, PeriodicCheckpoint(str(tmp_path), keep=keep), epochs=5, eval_data=Points())
    assert warm.report is not None
    assert warm.report.resumed_from == best.name
    newest = store.list()[-1]
    assert newest.progress.epoch == 5


def test_an_explicit_checkpoint_can_be_resumed(tmp_path: Path) -> None:
    interrupted_run(tmp_path, (1, 1))
    first = CheckpointStore(str(tmp_path)).list()[0]
    control, continued = model(), model()
    fit(control, PeriodicCheckpoint(str(tmp_path / "control")))
    warm = WarmStartCallback(resume_from=first.path)
    fit(continued, warm)
    assert warm.report is not None
    assert warm.report.resumed_from == first.name
    assert bits(continued) == bits(control)


def test_an_explicit_checkpoint_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SourceError):
        fit(model(), WarmStartCallback(resume_from=str(tmp_path / "gone")))


def test_a_misspelt_latest_is_told_as_such_and_a_path_as_a_path(tmp_path: Path) -> None:
    for given, meant in (("lastest", "latest"), ("Best", "best")):
        with pytest.raises(SourceError) as caught:
            fit(model(), WarmStartCallback(run_dir=str(tmp_path), resume_from=given))
        assert caught.value.remedy == f"did you mean {meant!r}?"
    with pytest.raises(SourceError) as caught:
        fit(model(), WarmStartCallback(resume_from=str(tmp_path / "latest")))
    assert "'latest'" not in caught.value.remedy


def test_what_is_no_place_to_resume_from_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgumentError, match="not a place to resume from"):
        WarmStartCallback(run_dir=tmp_path, resume_from=True)  # type: ignore[arg-type]


def test_a_second_start_is_refused_before_it_replaces_what_was_resumed(tmp_path: Path) -> None:
    interrupted_run(tmp_path)
    trained = model(seed=3)
    before = bits(trained)
    second = WarmStartCallback(model(seed=9).network)
    with pytest.raises(InvalidArgumentError, match="a fit starts once") as caught:
        fit(trained, resumed(tmp_path), second)
    assert "2 WarmStartCallback" in caught.value.received
    assert bits(trained) == before
    fit(trained, resumed(tmp_path))
    assert bits(trained) != before


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"resume_from": "latest"}, "of which run"),
        ({"min_loaded": 50}, "0 to 1"),
        ({"min_loaded": -1}, "at least 0"),
        ({"source": "x", "include": "("}, "not a regular expression"),
        ({"on_change": "guess"}, "'raise' | 'adapt'"),
        ({"head": HeadTransplant("fc", ["a"], ["b"])}, "there is none"),
    ],
)
def test_wrong_arguments_are_refused_at_once(arguments: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        WarmStartCallback(**arguments)
    assert says in str(caught.value)


def test_epoch_saves_hold_what_the_evaluation_did(tmp_path: Path) -> None:
    stopping = paddle.callbacks.EarlyStopping("acc", patience=9, verbose=0, save_best_model=False)
    fit(
        model(),
        PeriodicCheckpoint(str(tmp_path), save=EveryNEpochs(1)),
        stopping,
        epochs=1,
        eval_data=Points(),
    )
    state = CheckpointStore(str(tmp_path)).list()[-1].read_state()
    assert state["callbacks"]["EarlyStopping"]["stopped_epoch"] == 1


def test_a_heads_moments_come_from_a_checkpoint_of_ours_alone(tmp_path: Path) -> None:
    fit(model(), PeriodicCheckpoint(tmp_path / "old", metadata={"labels": ["a", "b", "c"]}), epochs=1)
    head = HeadTransplant("fc", None, ["a", "b", "c", "d"], moments=True)
    start = WarmStartCallback(tmp_path / "old", head=head)
    fit(model(classes=4, seed=3), start, epochs=1)
    assert start.report is not None
    assert start.report.optimizer_restored == ("fc.weight", "fc.bias")
    paddle.save(model().network.state_dict(), str(tmp_path / "old.pdparams"))
    bare = HeadTransplant("fc", ["a", "b", "c"], ["a", "b", "c", "d"], moments=True)
    with pytest.raises(InvalidArgumentError, match="optimizer state"):
        fit(model(classes=4), WarmStartCallback(str(tmp_path / "old.pdparams"), head=bare))


def test_a_part_of_a_nested_file_is_taken_by_name(tmp_path: Path) -> None:
    plain, averaged = model(seed=1), model(seed=2)
    nested = {"state_dict": plain.network.state_dict(), "ema": {"model": averaged.network.state_dict()}}
    paddle.save(nested, str(tmp_path / "nested.pdparams"))
    seen = StartBits()
    fit(model(), WarmStartCallback(str(tmp_path / "nested.pdparams"), part="ema.model"), seen, epochs=1)
    assert seen.bits == bits(averaged)
    with pytest.raises(SourceError, match="one of state_dict, ema"):
        fit(model(), WarmStartCallback(str(tmp_path / "nested.pdparams"), part="emma"))
    with pytest.raises(SourceError, match="part="):
        fit(model(), WarmStartCallback(str(tmp_path / "nested.pdparams")))


def test_paddles_own_pretrained_file_is_taken_from_its_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "resnet18.pdparams"
    paddle.save(model(seed=2).network.state_dict(), str(path))
    md5 = hashlib.md5(path.read_bytes()).hexdigest()
    url = "https://example.invalid/resnet18.pdparams"
    monkeypatch.setattr(paddle.utils.download, "WEIGHTS_HOME", str(tmp_path))
    monkeypatch.setitem(paddle.vision.models.resnet.model_urls, "resnet18", (url, md5))
    seen = StartBits()
    fit(model(), WarmStartCallback("paddle.vision:resnet18"), seen, epochs=1)
    assert seen.bits == bits(model(seed=2))
    with pytest.raises(SourceError, match="resnet50"):
        fit(model(), WarmStartCallback("paddle.vision:resnet19"))


def test_a_pretrained_file_that_cannot_be_had_says_where_to_put_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> str:
        raise RuntimeError("Downloading from https://example.invalid failed")

    monkeypatch.setattr(paddle.utils.download, "WEIGHTS_HOME", str(tmp_path))
    monkeypatch.setattr(paddle.utils.download, "get_weights_path_from_url", refuse)
    with pytest.raises(SourceError, match=str(tmp_path / "resnet18.pdparams")):
        fit(model(), WarmStartCallback("paddle.vision:resnet18"))


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def test_resuming_where_no_checkpoint_goes_is_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fit(
        model(),
        WarmStartCallback(run_dir=tmp_path / "a", resume_from="latest"),
        PeriodicCheckpoint(tmp_path / "b"),
    )
    (said,) = warnings_of(caplog)
    assert str(tmp_path / "a") in said
    assert str(tmp_path / "b") in said
    caplog.clear()
    fit(model(), WarmStartCallback(run_dir=tmp_path / "c", resume_from="latest"))
    assert "there is no PeriodicCheckpoint" in warnings_of(caplog)[0]
    caplog.clear()
    fit(
        model(),
        PeriodicCheckpoint(tmp_path / "d"),
        WarmStartCallback(run_dir=tmp_path / "d", resume_from="latest"),
    )
    assert warnings_of(caplog) == []


def test_beginning_anew_in_a_run_that_has_checkpoints_is_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fit(model(), PeriodicCheckpoint(tmp_path))
    assert warnings_of(caplog) == []
    fit(model(), PeriodicCheckpoint(tmp_path))
    (said,) = warnings_of(caplog)
    assert f"{tmp_path} holds" in said
    assert 'resume_from="latest"' in said

"""A run started from a registry's model: it starts there, it knows its descent, and still does after it was killed."""

from __future__ import annotations

from pathlib import Path

import paddle
import pytest

from paddle_warm_callbacks import (
    CheckpointStore,
    EveryNSteps,
    PeriodicCheckpoint,
    Registry,
    RegistryError,
    WarmStartCallback,
)
from paddle_warm_callbacks.checkpoint.registry.references import ROOT_VARIABLE
from tests.callbacks.runs import Interrupted, Losses, bits, fit, model


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registry:
    monkeypatch.setenv(ROOT_VARIABLE, str(tmp_path / "models"))
    return Registry(tmp_path / "models")


class AtStart(paddle.callbacks.Callback):  # type: ignore[misc]
    """The parameters as the first step finds them."""

    bits: dict[str, bytes] | None = None

    def on_train_batch_begin(self, step: int, logs: object = None) -> None:
        self.bits = self.bits or bits(self.model)


def test_a_run_starts_from_a_tag_and_records_the_version_it_stood_for(
    tmp_path: Path, registry: Registry
) -> None:
    base = model(seed=9)
    fit(base, PeriodicCheckpoint(tmp_path / "base"), epochs=1)
    pushed = registry.push(tmp_path / "base", "defects")
    registry.tag("defects@1", "production")
    start, warm = AtStart(), WarmStartCallback("registry://defects@production")
    fit(model(), warm, PeriodicCheckpoint(tmp_path / "child"), start, epochs=1)
    assert start.bits == bits(base)
    assert warm.report is not None
    assert warm.report.source == "registry://defects@1"
    child = CheckpointStore(tmp_path / "child").latest_verified()
    assert child is not None
    assert child.manifest.parent == pushed.digest
    assert (pushed.device, pushed.writer["paddle"]) == (paddle.device.get_device(), paddle.__version__)
    assert child.manifest.metadata["ancestry"] == [
        {"source": "registry://defects@1", "digest": pushed.digest}
    ]


def test_lineage_leads_from_a_killed_and_resumed_head_to_imagenet(tmp_path: Path, registry: Registry) -> None:
    paddle.save(model(seed=9).network.state_dict(), str(tmp_path / "imagenet.pdparams"))
    # A file that nobody pushed, then two generations, the second interrupted in the middle and resumed.
    fit(
        model(),
        WarmStartCallback(tmp_path / "imagenet.pdparams"),
        PeriodicCheckpoint(tmp_path / "a"),
        epochs=1,
    )
    registry.push(tmp_path / "a", "plastics", metadata={"data_source": "line 3"})

    def run(*more: paddle.callbacks.Callback) -> None:
        start = WarmStartCallback("registry://plastics", run_dir=tmp_path / "b", resume_from="latest")
        fit(model(), start, PeriodicCheckpoint(tmp_path / "b", save=EveryNSteps(1)), *more, epochs=2)

    with pytest.raises(Interrupted):
        run(Losses(fail_after=(0, 1)))
    run()
    registry.push(tmp_path / "b", "defects")
    links = registry.lineage("defects")
    assert [link.source for link in links] == ["defects@1", "plastics@1", str(tmp_path / "imagenet.pdparams")]
    assert [link.version is not None for link in links] == [True, True, False]


def test_a_model_that_is_not_there_ends_fit_before_it_trains(tmp_path: Path, registry: Registry) -> None:
    trained, losses = model(), Losses()
    with pytest.raises(RegistryError, match="no such model"):
        fit(trained, WarmStartCallback("registry://absent"), losses)
    assert losses.seen == {}

"""The report: grouped by layer, honest about shares, and the same after JSON."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paddle_warm_callbacks.errors import InvalidArgumentError
from paddle_warm_callbacks.plan.report import RestoreReport

names = st.lists(st.text(max_size=8), max_size=4).map(tuple)
reasons = st.lists(st.tuples(st.text(max_size=8), st.text(max_size=8)), max_size=4).map(tuple)
REPORT = RestoreReport(
    "warm",
    source="resnet50.pdparams",
    loaded=("conv1.weight", "layer1.0.conv1.weight", "layer1.0.bn1.weight", "layer10.0.conv1.weight"),
    transplanted=("fc.weight", "fc.bias"),
    labels_kept=("dent", "scratch"),
    labels_new=("spot",),
    skipped=(("layer2.0.conv1.weight", "shape differs"), ("neck.weight", "missing in the source")),
    unused=("old.weight",),
    share_loaded=0.9996,
    warnings=("layer2.0 begins anew",),
    notes=("4 tensors converted to float32",),
)


def test_the_table_is_grouped_by_layer_and_says_why() -> None:
    assert REPORT.to_text().splitlines() == [
        (
            "warm start from resnet50.pdparams: 4 tensors loaded, 2 transplanted, 2 not, of 8; "
            "more than 99.9% of parameters"
        ),
        "",
        "layer            loaded  transplanted  not loaded",
        "---------------  ------  ------------  ----------",
        "conv1                 1",
        "fc                                  2",
        "layer1.0.bn1          1",
        "layer1.0.conv1        1",
        "layer2.0.conv1                                  1",
        "layer10.0.conv1       1",
        "neck                                            1",
        "not loaded, shape differs (1): layer2.0.conv1.weight",
        "not loaded, missing in the source (1): neck.weight",
        "transplanted by label (2): fc.weight, fc.bias",
        "labels kept (2): dent, scratch",
        "labels new (1): spot",
        "in the source, unused (1): old.weight",
        "warning: layer2.0 begins anew",
        "note: 4 tensors converted to float32",
    ]


def test_without_the_table_it_is_a_line_where_all_is_well() -> None:
    blocks = tuple(f"layer{i}.conv{k}.weight" for i in range(4) for k in range(9))
    report = RestoreReport("warm", source="x", loaded=blocks, share_loaded=1.0)
    assert len(report.to_text().splitlines()) > 36
    assert report.to_text(layers=False) == (
        "warm start from x: 36 tensors loaded, 0 transplanted, 0 not, of 36; 100.0% of parameters"
    )
    assert REPORT.to_text(layers=False).splitlines() == [
        REPORT.to_text().splitlines()[0],
        *REPORT.to_text().splitlines()[11:],
    ]


def test_a_large_network_still_makes_a_short_table() -> None:
    blocks = tuple(f"layer{i}.{j}.conv{k}.weight" for i in range(4) for j in range(9) for k in range(9))
    text = RestoreReport(
        "warm", source="x", loaded=blocks, skipped=tuple((b + "2", "excluded") for b in blocks)
    ).to_text()
    assert len(text.splitlines()) < 50
    assert "layer3.8" in text
    assert "and 312 more" in text


@pytest.mark.parametrize(
    ("share", "says"),
    [(1.0, "; 100.0%"), (0.99999, "more than 99.9%"), (0.00001, "less than 0.1%"), (0.0, "; 0.0%")],
)
def test_all_and_nothing_are_only_said_of_all_and_nothing(share: float, says: str) -> None:
    assert says in RestoreReport("warm", share_loaded=share).to_text()


def test_a_cold_start_says_so_and_a_resume_says_what_the_optimizer_kept() -> None:
    assert RestoreReport("cold").to_text() == "cold start: nothing was loaded"
    text = RestoreReport(
        "resume",
        resumed_from="step-00000100",
        loaded=("fc.weight",),
        optimizer_restored=("fc.weight_moment1", "fc.weight_moment2"),
        optimizer_reset=(("neck.weight_moment1", "not in the checkpoint"),),
    ).to_text()
    assert "resumed from step-00000100" in text
    assert "optimizer: 2 entries restored" in text
    assert "optimizer, fresh, not in the checkpoint (1): neck.weight_moment1" in text


@given(
    st.builds(
        RestoreReport,
        st.sampled_from(["cold", "warm", "resume"]),
        source=st.none() | st.text(max_size=5),
        loaded=names,
        transplanted=names,
        labels_kept=names,
        labels_new=names,
        labels_dropped=names,
        skipped=reasons,
        unused=names,
        share_loaded=st.floats(0, 1),
        resumed_from=st.none() | st.text(max_size=5),
        optimizer_restored=names,
        optimizer_reset=reasons,
        warnings=names,
        notes=names,
    )
)
def test_json_gives_back_the_same_report_and_any_report_has_a_text(report: RestoreReport) -> None:
    assert RestoreReport.from_json(json.loads(json.dumps(report.to_json()))) == report
    assert report.to_text()


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(InvalidArgumentError, match=r"'cold' \| 'warm' \| 'resume'"):
        RestoreReport("lukewarm")

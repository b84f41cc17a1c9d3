"""Weights of another run: what fits is copied, heads go by label, and nothing is called loaded that was not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import paddle
import pytest

from paddle_warm_callbacks.checkpoint.source import open_source
from paddle_warm_callbacks.errors import CoverageError, SourceError
from paddle_warm_callbacks.hapi.optimizer_state import slots
from paddle_warm_callbacks.hapi.warm_start import transplant_moments, under_structured_names, warm_start
from paddle_warm_callbacks.plan.transplant import HeadTransplant
from tests.checkpoint.genuine import write

OLD, NEW = ["bird", "cat", "dog"], ["dog", "fox", "bird", "cat", "owl"]


class Classifier(paddle.nn.Layer):  # type: ignore[misc]
    """A backbone and a head, as ``paddle.vision``'s networks have."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.body = paddle.nn.Sequential(paddle.nn.Linear(6, 8), paddle.nn.BatchNorm1D(8), paddle.nn.ReLU())
        self.fc = paddle.nn.Linear(8, classes)

    def forward(self, x: Any) -> Any:
        return self.fc(self.body(x))


def trained(classes: int, seed: int = 0) -> Classifier:
    paddle.seed(seed)
    network = Classifier(classes)
    network.train()
    for number in range(3):
        x = np.random.RandomState(number).normal(size=(16, 6)).astype("float32")
        network(paddle.to_tensor(x))  # running statistics away from their start
    network.eval()
    return network


def arrays(network: Any) -> dict[str, Any]:
    return {name: tensor.numpy() for name, tensor in network.state_dict().items()}


def outputs(network: Any) -> Any:
    x = np.random.RandomState(9).normal(size=(4, 6)).astype("float32")
    return network(paddle.to_tensor(x)).numpy()


def bits(network: Any) -> dict[str, bytes]:
    return {name: tensor.numpy().tobytes() for name, tensor in network.state_dict().items()}


def test_a_grown_head_says_the_same_of_old_labels() -> None:
    old, new = trained(3), trained(5, seed=1)
    head = HeadTransplant("fc", OLD, NEW)
    report = warm_start(new, arrays(old), description="old", head=head)
    of_old = outputs(old)
    of_new = outputs(new)
    for number, label in enumerate(OLD):
        column = NEW.index(label)
        assert new.fc.weight.numpy()[:, column].tobytes() == old.fc.weight.numpy()[:, number].tobytes()
        # A wider matrix product may round its last bit otherwise.
        np.testing.assert_allclose(of_new[:, column], of_old[:, number], rtol=1e-6, atol=1e-7)
    assert report.transplanted == ("fc.weight", "fc.bias")
    assert report.skipped == ()
    assert (report.labels_kept, report.labels_new) == (("dog", "bird", "cat"), ("fox", "owl"))
    assert report.warnings == ()
    # Rows of new labels come from nowhere: two columns of eight weights and a bias.
    elements = sum(tensor.size for tensor in arrays(new).values())
    assert report.share_loaded == (elements - 2 * 9) / elements


def test_a_misspelt_label_is_told_before_its_row_is_missed() -> None:
    new, head = trained(3, seed=1), HeadTransplant("fc", OLD, ["bird", "catt", "dog"])
    report = warm_start(new, arrays(trained(3)), description="old", head=head)
    assert (report.labels_new, report.labels_dropped) == (("catt",), ("cat",))
    (warning,) = report.warnings
    assert "'catt' is a new label, and the old label 'cat' is dropped" in warning
    assert f"warning: {warning}" in report.to_text()


def test_rows_of_new_labels_do_not_count_as_loaded() -> None:
    network, old = paddle.nn.Linear(8, 10), arrays(paddle.nn.Linear(8, 3))
    head = HeadTransplant("", ["a", "b", "c"], list("abcdefghij"))
    with pytest.raises(CoverageError, match=r"only 30\.0%"):
        warm_start(network, old, description="old", head=head)
    assert warm_start(network, old, description="old", head=head, min_loaded=0.3).share_loaded == 0.3


def test_a_dropped_head_does_not() -> None:
    old, new = trained(3), trained(5, seed=1)
    report = warm_start(new, arrays(old), description="old")
    assert [name for name, _ in report.skipped] == ["fc.weight", "fc.bias"]
    assert all(reason.startswith("shape differs: (") for _, reason in report.skipped)
    assert not np.allclose(outputs(new)[:, NEW.index("cat")], outputs(old)[:, OLD.index("cat")], atol=1e-3)
    assert 0.5 < report.share_loaded < 1.0
    (warning,) = report.warnings
    assert 'head=HeadTransplant("fc", old_labels=[…], new_labels=[…])' in warning
    meant = warm_start(trained(5, seed=1), arrays(old), description="old", exclude=["^fc[.]"])
    assert meant.warnings == ()


@pytest.mark.parametrize("new_rows", ["init", "zero", "mean"])
def test_new_rows_hold_what_was_asked_for(new_rows: str) -> None:
    old, new = trained(3), trained(5, seed=1)
    before = new.fc.weight.numpy()[:, NEW.index("fox")]
    warm_start(new, arrays(old), description="old", head=HeadTransplant("fc", OLD, NEW, new_rows=new_rows))
    expected = {"init": before, "zero": np.zeros(8), "mean": old.fc.weight.numpy().mean(axis=1)}[new_rows]
    np.testing.assert_allclose(new.fc.weight.numpy()[:, NEW.index("fox")], expected, rtol=1e-6)


def test_too_small_a_share_is_an_error_and_changes_nothing() -> None:
    stranger, network = paddle.nn.Linear(2, 2), trained(3)
    before = bits(network)
    with pytest.raises(CoverageError, match=r"only 0\.0%") as caught:
        warm_start(network, arrays(stranger), description="stranger.pdparams")
    assert caught.value.where == "stranger.pdparams"
    assert "missing in the source" in caught.value.received
    assert bits(network) == before


def test_half_precision_weights_are_converted_and_said() -> None:
    old, new = trained(3), trained(3, seed=1)
    half = {name: array.astype("float16") for name, array in arrays(old).items()}
    report = warm_start(new, half, description="half")
    assert report.notes == (f"{len(half)} tensors converted to float32",)
    for name, tensor in new.state_dict().items():
        np.testing.assert_array_equal(tensor.numpy(), half[name].astype("float32"))


def test_bfloat16_goes_both_ways() -> None:
    source = paddle.to_tensor([1.0, -2.5, 3.1415926], dtype="float32")
    for_bfloat = paddle.nn.Linear(1, 3).to(dtype="bfloat16")
    warm_start(for_bfloat, {"bias": source.numpy()}, description="x", min_loaded=0.0)
    expected = source.astype("bfloat16").numpy()
    assert for_bfloat.bias.numpy().tobytes() == expected.tobytes()
    for_float = paddle.nn.Linear(1, 3)
    warm_start(for_float, {"bias": expected}, description="x", min_loaded=0.0)
    np.testing.assert_array_equal(for_float.bias.numpy(), source.astype("bfloat16").astype("float32").numpy())


def test_names_are_mapped_when_told() -> None:
    old, new = trained(3), trained(3, seed=1)
    renamed = {
        f"trunk.{name[5:]}" if name.startswith("body.") else name: a for name, a in arrays(old).items()
    }
    warm_start(new, renamed, description="x", rename={r"^trunk\.": "body."})
    assert bits(new) == bits(old)


def test_statistics_of_norms_come_along() -> None:
    old, new = trained(3), Classifier(3)
    warm_start(new, arrays(old), description="x")
    assert new.body[1]._mean.numpy().tobytes() == old.body[1]._mean.numpy().tobytes()
    assert new.body[1]._mean.stop_gradient


def as_torch(network: Any) -> dict[str, Any]:
    """Return a network's tensors as PyTorch would have them: linear weights [out, in], statistics by its names."""
    found: dict[str, Any] = {"body.1.num_batches_tracked": np.array(3)}
    for name, array in arrays(network).items():
        renamed = name.replace("_mean", "running_mean").replace("_variance", "running_var")
        linear = name.endswith("weight") and array.ndim == 2 and "embedding" not in name
        found[renamed] = np.ascontiguousarray(array.T) if linear else array
    return found


@pytest.mark.parametrize("prefix", ["", "module."])
def test_torch_weights_are_turned_round_where_paddle_has_linear_layers(prefix: str) -> None:
    class Square(Classifier):
        """Shapes alone do not tell that its body must be turned; its embedding must not be."""

        def __init__(self, classes: int) -> None:
            super().__init__(classes)
            self.embedding = paddle.nn.Embedding(6, 6)
            self.square = paddle.nn.Linear(6, 6)

        def forward(self, x: Any) -> Any:
            return super().forward(self.square(x)) + self.embedding.weight.sum()

    paddle.seed(1)
    old, new = Square(3), Square(3)
    for network in (old, new):
        network.eval()
    source = {prefix + name: array for name, array in as_torch(old).items()}
    report = warm_start(new, source, description="torch", convert="torch")
    assert report.share_loaded == 1.0
    assert report.unused == ()
    assert bits(new) == bits(old)
    control = Square(3)
    warm_start(control, source, description="torch", min_loaded=0.0)
    assert outputs(control).tobytes() != outputs(old).tobytes()


def stepped(network: Classifier, steps: int) -> Any:
    optimizer = paddle.optimizer.Adam(0.01, parameters=network.parameters())
    for number in range(steps):
        x = np.random.RandomState(number).normal(size=(8, 6)).astype("float32")
        paddle.nn.functional.cross_entropy(
            network(paddle.to_tensor(x)), paddle.zeros([8, 1], "int64")
        ).backward()
        optimizer.step()
        optimizer.clear_grad()
    return optimizer


def moments(network: Classifier, optimizer: Any) -> dict[tuple[str, str], Any]:
    return {(slot.parameter, slot.kind): slot.tensor.numpy() for slot in slots(network, optimizer)}


def test_a_heads_moments_move_with_its_rows_and_new_ones_begin_at_zero() -> None:
    old, new = trained(3), trained(5, seed=1)
    saved = moments(old, stepped(old, 4))
    head = HeadTransplant("fc", OLD, NEW, moments=True)
    warm_start(new, arrays(old), description="old", head=head)
    optimizer = paddle.optimizer.Adam(0.01, parameters=new.parameters())
    assert transplant_moments(new, optimizer, saved, head) == ["fc.weight", "fc.bias"]
    found = moments(new, optimizer)
    assert {name for name, _ in found} == {"fc.weight", "fc.bias"}
    for kind in ("moment1", "moment2"):
        for number, label in enumerate(NEW):
            column = found["fc.weight", kind][:, number]
            if label in OLD:
                assert column.tobytes() == saved["fc.weight", kind][:, OLD.index(label)].tobytes()
                assert np.abs(column).sum() > 0
            else:
                assert not column.any()
    assert found["fc.weight", "beta1_pow_acc"] == saved["fc.weight", "beta1_pow_acc"]


def test_an_optimizer_with_moved_moments_goes_on_as_the_old_one_would() -> None:
    old, new = trained(3), trained(3, seed=1)
    optimizer = stepped(old, 4)
    head = HeadTransplant("fc", OLD, OLD, moments=True)
    warm_start(new, arrays(old), description="old", head=head)
    continued = paddle.optimizer.Adam(0.01, parameters=new.fc.parameters())
    transplant_moments(new, continued, moments(old, optimizer), head)
    fresh_start = trained(3, seed=1)
    warm_start(fresh_start, arrays(old), description="old", head=head)
    fresh = paddle.optimizer.Adam(0.01, parameters=fresh_start.fc.parameters())
    for network, stepping in ((old, optimizer), (new, continued), (fresh_start, fresh)):
        x = np.random.RandomState(7).normal(size=(8, 6)).astype("float32")
        paddle.nn.functional.cross_entropy(
            network(paddle.to_tensor(x)), paddle.zeros([8, 1], "int64")
        ).backward()
        stepping.step()
    assert new.fc.weight.numpy().tobytes() == old.fc.weight.numpy().tobytes()
    assert fresh_start.fc.weight.numpy().tobytes() != old.fc.weight.numpy().tobytes()


def clusters(classes: int, count: int, seed: int) -> tuple[Any, Any]:
    """Return ``count`` points around one centre per class, and their classes."""
    labels = np.random.RandomState(seed).randint(0, classes, count)
    noise = np.random.RandomState(seed + 1).normal(size=(count, 6))
    centres = np.random.RandomState(99).normal(size=(len(NEW), 6)) * 4
    return (centres[labels] + noise).astype("float32"), labels


def test_old_classes_are_known_at_step_0_by_label_and_not_with_a_random_head() -> None:
    x, labels = clusters(3, 256, 0)
    old = trained(3)
    old.train()
    optimizer = paddle.optimizer.Adam(0.02, parameters=old.parameters())
    for _ in range(60):
        loss = paddle.nn.functional.cross_entropy(old(paddle.to_tensor(x)), paddle.to_tensor(labels[:, None]))
        loss.backward()
        optimizer.step()
        optimizer.clear_grad()
    old.eval()
    unseen, of = clusters(3, 256, 7)

    def accuracy(network: Classifier, numbers: list[int]) -> float:
        """Return the share of old-class points whose class gets the highest score among the old classes."""
        scores = network(paddle.to_tensor(unseen)).numpy()[:, numbers]
        return float((scores.argmax(1) == of).mean())

    before = accuracy(old, [0, 1, 2])
    assert before > 0.95
    grown, random_head = trained(5, seed=1), trained(5, seed=1)
    warm_start(grown, arrays(old), description="old", head=HeadTransplant("fc", OLD, NEW))
    warm_start(random_head, arrays(old), description="old", exclude=["^fc"])
    places = [NEW.index(label) for label in OLD]
    assert accuracy(grown, places) == before
    assert accuracy(random_head, places) < before - 0.2


@pytest.mark.parametrize("version", ["2.6.2", "3.0.0", "3.3.1"])
def test_an_inference_model_of_another_process_fills_a_network_built_later(version: str) -> None:
    [paddle.nn.Linear(2, 2), paddle.nn.Conv2D(1, 1, 1)]  # so that generated names are not those of the file
    network = write.inference_network()
    weights = {name: tensor.numpy() for name, tensor in network.state_dict().items()}
    for tensor in network.state_dict().values():
        tensor.set_value(paddle.zeros_like(tensor))
    source = open_source(Path(write.__file__).parent / f"paddle-{version}" / "inference")
    tensors = source.tensors
    if source.generated_names:
        with pytest.raises(CoverageError):  # control: no name is alike
            warm_start(network, tensors, description="d")
        tensors = under_structured_names(network, tensors, "d")
    report = warm_start(network, tensors, description="d", min_loaded=1.0)
    assert report.share_loaded == 1.0
    assert {name: tensor.numpy().tobytes() for name, tensor in network.state_dict().items()} == {
        name: array.tobytes() for name, array in weights.items()
    }


def test_generated_names_of_another_network_are_not_guessed() -> None:
    tensors = open_source(Path(write.__file__).parent / "paddle-3.3.1" / "inference").tensors
    with pytest.raises(SourceError, match="not of a network built as this one"):
        under_structured_names(trained(2), tensors, "d")


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_weights_that_broke_down_are_loaded_and_said_so(dtype: str) -> None:
    tensors = {name: tensor.astype(dtype) for name, tensor in trained(2).state_dict().items()}
    good = warm_start(trained(2), {n: t.numpy() for n, t in tensors.items()}, description="d")
    assert "not finite" not in good.to_text()
    tensors["fc.bias"] = paddle.full([2], float("nan"), dtype)
    broken = warm_start(trained(2), {n: t.numpy() for n, t in tensors.items()}, description="d")
    assert broken.warnings == ("not finite, NaN or infinity: fc.bias",)

"""Whether policies ask for metrics that ``fit`` never logs, and which was probably meant."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from paddle_warm_callbacks.arguments import nearest


def of_unknown(wanted: Iterable[str], names: Sequence[str], *, evaluates: bool) -> tuple[str, ...]:
    """Return a sentence for each metric that is asked for and will not be there.

    Args:
        wanted: Names that policies ask for.
        names: Those of the losses and metrics of ``fit``: of its evaluations, and behind ``train_`` of training.
        evaluates: Whether ``fit`` evaluates at all.

    >>> of_unknown({"accuracy"}, ["loss", "acc"], evaluates=True)
    ('no metric is called accuracy: did you mean acc? There are: loss, acc, train_loss, train_acc',)
    >>> of_unknown({"acc"}, ["loss", "acc"], evaluates=True)
    ()
    """
    there = [*(names if evaluates else ()), *(f"train_{name}" for name in names)]
    said = []
    for name in sorted(set(wanted).difference(there)):
        if name in names:
            said.append(f"{name} will never be there: it is of an evaluation, and fit was given no eval_data")
            continue
        near = nearest(name, there)
        question = f": did you mean {near}? There are" if near else "; there are"
        said.append(f"no metric is called {name}{question}: {', '.join(there)}")
    return tuple(said)

"""Show what the network makes of a few samples, as pictures in VisualDL."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Callable, Optional

import numpy as np
import paddle

from paddle_warm_callbacks.arguments import require_int
from paddle_warm_callbacks.errors import InvalidArgumentError
from paddle_warm_callbacks.hapi import rng
from paddle_warm_callbacks.hapi.callback import FitCallback
from paddle_warm_callbacks.hapi.fit_loop import FitLoop

Caption = Callable[[Any, Any], str]
Picture = Optional[Callable[[Any], Any]]

_LEAST_WIDTH = 96  # of a picture: a caption under a thumbnail cannot be read
_LINE = 14


class SamplePredictions(FitCallback):
    """After each epoch show ``WarmVisualDL`` a few samples, each with a caption of what the network says of it.

    The network is asked in evaluation mode, one sample at a time; generators and modes are put back, so training goes
    on as without it. The tags are ``eval/sample_0`` and so on.

    Example:
        >>> shown = SamplePredictions([], class_caption(["scratch", "dent"]))

    Args:
        dataset: Map-style; of a sample that is a tuple, the first part is what the network gets.
        caption: Makes a line of text of the network's output for one sample (arrays, without the batch's axis) and the
            sample: :func:`class_caption`; a recogniser's decoder; anything.
        count: Samples shown: the first of ``dataset``, at least 1.
        picture: Makes a picture, uint8 [height, width, 3], of a sample. None: of its first part, float or uint8
            [channels, height, width] or [height, width], its own range spread to black and white.

    Raises:
        InvalidArgumentError: A wrong argument, at once; in ``fit``: a sample that is no picture, and no ``picture``.
        ImportError: Pillow, which VisualDL comes with, is not installed.
    """

    # Before the logs of the same epoch.
    order = 65

    def __init__(self, dataset: Any, caption: Caption, *, count: int = 4, picture: Picture = None) -> None:
        super().__init__()
        import PIL  # noqa: F401  # at once, rather than after the first epoch

        if not callable(caption):
            raise InvalidArgumentError(
                "a caption is made by a function",
                where="SamplePredictions(caption)",
                received=repr(caption),
                expected="a function of the output and the sample",
                remedy='for example class_caption(["scratch", "dent"])',
            )
        self._dataset = dataset
        self._caption = caption
        self._count = require_int(count, "SamplePredictions(count=)", at_least=1)
        self._picture = picture or _spread

    def epoch_completed(self, loop: FitLoop, logs: dict[str, Any], eval_logs: dict[str, Any] | None) -> None:
        """Put the pictures on the board, from rank 0."""
        if loop.ranks.rank:
            return
        generators = rng.capture()
        modes = [(layer, layer.training) for layer in loop.network.sublayers(include_self=True)]
        loop.network.eval()
        try:
            with paddle.no_grad():
                for number in range(min(self._count, len(self._dataset))):
                    sample = self._dataset[number]
                    drawn = captioned(
                        self._picture(sample), self._caption(_asked(loop.network, sample), sample)
                    )
                    # A tag that begins so is an evaluation's, to the logs of a resumed run too.
                    loop.board.pictures.append((f"eval/sample_{number}", loop.progress.global_step, drawn))
        finally:
            rng.restore(generators)
            for layer, training in modes:
                layer.training = training


def class_caption(labels: Sequence[str]) -> Caption:
    """Return a caption for classification: the likeliest class, its probability, and the true one where it is another.

    Args:
        labels: In the order of the network's outputs, float [classes], not yet made probabilities.

    >>> class_caption(["scratch", "dent"])(np.array([0.0, 2.0]), (None, np.array([0])))
    'dent 0.88, is scratch'
    """

    def caption(output: Any, sample: Any) -> str:
        exponentials = np.exp(output - output.max())
        found = int(output.argmax())
        said = f"{labels[found]} {float(exponentials[found] / exponentials.sum()):.2f}"
        truth = int(np.asarray(sample[1]).reshape(-1)[0]) if isinstance(sample, (tuple, list)) else found
        return said if truth == found else f"{said}, is {labels[truth]}"

    return caption


def captioned(picture: Any, caption: str) -> Any:
    """Return the picture, uint8 [height, width, 3], with a line of text under it; a small one is enlarged first."""
    from PIL import Image, ImageDraw

    image = Image.fromarray(picture)
    times = max(1, -(-_LEAST_WIDTH // image.width))
    image = image.resize((image.width * times, image.height * times), Image.Resampling.NEAREST)
    width = max(image.width, int(ImageDraw.Draw(image).textlength(caption)) + 4)
    whole = Image.new("RGB", (width, image.height + _LINE), "white")
    whole.paste(image)
    ImageDraw.Draw(whole).text((2, image.height + 1), caption, fill="black")
    return np.asarray(whole)


def _asked(network: Any, sample: Any) -> Any:
    given = sample[0] if isinstance(sample, (tuple, list)) else sample
    output = network(paddle.to_tensor(np.asarray(given)[None]))
    output = output[0] if isinstance(output, (tuple, list)) else output
    return output.astype("float32").numpy()[0]


def _spread(sample: Any) -> Any:
    array = np.asarray(sample[0] if isinstance(sample, (tuple, list)) else sample)
    planes = array[None] if array.ndim == 2 else array
    if planes.ndim != 3 or planes.shape[0] not in (1, 3):
        raise InvalidArgumentError(
            "this sample is no picture",
            where="SamplePredictions(dataset)",
            received=f"shape {tuple(array.shape)}",
            expected="[3, height, width], [1, height, width] or [height, width]",
            remedy="pass picture=, a function that makes a picture of a sample",
        )
    low, high = float(planes.min()), float(planes.max())
    spread = (planes - low) * (255.0 / (high - low or 1.0))
    return np.repeat(spread, 3 // planes.shape[0], axis=0).astype("uint8").transpose(1, 2, 0)

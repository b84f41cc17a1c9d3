"""Any recogniser of a user's PaddleOCR checkout, by its YAML file: their network, their loss, their label encoding."""

from __future__ import annotations

import copy
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable

import numpy as np
import paddle
import yaml

from paddle_warm_callbacks.errors import InvalidArgumentError
from recipes.ocr_recognition.reading import CTCLoss


@dataclass(frozen=True)
class Checkout:
    """A recogniser of a checkout, for one dictionary.

    Attributes:
        settings: The YAML file, with what PaddleOCR's own trainer derives from the dictionary filled in.
        head: Structured name of the head that holds the characters.
        layout: Its kind, a name of ``HeadTransplant``'s layouts.
        keys: Names of what the network gets beside the image, in the order their loss wants them.
    """

    settings: dict[str, Any]
    head: str
    layout: str
    keys: tuple[str, ...]

    @classmethod
    def open(
        cls, folder: Path, file: Path, dictionary: Path, characters: Sequence[str], *, use_space_char: bool
    ) -> Checkout:
        """Make a checkout importable and read a YAML file of it.

        Args:
            folder: The checkout; it has the folder ``ppocr``.
            file: Of ``configs/rec``.
            dictionary: The characters' file, for their label encoding.
            characters: The same, with the space if there is one.
            use_space_char: Whether there is.

        Raises:
            InvalidArgumentError: The folder is no checkout, or the YAML file cannot be read, or is of a model that is
                not read by CTC.
        """
        if not (folder / "ppocr" / "modeling").is_dir():
            raise InvalidArgumentError(
                "not a PaddleOCR checkout",
                where="model.checkout",
                received=str(folder),
                expected="the folder that has ppocr/, tools/ and configs/",
            )
        if str(folder.resolve()) not in sys.path:
            sys.path.insert(0, str(folder.resolve()))
        settings = _settings(file)
        decoding = settings.get("PostProcess", {}).get("name")
        head = settings["Architecture"].get("Head", {})
        if decoding != "CTCLabelDecode" or head.get("name") not in ("CTCHead", "MultiHead"):
            raise InvalidArgumentError(
                "this recipe reads what CTC heads say",
                where=f"model.config={file}",
                received=f"PostProcess {decoding}, Head {head.get('name')}",
                expected="PostProcess CTCLabelDecode and Head CTCHead or MultiHead",
                remedy="for a distillation file take the student's own, without _distillation in its name",
            )
        classes = len(characters) + 1
        if head["name"] == "MultiHead":
            head["out_channels_list"] = _channels(settings["Loss"], classes)
            key, layout = "head", "ppocr_multihead"
        else:
            head["out_channels"] = classes
            key, layout = f"head.{'fc2' if head.get('mid_channels') else 'fc'}", "ctc"
        settings["Global"].update(character_dict_path=str(dictionary), use_space_char=use_space_char)
        return cls(settings, key, layout, tuple(_operator(settings, "KeepKeys")["keep_keys"][1:]))

    def network(self) -> Any:
        """Return their network with new weights."""
        from ppocr.modeling.architectures import build_model

        return build_model(copy.deepcopy(self.settings["Architecture"]))

    def model(self) -> paddle.Model:
        """Return a Model of their network: its own class, and names of tensors, but for ``forward``.

        ``forward(image, *targets, label, used)`` gives ``(probabilities, loss)``: in training by their loss, in
        evaluation by CTC alone, for their networks give it nothing else there. Label and used come a second time as
        labels, for metrics.
        """
        from ppocr.losses import build_loss

        network = self.network()
        loss, ctc = build_loss(copy.deepcopy(self.settings["Loss"])), CTCLoss()
        theirs, count = type(network), len(self.keys)

        def forward(self: Any, image: Any, *given: Any) -> Any:
            targets = list(given[:count])
            if not self.training:
                probabilities = theirs.forward(self, image)
                return probabilities, ctc(probabilities, *given[count:])
            said = theirs.forward(self, image, data=targets)
            scores = said["ctc"] if isinstance(said, dict) else said
            scores = scores[-1] if isinstance(scores, (list, tuple)) else scores
            return paddle.nn.functional.softmax(scores, axis=2), loss(said, [image, *targets])["loss"]

        network.__class__ = type(theirs.__name__, (theirs,), {"forward": forward})
        labels = [paddle.static.InputSpec([None, None], "int64", name) for name in ("label", "used")]
        targets = [paddle.static.InputSpec([None], "int64", key) for key in self.keys]
        image = paddle.static.InputSpec([None, 3, None, None], "float32", "image")
        return paddle.Model(network, [image, *targets, *labels], labels)

    def loss(self) -> Any:
        """Return what takes the network's own loss."""
        return lambda *outputs: outputs[1]

    def encoder(self) -> Callable[[str, float], list[np.ndarray[Any, Any]]]:
        """Return what makes their targets of a text and of the share of the width that its image fills."""
        from ppocr.data.imaug import create_operators

        name, arguments = next(
            (name, arguments)
            for operator in self.settings["Train"]["dataset"]["transforms"]
            for name, arguments in operator.items()
            if name.endswith("LabelEncode")
        )
        (encode,) = create_operators([{name: copy.deepcopy(arguments)}], self.settings["Global"])

        def targets(text: str, valid_ratio: float) -> list[np.ndarray[Any, Any]]:
            encoded = encode({"label": text, "image": None})
            encoded["valid_ratio"] = valid_ratio
            return [np.asarray(encoded[key]) for key in self.keys]

        return targets


def _settings(file: Path) -> dict[str, Any]:
    try:
        settings: dict[str, Any] = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as unreadable:
        raise InvalidArgumentError(
            "PaddleOCR's file cannot be read",
            where="model.config",
            received=f"{file}: {unreadable}",
            expected="a YAML file of configs/rec",
        ) from unreadable
    return settings


def _channels(loss: dict[str, Any], classes: int) -> dict[str, int]:
    """Return the outputs of a MultiHead's heads; tell SAR's loss its padding. As PaddleOCR's trainer does."""
    channels = {"CTCLabelDecode": classes}
    for entry in loss["loss_config_list"]:
        if "SARLoss" in entry:
            entry["SARLoss"] = {**(entry["SARLoss"] or {}), "ignore_index": classes + 1}
            channels["SARLabelDecode"] = classes + 2
        if "NRTRLoss" in entry:
            channels["NRTRLabelDecode"] = classes + 3
    return channels


def _operator(settings: dict[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(
        operator[name] for operator in settings["Train"]["dataset"]["transforms"] if name in operator
    )
    return found

"""What settings must agree on with each other, checked before anything is built."""

from __future__ import annotations

from paddle_warm_callbacks.checkpoint.urls import is_url
from paddle_warm_callbacks.config.origin import Origin
from paddle_warm_callbacks.config.schema import Config, UnfreezeConfig, WarmStartConfig
from paddle_warm_callbacks.errors import InvalidArgumentError


def require_consistent(config: Config, origin: Origin, *, has_network: bool) -> None:
    """Refuse settings that contradict each other, and those that would have no effect.

    Args:
        config: With every single value within its bounds.
        origin: Where settings were written.
        has_network: Whether the script brings a network of its own.

    Raises:
        InvalidArgumentError: Two settings do not go together; the error names both.
    """
    _check_source(config, origin)
    _check_network(config, origin, has_network)
    _check_head(config, origin)
    if config.unfreeze is not None:
        _check_unfreeze(config, config.unfreeze, origin)
    _check_checkpoints(config, origin)


def _check_source(config: Config, origin: Origin) -> None:
    model = config.model
    if model.pretrained and model.arch is None:
        raise _contradiction(
            "pretrained weights of which network?",
            origin,
            "model.pretrained",
            "true, and no model.arch",
            "model.arch",
        )
    if model.checkpoint is None and not model.pretrained:
        for key, given in (
            ("head", config.head is not None),
            ("warm_start", config.warm_start != WarmStartConfig()),
        ):
            if given:
                raise _contradiction(
                    f"{key} says how weights are loaded, and there are none to load",
                    origin,
                    key,
                    "neither model.checkpoint nor model.pretrained",
                    "one of the two",
                )


def _check_network(config: Config, origin: Origin, has_network: bool) -> None:
    model = config.model
    if model.arch is None:
        for key, given in (
            ("model.num_classes", model.num_classes is not None),
            ("model.arguments", bool(model.arguments)),
            ("optimizer", config.optimizer is not None and not has_network),
        ):
            if given:
                raise _contradiction(
                    "a setting of a network that is not built here",
                    origin,
                    key,
                    "no model.arch",
                    "model.arch, or from_config(…, network=…)" if key == "optimizer" else "model.arch",
                )
    needs = config.unfreeze is not None and (config.unfreeze.from_depth or config.unfreeze.fine_tune)
    if needs and model.arch is None and not has_network:
        raise _contradiction(
            "stages are made from the layers of a network, and there is none",
            origin,
            "unfreeze",
            "no model.arch",
            "model.arch, or from_config(…, network=…)",
        )


def _check_head(config: Config, origin: Origin) -> None:
    head, model = config.head, config.model
    if head is None:
        return
    if head.old_labels is None and model.checkpoint is None:
        raise _contradiction(
            "Paddle's pretrained files do not say their labels",
            origin,
            "head.old_labels",
            "null, and model.pretrained",
            "the labels of the pretrained file, in its order; or no head: it is then left out",
        )
    labels = head.new_labels
    if (
        isinstance(labels, list)
        and model.num_classes not in (None, len(labels))
        and head.layout in ("linear", "conv")
    ):
        raise _contradiction(
            "the network has another number of outputs than there are labels",
            origin,
            "model.num_classes",
            f"{model.num_classes}, and {len(labels)} head.new_labels",
            f"{len(labels)}, or leave it out",
        )


def _check_unfreeze(config: Config, unfreeze: UnfreezeConfig, origin: Origin) -> None:
    ways = {
        "stages": unfreeze.stages is not None,
        "from_depth": unfreeze.from_depth is not None,
        "fine_tune": unfreeze.fine_tune is not None,
    }
    if sum(ways.values()) != 1:
        given = " and ".join(name for name, is_given in ways.items() if is_given)
        raise _contradiction(
            "stages are said in one way",
            origin,
            "unfreeze",
            given or "none of them",
            "exactly one of stages, from_depth and fine_tune",
        )
    if unfreeze.fine_tune is not None and config.lr is not None and config.lr.groups:
        raise _contradiction(
            "fine_tune makes the groups of the learning rate itself",
            origin,
            "lr.groups",
            "groups, and unfreeze.fine_tune",
            "one of the two",
        )
    epochs = config.training.epochs
    for number, stage in enumerate(unfreeze.stages or ()):
        if epochs is not None and stage.from_epoch is not None and stage.from_epoch >= epochs:
            raise _contradiction(
                "a stage begins after the last epoch",
                origin,
                f"unfreeze.stages[{number}].from_epoch",
                f"{stage.from_epoch}, and training.epochs is {epochs}",
                f"at most {epochs - 1}; epochs count from 0",
            )


def _check_checkpoints(config: Config, origin: Origin) -> None:
    run_dir = config.training.run_dir
    if (
        config.visualdl is not None
        and config.visualdl.log_dir is None
        and run_dir is not None
        and is_url(run_dir)
    ):
        raise _contradiction(
            "logs are written to this machine",
            origin,
            "visualdl.log_dir",
            f"null, and training.run_dir is {run_dir}",
            "a local directory",
        )
    checkpoints = config.checkpoints
    if checkpoints is None:
        if config.mirror is not None:
            raise _contradiction(
                "there are no checkpoints to copy",
                origin,
                "mirror",
                "mirror, and checkpoints: null",
                "one of the two",
            )
        return
    if checkpoints.signals is not None and not checkpoints.save_on_signal:
        raise _contradiction(
            "signals of which none is listened to",
            origin,
            "checkpoints.signals",
            "signals, and save_on_signal: false",
            "one of the two",
        )
    save = checkpoints.save
    occasions = (save.every_epochs, save.every_steps, save.every_seconds, save.new_best)
    if all(occasion is None for occasion in occasions) and not save.on_exception:
        raise _contradiction(
            "there is no occasion to save at",
            origin,
            "checkpoints.save",
            "null for all of them",
            "one of every_epochs, every_steps, every_seconds, new_best, on_exception; or checkpoints: null",
        )
    if config.training.resume_from == "best" and checkpoints.keep.best is None:
        raise _contradiction(
            "the best checkpoint by which metric?",
            origin,
            "training.resume_from",
            "best, and no checkpoints.keep.best",
            "checkpoints.keep.best: acc",
        )


def _contradiction(what: str, origin: Origin, key: str, received: str, expected: str) -> InvalidArgumentError:
    return InvalidArgumentError(what, where=origin.where(key), received=received, expected=expected)

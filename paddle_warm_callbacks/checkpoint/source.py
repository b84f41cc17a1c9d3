"""What a warm-start source is, whatever it is given as: arrays by name, and where they come from."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from paddle_warm_callbacks.arguments import require_choice
from paddle_warm_callbacks.checkpoint import cache, inference_model, mirror, nearby
from paddle_warm_callbacks.checkpoint.digests import digest_of_file
from paddle_warm_callbacks.checkpoint.manifest import MANIFEST
from paddle_warm_callbacks.checkpoint.names import CHECKPOINTS
from paddle_warm_callbacks.checkpoint.passed_over import PassedOver
from paddle_warm_callbacks.checkpoint.pdparams import read_pdparams
from paddle_warm_callbacks.checkpoint.registry.catalog import open_reference
from paddle_warm_callbacks.checkpoint.registry.references import SCHEME
from paddle_warm_callbacks.checkpoint.safetensors import read_safetensors
from paddle_warm_callbacks.checkpoint.store import Checkpoint, CheckpointStore
from paddle_warm_callbacks.checkpoint.urls import answered, is_url, opened
from paddle_warm_callbacks.errors import CorruptCheckpointError, NoUsableCheckpointError, SourceError
from paddle_warm_callbacks.secrets import cause, redacted

_WHICH = ("latest", "best")
# What an inference model has beside its parameters.
_BESIDE_PARAMETERS = (".pdmodel", ".json", ".info")
# The longest first: each ends the name of one file of an inference model.
_OF_INFERENCE = (*inference_model.BESIDE, inference_model.SUFFIX)


@dataclass(frozen=True)
class Source:
    """Weights to start from.

    Attributes:
        description: What and where they are, for people; without the credentials of a URL.
        tensors: Name to array; bfloat16 is uint16.
        checkpoint: The one they come from, or None if they come from something else.
        digest: The checkpoint's digest, or the file's; None of what is in memory.
        generated_names: Whether the names are Paddle's generated ones (``linear_0.w_0``), as of an inference model
            that was exported without structured ones.
    """

    description: str
    tensors: dict[str, np.ndarray[Any, Any]]
    checkpoint: Checkpoint | None = None
    digest: str | None = None
    generated_names: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "description", redacted(self.description))

    @property
    def labels(self) -> list[str] | None:
        """The labels of the head, in its order, as the checkpoint's metadata has them; None if it does not say."""
        found = None if self.checkpoint is None else self.checkpoint.manifest.metadata.get("labels")
        return list(found) if isinstance(found, (list, tuple)) else None

    @property
    def ancestry(self) -> list[dict[str, str | None]]:
        """What weights that start from these come from: this source, then what it comes from, to the root."""
        carried = () if self.checkpoint is None else self.checkpoint.manifest.metadata.get("ancestry", ())
        return [{"source": self.description, "digest": self.digest}, *carried]


def open_source(source: Any, *, which: str = "latest", part: str | None = None) -> Source:
    """Read the weights that ``source`` stands for; nothing of what it holds is executed.

    Args:
        source: A state dict of arrays or tensors; an object with ``state_dict()``; or a path or URL of a ``.pdparams``
            or ``.safetensors`` file, one of the files of an inference model, a checkpoint's directory, or a run
            directory; or the path of a ``Model.save`` prefix or an inference model's.
        which: Of a run directory: its ``"latest"`` checkpoint that verifies, or its ``"best"``.
        part: Key, or keys joined by dots, of the part that holds the weights where a file or dictionary is nested:
            ``"ema"``, ``"state_dict"``.

    Raises:
        SourceError: There is nothing of the kind, or no arrays in it; the error lists what was tried.
        UnsafeFileError: The file asks to run code or for absurd amounts of memory.
        CorruptCheckpointError: The checkpoint named is damaged.
        NoUsableCheckpointError: The run has checkpoints, and none verifies.
        RegistryError: The registry has no such model, version or tag.
    """
    require_choice(which, "open_source(which=)", choices=_WHICH)
    if isinstance(source, Mapping):
        return Source(f"a dictionary of {len(source)} entries", _arrays(source, "the dictionary given", part))
    if not isinstance(source, (str, os.PathLike)):
        return _of_layer(source)
    text = os.fspath(source)
    if text.startswith(SCHEME):
        version, checkpoint = open_reference(text)
        return Source(f"{SCHEME}{version.reference}", checkpoint.read_model(), checkpoint, checkpoint.digest)
    found = _find_checkpoint(text, which)
    if found is not None:
        return Source(found.path, found.read_model(), found, found.digest)
    text, path, names = _fetched(text) if is_url(text) else (text, _find_file(text), None)
    generated = False
    try:
        if path.suffix == inference_model.SUFFIX:
            parameters = inference_model.read_inference_parameters(path, names)
            content, generated = parameters.arrays, not parameters.structured
        else:
            content = read_safetensors(path) if path.suffix == ".safetensors" else read_pdparams(path)
    except OSError as error:
        raise SourceError(
            "the source cannot be read",
            where=str(path),
            received=f"{type(error).__name__}: {error.strerror}",
            expected="a readable file",
            remedy="check its permissions",
        ) from error
    description = text if is_url(text) else str(path)
    arrays = _arrays(content, str(path), part)
    return Source(description, arrays, digest=digest_of_file(path)[1], generated_names=generated)


def require_local(source: str | os.PathLike[str], *, checkpoint: bool = False) -> bool:
    """Check, without reading anything, that a path leads to what :func:`open_source` could open.

    Args:
        source: A path or URL.
        checkpoint: Whether it must be one for :func:`open_checkpoint`, and no file of weights alone.

    Returns:
        False where it is a URL or a reference to a registry, which is not asked about.

    Raises:
        SourceError: There is nothing of the kind, or the run has no checkpoint yet.
    """
    text = os.fspath(source)
    if is_url(text):
        return False
    path = Path(text).expanduser()
    if not (path / MANIFEST).is_file():
        run_dir = _run_directory(path)
        if run_dir is None:
            if checkpoint:
                raise _no_checkpoint_there(text)
            _find_file(text)
        elif not CheckpointStore(run_dir).list():
            raise _no_checkpoint_yet(run_dir)
    return True


def open_checkpoint(source: str | os.PathLike[str], *, which: str = "latest") -> Checkpoint:
    """Return the checkpoint at a path or URL: its own directory, or a run directory's ``which``; never None.

    ``registry://`` names one of a registry.

    One at a URL is copied to the cache and verified there.

    Raises:
        SourceError: There is no checkpoint.
        NoUsableCheckpointError: There are some, and none verifies.
    """
    require_choice(which, "open_checkpoint(which=)", choices=_WHICH)
    text = os.fspath(source)
    checkpoint = open_reference(text)[1] if text.startswith(SCHEME) else _find_checkpoint(text, which)
    if checkpoint is None:
        raise _no_checkpoint_there(text)
    return checkpoint


def _no_checkpoint_there(text: str) -> SourceError:
    path = Path(text).expanduser()
    if is_url(text):
        received, remedy = "neither a manifest nor checkpoints", "check the URL"
    elif path.is_file():
        received, remedy = "a file", "give weights alone as source=, not as resume_from="
    else:
        received, remedy = nearby.seen(path), nearby.advice(path)
    return SourceError(
        "there is no checkpoint",
        where=text,
        received=received,
        expected=f"a directory with {MANIFEST}, or a run directory with {CHECKPOINTS}/",
        remedy=remedy,
    )


def _find_checkpoint(text: str, which: str) -> Checkpoint | None:
    if is_url(text):
        return _find_remote(text.rstrip("/"), which)
    path = Path(text).expanduser()
    if (path / MANIFEST).is_file():
        return Checkpoint(path)
    run_dir = _run_directory(path)
    if run_dir is None:
        return None
    store = CheckpointStore(run_dir)
    checkpoint = store.best() if which == "best" else store.latest_verified()
    if checkpoint is None:
        raise _no_checkpoint_yet(run_dir)
    return checkpoint


def _run_directory(path: Path) -> Path | None:
    run_dir = path.parent if path.name == CHECKPOINTS and path.is_dir() else path
    return run_dir if (run_dir / CHECKPOINTS).is_dir() else None


def _no_checkpoint_yet(run_dir: Path) -> SourceError:
    return SourceError(
        "the run directory has no checkpoint yet",
        where=str(run_dir),
        received=f"an empty {CHECKPOINTS}/",
        expected="a committed checkpoint",
        remedy="name another run, or the checkpoint itself",
    )


def _fetched(url: str) -> tuple[str, Path, Path | None]:
    """Return the URL of the weights' file, a copy of it, and one of the file that has its names if it has none."""
    place, mark, query = url.partition("?")
    stem = next((place[: -len(end)] for end in _OF_INFERENCE if place.endswith(end)), None)
    if stem is None:
        return url, cache.fetch_file(url), None
    beside = [f"{stem}{end}{mark}{query}" for end in inference_model.BESIDE]
    there = next((candidate for candidate in beside if _is_there(candidate)), None)
    if there is None:
        raise inference_model.no_names(url, [candidate.rpartition("/")[2] for candidate in beside])
    parameters = f"{stem}{inference_model.SUFFIX}{mark}{query}"
    return parameters, cache.fetch_file(parameters), cache.fetch_file(there)


def _is_there(url: str) -> bool:
    files, path = opened(url)
    return bool(files.exists(path))


def _find_remote(url: str, which: str) -> Checkpoint | None:
    if url.partition("?")[0].endswith((".pdparams", ".pdopt", ".pdema", ".safetensors", *_OF_INFERENCE)):
        return None
    files, path = opened(url)
    try:
        if answered(url, lambda: files.exists(f"{path}/{MANIFEST}")):
            return cache.fetch_checkpoint(url)
        mirrored = mirror.list_mirrored(url)
        wanted = list(reversed(mirrored)) if which == "latest" else mirror.ranked(url, mirrored)
    # Every storage library raises its own.
    except OSError as error:
        raise SourceError(
            "the source could not be reached",
            where=url,
            received=f"{type(error).__name__}: {error}",
            expected="a URL that can be read",
            remedy="check the URL, the network and the credentials",
        ) from cause(error)
    if not mirrored:
        return None
    if not wanted:
        raise NoUsableCheckpointError(
            "which of a mirrored run's checkpoints is the best is not known", where=url,
            received=f"{len(mirrored)} checkpoints, none with a metric that a KeepBest ranks by",
            expected="the URL of one of them", remedy=f"{url}/{CHECKPOINTS}/…",
        )  # fmt: skip
    with PassedOver("newest" if which == "latest" else which) as passed:
        for name in wanted:
            try:
                return cache.fetch_checkpoint(f"{url}/{CHECKPOINTS}/{name}")
            except (CorruptCheckpointError, SourceError) as error:
                if isinstance(error, SourceError) and not isinstance(error.__cause__, FileNotFoundError):
                    raise  # out of reach is not gone
                passed.add(name, error)
        passed.none_is_whole(url, remedy="name another run")
    return None


def _find_file(text: str) -> Path:
    path = Path(text).expanduser()
    tried = [
        path,
        *(path.with_name(path.name + suffix) for suffix in (".pdparams", ".safetensors", ".pdiparams")),
    ]
    if path.suffix in _BESIDE_PARAMETERS and path.is_file():
        tried = [path.with_suffix(inference_model.SUFFIX)]
    for candidate in tried:
        if candidate.is_file():
            _refuse_other_kinds(candidate)
            return candidate
    raise SourceError(
        "the directory is no source of weights" if path.is_dir() else "the source is not there",
        where=text,
        received=nearby.seen(path),
        expected="one of: " + ", ".join([*map(str, tried), f"{path}/{MANIFEST}", f"{path}/{CHECKPOINTS}/"]),
        remedy=nearby.advice(path),
    )


def _refuse_other_kinds(path: Path) -> None:
    instead = {
        ".pdopt": "the .pdparams file beside it: this one holds the optimizer's state",
        ".pth": "a safetensors file: convert this one where PyTorch is at hand",
        ".pt": "a safetensors file: convert this one where PyTorch is at hand",
    }.get(path.suffix)
    if instead is not None:
        raise SourceError(
            f"a {path.suffix} file is no source of weights by name", where=str(path), received=path.name,
            expected="a .pdparams or .safetensors file", remedy=f"give {instead}",
        )  # fmt: skip


def _of_layer(source: Any) -> Source:
    source = getattr(source, "network", source)  # of a paddle.Model
    state_dict = getattr(source, "state_dict", None)
    if not callable(state_dict):
        raise SourceError(
            "this is no source of weights",
            where="source",
            received=f"{type(source).__module__}.{type(source).__qualname__}",
            expected="a path, a URL, a dictionary of arrays, a Layer, or a paddle.Model",
        )
    name = type(source).__name__
    return Source(f"a live {name}", _arrays(state_dict(), f"the state_dict() of {name}"))


def _arrays(content: Any, where: str, part: str | None = None) -> dict[str, np.ndarray[Any, Any]]:
    """Return the arrays among a state dict's values, or those of a part of it; what else it holds is no weight."""
    if part is not None:
        content, where = _part(content, where, part), f"{where}, part {part!r}"
    arrays: dict[str, np.ndarray[Any, Any]] = {}
    for name, value in (content if isinstance(content, Mapping) else {}).items():
        array = value.numpy() if callable(getattr(value, "numpy", None)) else value
        if isinstance(array, np.ndarray):
            arrays[str(name)] = array
    if not arrays:
        held = list(content)[:8] if isinstance(content, Mapping) else type(content).__name__
        raise SourceError(
            "there are no weights in the source",
            where=where,
            received=f"{held}",
            expected="a dictionary of names to arrays, as network.state_dict() has",
            remedy="if the weights are nested, name their part: part='...'",
        )
    return arrays


def _part(content: Any, where: str, part: str) -> Any:
    for key in part.split("."):
        if not isinstance(content, Mapping) or key not in content:
            raise SourceError(
                "the source has no such part",
                where=where,
                received=f"{part!r}",
                expected=f"one of {', '.join(map(str, list(content)[:8]))}"
                if isinstance(content, Mapping)
                else f"a dictionary, not {type(content).__name__}",
            )
        content = content[key]
    return content

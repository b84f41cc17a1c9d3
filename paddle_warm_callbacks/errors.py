"""Every exception this package raises on purpose, and the five fields that each one carries."""

from __future__ import annotations

from paddle_warm_callbacks.secrets import redacted


class WarmCallbacksError(Exception):
    """Say what went wrong in a way a user can act on.

    Attributes:
        what: One sentence, the failure itself.
        where: The file, key, argument or step it was found at; may be empty.
        received: What was found there; may be empty.
        expected: What would have been right; may be empty.
        remedy: What the user can do about it; may be empty.

    ``str(error)`` puts all of them, one a line, under the class's name. Credentials in URLs are left out.

    >>> print(InvalidArgumentError("n must be positive", where="EveryNSteps(n)", received="0",
    ...                            expected="an int of at least 1", remedy="pass n=1 to save at every step"))
    n must be positive
      where:    EveryNSteps(n)
      received: 0
      expected: an int of at least 1
      remedy:   pass n=1 to save at every step
    """

    def __init__(
        self, what: str, *, where: str = "", received: str = "", expected: str = "", remedy: str = ""
    ) -> None:
        what, where, received, expected, remedy = map(redacted, (what, where, received, expected, remedy))
        self.what = what
        self.where = where
        self.received = received
        self.expected = expected
        self.remedy = remedy
        fields = (("where", where), ("received", received), ("expected", expected), ("remedy", remedy))
        lines = [what, *(f"  {name + ':':<9} {text}" for name, text in fields if text)]
        super().__init__("\n".join(lines))


class InvalidArgumentError(WarmCallbacksError, ValueError):
    """An argument of ours was wrong; raised when the object is built, before any training."""


class PatternError(InvalidArgumentError):
    """A pattern or rename matched nothing, or matched ambiguously."""


class UnsupportedFitError(WarmCallbacksError):
    """This ``Model.fit`` (its version, mode or setting) is not one we know how to position."""


class SourceError(WarmCallbacksError):
    """A warm-start source could not be found or opened; the message lists what was tried."""


class CoverageError(WarmCallbacksError):
    """A warm start loaded a smaller share of the parameters than ``min_loaded``."""


class CheckpointError(WarmCallbacksError):
    """A checkpoint could not be read, written or trusted."""


class CorruptCheckpointError(CheckpointError):
    """Bytes on disk differ from what the manifest promised."""


class NoUsableCheckpointError(CheckpointError):
    """Checkpoints are there, and none of them verifies."""


class UnsafeFileError(CheckpointError):
    """A file asks to run code or to take an absurd amount of memory, or is of another kind; none of it was executed."""


class CheckpointWriteError(CheckpointError):
    """A save failed; checkpoints committed before it are intact."""


class RegistryError(WarmCallbacksError):
    """A registry has no such model, version or tag, or has that version already."""


class RunDirectoryBusyError(CheckpointError):
    """Another live process is writing to this run directory."""


class ResumeChangedError(WarmCallbacksError):
    """The script was changed since the checkpoint in a way that an exact resume cannot bridge."""


class RankError(WarmCallbacksError):
    """The ranks of a distributed run cannot go on together: one is missing, has failed, or is not where others are."""


def in_a_line(error: BaseException) -> str:
    """Write an exception so that another error can quote it, such as another rank's.

    >>> in_a_line(InvalidArgumentError("n must be positive", received="0"))
    'InvalidArgumentError: n must be positive'
    """
    text = error.what if isinstance(error, WarmCallbacksError) else str(error)
    return f"{type(error).__name__}: {text}".splitlines()[0][:500]

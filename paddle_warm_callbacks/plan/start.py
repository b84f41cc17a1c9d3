"""What a run starts from, of all that it could: a checkpoint of its own, then weights given, then pretrained ones."""

from __future__ import annotations

from dataclasses import dataclass

RESUME, CHECKPOINT, PRETRAINED, COLD = "resume", "checkpoint", "pretrained", "cold"


@dataclass(frozen=True)
class Start:
    """What was chosen.

    Attributes:
        kind: "resume", "checkpoint", "pretrained" or "cold".
        taken: What it is, in words.
        passed_over: Of each that goes before or was asked for too, why it was not taken, a sentence each.
    """

    kind: str
    taken: str
    passed_over: tuple[str, ...]

    def to_text(self) -> str:
        """Return the choice and its reasons, a line each."""
        return "\n".join([f"start: {self.taken}", *(f"  not {sentence}" for sentence in self.passed_over)])


def choose_start(
    *, resume_from: str | None, run: str, found: str | None, source: str | None, pretrained: str | None
) -> Start:
    """Choose by precedence: a resume, then ``source``, then ``pretrained``, then a cold start.

    Args:
        resume_from: What the user asked to resume: "latest", "best", a path or URL; None: nothing.
        run: The run that "latest" and "best" are of, in words.
        found: The checkpoint that was found there, or None.
        source: The weights given, in words, or None.
        pretrained: The pretrained weights asked for, in words, or None.

    >>> start = choose_start(
    ...     resume_from="latest", run="runs/a", found=None, source="old.pdparams", pretrained="paddle.vision:resnet50"
    ... )
    >>> print(start.to_text())
    start: warm, from old.pdparams
      not resumed: runs/a has no checkpoint yet
      not pretrained (paddle.vision:resnet50): the checkpoint given goes before it
    """
    why: list[str] = []
    if found is not None:
        if source is not None:
            why.append(f"warm from {source}: this run's own checkpoint goes before it")
        if pretrained is not None:
            why.append(f"pretrained ({pretrained}): this run's own checkpoint goes before it")
        return Start(RESUME, f"resumed, {resume_from}: {found}", tuple(why))
    if resume_from is None:
        why.append("resumed: resume_from is not set")
    else:
        why.append(f"resumed: {run} has no checkpoint yet")
    if source is not None:
        if pretrained is not None:
            why.append(f"pretrained ({pretrained}): the checkpoint given goes before it")
        return Start(CHECKPOINT, f"warm, from {source}", tuple(why))
    if pretrained is not None:
        return Start(
            PRETRAINED, f"warm, pretrained: {pretrained}", (*why, "from a checkpoint: none is given")
        )
    why.append("warm: neither a checkpoint nor pretrained weights are given")
    return Start(COLD, "cold, from the network's own initial values", tuple(why))

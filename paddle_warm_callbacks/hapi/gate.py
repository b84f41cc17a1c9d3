"""The one gate into ``Model.fit``: what its ``range(epochs)`` and ``enumerate(data_loader)`` return, once.

``Model.fit`` starts at epoch 0 and step 0 and offers no way to say otherwise: its epoch numbers come from
``range(epochs)`` and its step numbers from ``enumerate(data_loader)`` inside ``_run_one_epoch``. Both names are looked
up in the globals of ``paddle.hapi.model`` when they are called. An :func:`arm` puts a stand-in there that answers
exactly one call, the one made by the frame it was armed for, and is gone with it; any other caller, in any thread, gets
the builtin. Skipped epochs therefore never exist: every number, length and flag that follows is Paddle's own.
"""

from __future__ import annotations

import builtins
import sys
import threading
from types import CodeType, FrameType
from typing import Any, Callable, NamedTuple

import paddle.hapi.model as hapi_model

Replacement = Callable[[Any], Any]


class _Arm(NamedTuple):
    code: CodeType
    local: str
    value: object
    replacement: Replacement

    def fits(self, frame: FrameType) -> bool:
        return frame.f_code is self.code and frame.f_locals.get(self.local) is self.value


_lock = threading.Lock()
_armed: dict[str, list[_Arm]] = {}


def arm(name: str, code: CodeType, local: str, value: object, replacement: Replacement) -> None:
    """Answer the next call of builtin ``name`` made by ``code`` while its local ``local`` is ``value``.

    Args:
        name: ``"range"`` or ``"enumerate"``.
        code: The code object of the calling function.
        local: Name of a local variable of that function.
        value: The object that local must be, by identity.
        replacement: Called in place of the builtin with its one argument.
    """
    with _lock:
        _armed.setdefault(name, []).append(_Arm(code, local, value, replacement))
        vars(hapi_model).setdefault(name, _stand_in(name))


def disarm(value: object) -> None:
    """Take back whatever is still armed for ``value``; does nothing if there is none."""
    with _lock:
        for name in list(_armed):
            _keep(name, [arm_ for arm_ in _armed[name] if arm_.value is not value])


def _stand_in(name: str) -> Callable[..., Any]:
    builtin = getattr(builtins, name)

    def stand_in(*args: Any) -> Any:
        found = _take(name, sys._getframe(1))
        return builtin(*args) if found is None else found.replacement(*args)

    return stand_in


def _take(name: str, frame: FrameType) -> _Arm | None:
    with _lock:
        waiting = _armed.get(name, [])
        found = next((arm_ for arm_ in waiting if arm_.fits(frame)), None)
        if found is not None:
            _keep(name, [arm_ for arm_ in waiting if arm_ is not found])
        return found


def _keep(name: str, arms: list[_Arm]) -> None:
    if arms:
        _armed[name] = arms
    else:
        _armed.pop(name, None)
        vars(hapi_model).pop(name, None)

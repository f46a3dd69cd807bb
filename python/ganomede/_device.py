"""Where detectors and programs run."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet() -> Iterator[None]:
    """While adapters are looked for: where there is no screen, drivers are told not to look for one.

    Its library would print ``error: XDG_RUNTIME_DIR is invalid``, once an adapter.
    """
    is_absolute = os.path.isabs(os.environ.get("XDG_RUNTIME_DIR", ""))
    given: dict[str, str] = {}
    if sys.platform == "linux" and not is_absolute:
        given["NODEVICE_SELECT"] = "1"
        if "WAYLAND_SOCKET" not in os.environ and not os.path.isabs(os.environ.get("WAYLAND_DISPLAY", "")):
            given["WAYLAND_DISPLAY"] = "/nonexistent"
    before = {name: os.environ.get(name) for name in given}
    os.environ.update(given)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value

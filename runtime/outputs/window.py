"""A window on this machine's own screen."""

from __future__ import annotations

import subprocess
import sys

import cv2
import numpy as np

from runtime.errors import HedgeError

_PROBE = "import cv2; cv2.namedWindow('hedge')"
_PHOTO_MS = 1500  # that a photo stays, unless a key is pressed
_LEAVE = {27, ord("q")}  # Escape


def require_window() -> None:
    """Raise HedgeError, which tells what to do, unless OpenCV can open windows here."""
    # In a process of its own: where there is no screen, some of OpenCV's builds end it.
    found = subprocess.run([sys.executable, "-c", _PROBE], capture_output=True, text=True)
    if found.returncode == 0:
        return
    reason = "no screen can be reached from here (is DISPLAY set?)"
    if "not implemented" in found.stderr:
        reason = (
            "this build of OpenCV opens no windows; pip uninstall opencv-python-headless, then "
            "pip install opencv-python"
        )
    raise HedgeError(f"--show: {reason}; --serve 8000 shows the same in a browser")


class Window:
    """Shows pictures until q, Escape or its own button closes it; for the main thread."""

    def __init__(self, title: str, photos: bool) -> None:
        self.closed = False
        self._title, self._wait_ms = title, _PHOTO_MS if photos else 1
        cv2.namedWindow(title, cv2.WINDOW_KEEPRATIO | cv2.WINDOW_GUI_NORMAL)
        self._sized = False

    def show(self, picture: np.ndarray) -> None:
        """Show an (H, W, 3) uint8 BGR ``picture``; nothing once it is closed."""
        if self.closed:
            return
        if not self._sized:
            cv2.resizeWindow(self._title, picture.shape[1], picture.shape[0])
            self._sized = True
        cv2.imshow(self._title, picture)
        key = cv2.waitKey(self._wait_ms) & 0xFF
        visible = cv2.getWindowProperty(self._title, cv2.WND_PROP_VISIBLE) >= 1
        self.closed = key in _LEAVE or not visible

    def close(self) -> None:
        """Close it; harmless when repeated."""
        cv2.destroyAllWindows()

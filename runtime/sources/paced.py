"""Files played at their own rate, as a camera would send them."""

from __future__ import annotations

import time
from collections.abc import Container, Generator
from dataclasses import replace

from runtime.sources.base import Frame, Source
from runtime.sources.live import LiveSource


class PacedSource(LiveSource):
    """A source of files played at its own rate, as if a camera sent it.

    What the file lacks, the file says: frames that were dropped are no shortfall.
    """

    def __init__(self, source: Source) -> None:
        super().__init__(source.origin, source.fps, source.expected)
        self.files, self._names, self._source = source.files, source.names, source
        self.timed, self.record, self.decoder = source.timed, source.record, source.decoder

    @property
    def names(self) -> Container[str] | None:
        """See ``Source``: those of the files."""
        return self._names

    def complaint(self) -> str | None:
        """See ``Source``: what the files lack; dropped frames are no shortfall."""
        return self._source.complaint()

    def stop(self) -> None:
        """See ``Source``."""
        self._source.stop()
        super().stop()

    def close(self) -> None:
        """See ``Source``."""
        super().close()
        self._source.close()

    def _arrivals(self) -> Generator[Frame]:
        first: float | None = None
        for frame in self._source:
            now = time.monotonic()
            first = now - frame.time_s if first is None else first
            if self._stopped.wait(max(0.0, first + frame.time_s - now)):
                return
            yield replace(frame, arrived=time.monotonic())

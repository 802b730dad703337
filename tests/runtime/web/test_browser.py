"""In a real browser: the page shows the stream and its numbers, and the videos play."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
from PIL import Image

from runtime.outputs.video_file import VideoSink
from runtime.run import Run
from runtime.segment import Segmenter
from runtime.sources.open import open_source
from runtime.web import server
from runtime.web.server import WebView

Make = Callable[..., Path]
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "chrome"))), None)
EVIL = "<img src=x onerror=document.title='broken'>.mp4"
TEAL = (120, 140, 20)  # BGR, and nowhere else on the page
GREENED = (78, 180, 13)  # 0.35 of it the class's green, as where a class fills the picture

PATIENCE_MS = (4_000, 12_000, 36_000)

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here")


class Browser:
    """A headless Chromium with a profile of its own.

    It looks at a page again, later each time, until what is asked for is ``seen``: a page takes
    its time on a busy machine.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def picture(self, url: str, seen: Callable[[np.ndarray], bool]) -> np.ndarray:
        """(H, W, 3) uint8 RGB of the page."""
        shot = self.folder / "shot.png"
        for patience in PATIENCE_MS:
            self._run(patience, f"--screenshot={shot}", url)
            with Image.open(shot) as image:
                picture = np.asarray(image.convert("RGB"))
            if seen(picture):
                break
        return picture

    def elements(self, url: str, seen: str) -> str:
        """The page's HTML as its scripts have made it, with ``seen`` in it."""
        for patience in PATIENCE_MS:
            html = self._run(patience, "--dump-dom", url)
            if seen in html:
                break
        return html

    def _run(self, until_ms: int, *arguments: str) -> str:
        command = [
            str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", f"--timeout={until_ms}",
            "--window-size=1000,900", "--autoplay-policy=no-user-gesture-required",
            "--disable-background-networking", f"--user-data-dir={self.folder / 'profile'}",
        ]  # fmt: skip
        printed = self.folder / "printed"
        with printed.open("wb") as out:
            quiet = subprocess.DEVNULL
            process = subprocess.Popen(
                [*command, *arguments], stdout=out, stderr=quiet, start_new_session=True
            )
            try:
                process.wait(90)
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
        return printed.read_text()


@pytest.fixture
def browser(tmp_path: Path) -> Browser:
    return Browser(tmp_path)


@pytest.fixture
def view(shared_bundle: Path, make_clip: Make, tmp_path: Path) -> Iterator[WebView]:
    """The page of a run over a video with an evil name, whose picture is all teal, and green."""
    over = threading.Event()

    def keep_showing() -> None:
        while not over.wait(0.05):
            view.count(np.ones((8, 8), np.uint8))
            if view.wants():
                view.show(np.full((360, 640, 3), TEAL, np.uint8), np.ones((360, 640), np.uint8))

    clip = str(make_clip(tmp_path / EVIL, 6))
    with Segmenter(shared_bundle, "onnxruntime", 1) as segmenter, open_source(clip) as source:
        run = Run(source, segmenter, shared_bundle)
        for frame in source:
            prediction = segmenter.predict(frame)
            run.score(prediction)
            run.add(prediction, 1.0)
        with WebView(run, "127.0.0.1", 0) as view:
            thread = threading.Thread(target=keep_showing)
            thread.start()
            yield view
            over.set()
            thread.join()


def share(picture: np.ndarray, color: tuple[int, int, int], tolerance: int = 8) -> float:
    """Of the pixels of an RGB picture that are as the BGR ``color``."""
    near = np.abs(picture.astype(int) - color[::-1]).max(axis=2) <= tolerance
    return float(near.mean())


def test_the_page_shows_the_stream(view: WebView, browser: Browser) -> None:
    picture = browser.picture(view.url, lambda page: share(page, GREENED) > 0.15)
    assert share(picture, GREENED) > 0.15


@pytest.mark.parametrize(
    ("act", "expected"),
    [
        ("entries.get(1).click()", TEAL),
        ("at('all').click()", TEAL),
        ("at('all').click(); at('all').click()", GREENED),
        ("at('opacity').value = 0; at('opacity').onchange()", TEAL),
    ],
)
def test_the_legend_and_the_slider_say_what_is_drawn(
    act: str, expected: tuple[int, int, int], view: WebView, browser: Browser
) -> None:
    """A script that acts once the class is in the legend."""
    script = f"""<script>
    const acting = setInterval(() => {{
      if (entries.has(1)) {{ clearInterval(acting); {act}; }}
    }}, 50);
    </script></body>"""
    acted = browser.folder / "acted.html"
    acted.write_text(server._PAGE.read_text().replace("</body>", script))
    with patch.object(server, "_PAGE", acted):
        picture = browser.picture(view.url, lambda page: share(page, expected) > 0.15)
    other = GREENED if expected == TEAL else TEAL
    assert share(picture, expected) > 0.15
    assert share(picture, other) < 0.01


def test_a_long_name_of_a_class_makes_the_page_no_wider(view: WebView, browser: Browser) -> None:
    script = """<script>
    const long = entryOf({name: "", color: "red"}, 5);
    long.lastChild.textContent = "pole".repeat(99);
    at("legend").append(long);
    document.body.dataset.wide = document.documentElement.scrollWidth > innerWidth;
    </script></body>"""
    named = browser.folder / "named.html"
    named.write_text(server._PAGE.read_text().replace("</body>", script))
    with patch.object(server, "_PAGE", named):
        assert 'data-wide="false"' in browser.elements(view.url, "data-wide=")


def test_the_page_shows_the_numbers_and_runs_no_name(view: WebView, browser: Browser) -> None:
    html = browser.elements(view.url, "green 100.0 %")
    assert "<img src=" not in html.replace('<img id="picture"', "")
    assert "&lt;img src=x onerror=" in html
    assert "fps · brightest</title>" in html
    assert 'id="lost" hidden=""' in html
    assert "<td>written</td><td>6</td>" in html
    assert "green 100.0 %" in html
    assert "sha256 " in html


@pytest.mark.parametrize("color", [(200, 120, 40), (30, 30, 220)])
def test_videos_play_in_their_colors(
    color: tuple[int, int, int], browser: Browser, tmp_path: Path
) -> None:
    with VideoSink(tmp_path / "a.mp4", Fraction(10)) as sink:
        for _ in range(15):
            sink.write(np.full((270, 480, 3), color, np.uint8))
    page = tmp_path / "page.html"
    page.write_text("<body style='margin: 0'><video src='a.mp4' autoplay muted loop></video>")
    picture = browser.picture(page.as_uri(), lambda page: share(page[:270, :480], color) > 0.95)
    assert share(picture[:270, :480], color) > 0.95


def test_the_page_draws_latency_and_takes_a_snapshot(view: WebView, browser: Browser) -> None:
    """A script that presses the button when the picture is there, and tells what came of it."""
    page = browser.elements(view.url, '<canvas id="times" width="')
    assert 'id="snapshot"' in page and re.search(r'<canvas id="times" width="\d{3,}', page)
    press = """<script>
    HTMLAnchorElement.prototype.click = function () {  // a real one would ask for a file
      document.body.dataset.kept = this.download + " " + this.href.slice(0, 22);
      document.body.dataset.large = this.href.length > 500;
    };
    at("picture").addEventListener("load", () => at("snapshot").click());
    </script></body>"""
    pressed = browser.folder / "pressed.html"
    pressed.write_text(server._PAGE.read_text().replace("</body>", press))
    with patch.object(server, "_PAGE", pressed):
        page = browser.elements(view.url, "data-kept=")
    assert re.search(r'data-kept="hedge-20[-\dT]+\.png data:image/png;base64,"', page)
    assert 'data-large="true"' in page


def test_the_picture_is_asked_for_again_when_the_server_is_back(
    view: WebView, browser: Browser
) -> None:
    """Its stream ends with the connection. A script that loses the first answer."""
    losing = """"use strict";
    const real = fetch, later = setTimeout;
    let asked = 0;
    setTimeout = (act, ms) => later(act, ms / 50);  // the browser does not look for seconds
    fetch = (...what) => {
      if (asked++) return real(...what);
      new MutationObserver(() => { document.body.dataset.again = "true"; })
        .observe(at("picture"), { attributeFilter: ["src"] });
      return Promise.reject(new Error("gone"));
    };"""
    lost = browser.folder / "lost.html"
    lost.write_text(server._PAGE.read_text().replace('"use strict";', losing))
    with patch.object(server, "_PAGE", lost):
        page = browser.elements(view.url, 'data-again="true"')
    assert 'data-again="true"' in page and 'id="lost" hidden=""' in page

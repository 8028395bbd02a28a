"""OHIF, the viewer that most web PACSs ship, in a real browser and fed by Orthanc's DICOMweb service."""

import contextlib
import http.client
import json
import shutil
import sys
import threading
from collections.abc import Iterator
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from playwright.sync_api import Error, Page, sync_playwright

__all__ = ["Viewer", "ohif"]

BUILT = Path(sys.prefix) / "peers" / "node_modules" / "@ohif" / "app" / "dist"  # tools/npm_packages.sh puts it there
LIMIT_S = 60.0
CHROMIUM = "chromium"
# No sandbox, as root may have none; WebGL in software, as a machine for tests has no graphics card.
SWITCHES = (
    "--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--ignore-gpu-blocklist"
)  # fmt: skip
SIZE = {"width": 1400, "height": 850}
SOURCE = {
    "namespace": "@ohif/extension-default.dataSourcesModule.dicomweb",
    "sourceName": "pacs",
    "configuration": {
        "friendlyName": "PACS",
        "name": "pacs",
        "qidoRoot": "/dicom-web",
        "wadoRoot": "/dicom-web",
        "wadoUriRoot": "/wado",
        "qidoSupportsIncludeField": False,
        "imageRendering": "wadors",
        "thumbnailRendering": "wadors",
        "enableStudyLazyLoad": True,
        "supportsFuzzyMatching": False,
        "supportsWildcard": True,
        "omitQuotationForMultipartRequest": True,
        "bulkDataURI": {"enabled": True},
    },
}
CONFIGURATION = {
    "routerBasename": None,
    "extensions": [],
    "modes": [],
    "showStudyList": True,
    "maxNumberOfWebWorkers": 2,
    "showWarningMessageForCrossOrigin": False,
    "showCPUFallbackMessage": False,
    "strictZSpacingForVolumeViewport": True,
    "investigationalUseDialog": {"option": "never"},
    "customizationService": {"ohif.tours": {"$set": []}},
    "defaultDataSourceName": "pacs",
    "dataSources": [SOURCE],
}
THUMBNAIL = '[data-cy^="study-browser-thumbnail"]'
LINES = '[data-cy="viewport-pane"] svg.svg-layer :is(polyline, path, polygon)'

POLL_MS = 300
SHOWN = "services.cornerstoneViewportService.getCornerstoneViewport(services.viewportGridService.getActiveViewportId())"
ON_PAGE = f"""points => {{
    const shown = {SHOWN}, at = shown.canvas.getBoundingClientRect();
    const whole = cornerstone.metaData.get('imagePlaneModule', shown.getCurrentImageId()) || {{}};
    const isPlaced = whole.imagePositionPatient && whole.imageOrientationPatient && whole.rowPixelSpacing;
    const image = shown.getImageData().imageData;
    const along = (from, to, steps, spacing) => from.map((value, axis) => value + to[axis] * steps * spacing);
    return points.map(([column, row]) => {{
        const inRow = isPlaced && along(whole.imagePositionPatient, whole.rowCosines, column, whole.columnPixelSpacing);
        const world = isPlaced
            ? along(inRow, whole.columnCosines, row, whole.rowPixelSpacing) : image.indexToWorld([column, row, 0]);
        const [x, y] = shown.worldToCanvas(world);
        return [at.left + x, at.top + y];
    }});
}}"""
GLYPHS = """signs => {
    const canvas = document.createElement('canvas'), context = canvas.getContext('2d', {willReadFrequently: true});
    canvas.width = canvas.height = 40;
    const drawn = new Set(signs.map(sign => {
        context.clearRect(0, 0, 40, 40);
        context.font = '24px ' + getComputedStyle(document.body).fontFamily;
        context.fillText(sign, 4, 28);
        return context.getImageData(0, 0, 40, 40).data.join();
    }));
    return drawn.size === signs.length;
}"""


class Viewer:
    """OHIF in one page of a browser; `said` is what the page wrote on its console, `faults` its uncaught errors."""

    def __init__(self, page: Page, address: str, folder: Path) -> None:
        self.page = page
        self.said: list[str] = []
        self.faults: list[str] = []
        self._address = address
        self._folder = folder
        page.set_default_timeout(LIMIT_S * 1000)
        page.on("console", lambda message: self.said.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: self.faults.append(str(error)))

    def open(self, study_instance_uid: str, *, series: int) -> None:
        """Open a study and wait for its first image and as many thumbnails as it has series."""
        self.page.goto(f"{self._address}/viewer?StudyInstanceUIDs={study_instance_uid}", wait_until="domcontentloaded")
        self.page.wait_for_function(
            "([selector, count]) => document.querySelectorAll(selector).length >= count", arg=[THUMBNAIL, series]
        )
        self.wait_for_text("W:")

    def show(self, description: str) -> None:
        """Put a series into the viewport, by a word of its description."""
        self.page.locator(THUMBNAIL).filter(has_text=description).first.dblclick()

    def wait_for_text(self, text: str) -> None:
        """Wait until the page says something."""
        self.page.wait_for_function("text => document.body.innerText.includes(text)", arg=text)

    def wait_until(self, script: str) -> None:
        """Wait until an expression of the page is true."""
        self.page.wait_for_function(script)

    def wait_for_outlines(self, count: int) -> None:
        """Wait until so many outlines are drawn, and the picture under them with them."""
        self.wait_until(f"document.querySelectorAll({json.dumps(LINES)}).length >= {count}")
        self.settle()

    def settle(self) -> None:
        """Wait until the picture on the page is the same twice."""
        before = b""
        while (now := self.page.screenshot()) != before:
            before = now
            self.page.wait_for_timeout(POLL_MS)

    def answer(self, word: str) -> None:
        """Press a button of a question that the viewer asks."""
        self.page.get_by_role("button", name=word, exact=True).click()
        self.settle()

    def has_glyphs(self, text: str) -> bool:
        """True if every sign of a text is drawn as a sign of its own, not as the box that stands for a missing one."""
        return bool(self.page.evaluate(GLYPHS, sorted({sign for sign in text if sign.isalpha()})))

    def text(self) -> str:
        """All that the page says."""
        return str(self.page.evaluate("document.body.innerText"))

    def on_page(self, points: list[list[float]]) -> npt.NDArray[np.float64]:
        """Where the viewport has the centres of pixels, (column, row) of the image it shows, on the page."""
        return np.array(self.page.evaluate(ON_PAGE, points), np.float64)

    def shown_instance(self) -> str:
        """SOP Instance UID of the image that is shown."""
        address = str(self.page.evaluate(f"{SHOWN}.getCurrentImageId()"))
        return address.partition("/instances/")[2].partition("/")[0]

    def scroll(self, count: int) -> None:
        """Go on by so many images."""
        self.page.evaluate(f"{SHOWN}.scroll({count})")
        self.settle()

    def keep(self, name: str) -> Path:
        """Keep a picture of the page for a person to look at."""
        path = self._folder / f"{name}.png"
        self.page.screenshot(path=path)
        return path


@contextlib.contextmanager
def ohif(dicomweb_port: int, folder: Path) -> Iterator[Viewer]:
    """Run the viewer as long as the ``with`` block lasts, pictures into `folder`; skip where it is not installed."""
    program = shutil.which(CHROMIUM)
    if program is None:
        pytest.skip("Chromium is not installed (tools/system_packages.sh)")
    if not (BUILT / "index.html").is_file():
        pytest.skip("OHIF is not installed (tools/npm_packages.sh)")
    folder.mkdir(parents=True, exist_ok=True)
    with _serving(dicomweb_port) as port, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=list(SWITCHES))
        try:
            viewer = Viewer(browser.new_page(viewport=SIZE), f"http://127.0.0.1:{port}", folder)
            yield viewer
        except Error as error:
            viewer.keep("fault")
            told = "\n".join([*viewer.faults, *viewer.said[-20:]])
            raise AssertionError(f"{error}\n{told}") from error
        finally:
            browser.close()


@contextlib.contextmanager
def _serving(dicomweb_port: int) -> Iterator[int]:
    """The viewer's files and the archive at one address, as a browser wants it."""

    class Handler(_Handler):
        archive = dicomweb_port

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield int(server.server_address[1])
        finally:
            server.shutdown()
            thread.join()


class _Handler(SimpleHTTPRequestHandler):
    archive = 0
    protocol_version = "HTTP/1.1"

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments, directory=str(BUILT))

    def do_GET(self) -> None:
        path = self.path.split("?")[0]
        if path.startswith(("/dicom-web", "/wado")):
            self._ask_archive()
        elif path == "/app-config.js":
            self._answer(HTTPStatus.OK, "text/javascript", f"window.config={json.dumps(CONFIGURATION)};".encode())
        else:
            if not (BUILT / path.lstrip("/")).is_file():
                self.path = "/index.html"
            super().do_GET()

    def end_headers(self) -> None:
        self.send_header("Cross-Origin-Opener-Policy", "same-origin")
        self.send_header("Cross-Origin-Embedder-Policy", "require-corp")
        super().end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def _ask_archive(self) -> None:
        # The archive makes the addresses of its bulk data from Host, and a multipart answer from Accept.
        headers = {name: self.headers[name] for name in ("Accept", "Host") if name in self.headers}
        asked = http.client.HTTPConnection("127.0.0.1", self.archive, timeout=LIMIT_S)
        with contextlib.closing(asked):
            asked.request("GET", self.path, headers=headers)
            answer = asked.getresponse()
            self._answer(answer.status, answer.getheader("Content-Type", ""), answer.read())

    def _answer(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

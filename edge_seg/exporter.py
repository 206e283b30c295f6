"""A segmenter's counters as Prometheus text, over HTTP, where that is asked for.

    with Exporter(9102) as exporter:                http://127.0.0.1:9102/metrics
        exporter.watch(segmenter, name="door")

    edge_seg_mask_seconds            histogram: how long calls of `segment` took, late ones included
    edge_seg_lost_frames_total       frames that got an error for a mask
    edge_seg_failures_total, _hangs_total, _stuck_total, _switches_total, _returns_total
    edge_seg_degraded                1 where the runtime in use is not the board's first choice
    edge_seg_runtime_info            1; the version, board, runtime, bundle and artifact in its
                                     labels, and the beginning of that artifact's sha256

Every series has the label `segmenter`. This machine alone can read it unless a host is given: it
has no password. Nothing is sent anywhere. Needs prometheus_client: pip install "edge-seg[metrics]".
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from itertools import accumulate
from types import TracebackType
from typing import TYPE_CHECKING

from edge_seg._version import __version__
from edge_seg.counters import BOUNDS, Latency
from edge_seg.errors import BackendUnavailable, OutputError

if TYPE_CHECKING:
    from prometheus_client.core import HistogramMetricFamily, Metric

    from edge_seg.segmenter import EdgeSegmenter

LOCALHOST = "127.0.0.1"
DIGITS = 12  # of a sha256: as `edge-seg verify` and errors show it
HELP = {
    "lost": ("edge_seg_lost_frames", "Frames that got an error for a mask"),
    "failures": ("edge_seg_failures", "Calls of a runtime that failed, retried ones included"),
    "hangs": ("edge_seg_hangs", "Calls given up at the deadline"),
    "stuck": ("edge_seg_stuck", "Runtimes left because their answers had frozen"),
    "switches": ("edge_seg_switches", "Times another runtime took over"),
    "returns": ("edge_seg_returns", "Times an earlier choice came back"),
}


class Exporter:
    """The endpoint: open until `close`, or the end of its `with` block.

    port: 0 for any that is free. host: the address to listen at, "0.0.0.0" for every interface.
    Raises BackendUnavailable (no prometheus_client), OutputError (a port that cannot be had).
    """

    def __init__(self, port: int, *, host: str = LOCALHOST) -> None:
        try:
            from prometheus_client import CollectorRegistry, start_http_server
        except ImportError as error:
            raise BackendUnavailable(
                "wanted prometheus_client to show counters, found it missing; "
                'pip install "edge-seg[metrics]"'
            ) from error
        self._watched: dict[str, EdgeSegmenter] = {}
        self._lock = threading.Lock()
        registry = CollectorRegistry()
        registry.register(self)
        try:
            self._server, self._thread = start_http_server(port, host, registry)
        except (OSError, OverflowError, TypeError) as error:
            raise OutputError(
                f"wanted to show counters at {host}:{port}, found: {error}; choose another port, "
                "or correct the address"
            ) from error

    @property
    def address(self) -> str:
        """Where Prometheus, or a browser, finds them."""
        host, port = self._server.socket.getsockname()[:2]
        return f"http://{f'[{host}]' if ':' in host else host}:{port}/metrics"

    def watch(self, segmenter: EdgeSegmenter, *, name: str = "") -> None:
        """Show a segmenter's counters under a name; they replace any shown under it before.

        name: the label "segmenter" of its series. Raises OutputError for a name that is not text of
        UTF-8, which prometheus_client would fail on at every request, and for anything but a
        segmenter.
        """
        if not isinstance(getattr(segmenter, "latency", None), Latency):
            raise OutputError(
                f"wanted a segmenter to show the counters of, found {type(segmenter).__name__}; "
                "give what EdgeSegmenter.open returned"
            )
        if not _is_text(name):
            raise OutputError(
                f"wanted name= as text to show a segmenter under, found {name!r:.60}; pass its "
                "str()"
            )
        with self._lock:
            self._watched[name] = segmenter

    def unwatch(self, name: str = "") -> None:
        """Show what was watched under that name no longer; nothing where there was none."""
        with self._lock:
            self._watched.pop(name, None)

    def collect(self) -> Iterator[Metric]:
        """Yield every series; called by prometheus_client, in a thread of its own."""
        from prometheus_client.core import (
            CounterMetricFamily,
            GaugeMetricFamily,
            HistogramMetricFamily,
        )

        with self._lock:
            watched = list(self._watched.items())
        masks = HistogramMetricFamily(
            "edge_seg_mask_seconds",
            "How long a frame took to its mask, or until its mask was given up as late",
            labels=["segmenter"],
        )
        degraded = GaugeMetricFamily(
            "edge_seg_degraded",
            "1 where the runtime in use is not the board's first choice",
            labels=["segmenter"],
        )
        about = ("segmenter", "version", "board", "runtime", "bundle", "artifact", "sha256")
        info = GaugeMetricFamily("edge_seg_runtime_info", "What is in use", labels=about)
        for name, segmenter in watched:
            _fill(masks, name, segmenter.latency)
            degraded.add_metric([name], segmenter.degraded)
            info.add_metric([name, __version__, *_in_use(segmenter)], 1)
        yield from (masks, degraded, info)
        for field, (series, text) in HELP.items():
            counter = CounterMetricFamily(series, text, labels=["segmenter"])
            for name, segmenter in watched:
                counter.add_metric([name], getattr(segmenter.counters, field))
            yield counter

    def close(self) -> None:
        """Stop listening; may be called twice."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> Exporter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _in_use(segmenter: EdgeSegmenter) -> tuple[str, ...]:
    """Board, runtime, bundle, artifact and its digest; "" for what it was opened without."""
    board, bundle, artifact = segmenter.board, segmenter.bundle, segmenter.artifact
    return (
        board.name if board else "",
        str(segmenter.runtime or ""),
        bundle.name if bundle else "",
        artifact.name if artifact else "",
        _digest([part.sha256 for part in artifact.files]) if artifact else "",
    )


def _digest(digests: list[str]) -> str:
    """The beginning of a file's sha256; of several files, of the sha256 of theirs in a row."""
    whole = "".join(digests)
    return (whole if len(digests) == 1 else hashlib.sha256(whole.encode()).hexdigest())[:DIGITS]


def _fill(family: HistogramMetricFamily, name: str, latency: Latency) -> None:
    """Add cumulated buckets, as the format wants them; a copy, because calls go on meanwhile."""
    sums = accumulate(list(latency.buckets))
    ends = [*(f"{bound:g}" for bound in BOUNDS), "+Inf"]
    family.add_metric([name], list(zip(ends, sums, strict=True)), sum_value=latency.total)


def _is_text(name: object) -> bool:
    """True for text that has bytes: what `os.fsdecode` makes of a foreign file's name has none."""
    return isinstance(name, str) and not any("\ud800" <= letter <= "\udfff" for letter in name)

"""A live source and a camera with physics, in simulated time."""

from __future__ import annotations

import logging
import math
import multiprocessing
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_seg.camera import LivePolicy, LiveSource, fake, open_source
from edge_seg.camera.fake import Event, FakeCamera, Hardware
from edge_seg.camera.stream import Request, Stream, Taken
from edge_seg.camera.timing import CameraClock
from edge_seg.errors import CameraError, CameraLost, SettingError
from edge_seg.segmenter import EdgeSegmenter
from tests.conftest import until
from tests.simulated_time import SimulatedClock

SMALL = (48, 64)


def camera(clock: SimulatedClock, *events: Event, **hardware: object) -> FakeCamera:
    made = Hardware(size=SMALL, events=events, **hardware)  # type: ignore[arg-type]
    return FakeCamera(made, clock=clock)


def live(made: FakeCamera, **policy: object) -> LiveSource:
    return LiveSource(
        made.connect,
        name="fake:",
        policy=LivePolicy(**policy),  # type: ignore[arg-type]
        clock=made.clock,
    )


@dataclass
class Log:
    """What a loop saw: each frame's number, its true age when handed out, when that was."""

    numbers: list[int] = field(default_factory=list)
    ages: list[float] = field(default_factory=list)
    stamps: list[float] = field(default_factory=list)
    times: list[float] = field(default_factory=list)


def watch(source: LiveSource, made: FakeCamera, *, seconds: float, work: float = 0.0) -> Log:
    """Take frames for so long, spending `work` seconds on each."""
    seen = Log()
    clock = made.clock
    until = clock.now() + seconds
    while clock.now() < until:
        shot = source.read(0.5)
        if shot is None:
            continue
        number = fake.number_in(shot.frame)
        seen.numbers.append(number)
        seen.ages.append(made.time - number / made.hardware.fps)
        seen.stamps.append(shot.timestamp)
        seen.times.append(clock.now())
        if work:
            made.sleep(work)
    return seen


# --- the newest frame, and no older ---------------------------------------------------------------


def test_a_fast_reader_gets_every_frame_in_order() -> None:
    made = camera(SimulatedClock())
    with live(made) as source:
        seen = watch(source, made, seconds=10)
    assert seen.numbers == list(range(seen.numbers[0], seen.numbers[0] + len(seen.numbers)))
    assert len(seen.numbers) >= 299
    assert source.counters.dropped == 0 and max(seen.ages) < 0.001


@pytest.mark.parametrize("work", [0.05, 0.1, 0.24, 0.7])
def test_a_slow_reader_never_falls_behind_and_what_is_dropped_is_counted(work: float) -> None:
    made = camera(SimulatedClock())
    with live(made) as source:
        seen = watch(source, made, seconds=20, work=work)
    assert max(seen.ages) <= 1 / 30 + 0.001, "the delay must not grow with the load"
    missed = seen.numbers[-1] - seen.numbers[0] + 1 - len(seen.numbers)
    assert missed > 0 and 0 <= source.counters.dropped - missed <= 30 * work + 2
    # Without the thread the camera's own queue would hand out frames four beats old.
    alone = camera(SimulatedClock())
    stream = alone.connect()
    ages = []
    for _ in range(20):
        taken = stream.read(1.0)
        assert taken is not None
        ages.append(alone.time - fake.number_in(taken.frame) / 30)
        alone.sleep(work)
    assert max(ages) > min(2.5, 30 * work) / 30


def test_with_drop_none_every_frame_comes_and_the_camera_s_queue_is_the_limit() -> None:
    made = camera(SimulatedClock())
    with live(made, drop="none") as source:
        seen = watch(source, made, seconds=5)
        assert source.counters.dropped == 0
        assert np.diff(seen.numbers).max() == 1
        slow = watch(source, made, seconds=5, work=0.1)
    assert max(slow.ages) > 0.1, "so frames grow old: that is what dropping prevents"
    with pytest.raises(SettingError, match="newest"):
        LivePolicy(drop="newest")


def test_frames_held_back_are_not_handed_out_when_they_come() -> None:
    made = camera(SimulatedClock(), Event("clog", 5.0, 2.5), drift=100)
    with live(made, deadline=0.2) as source:
        seen = watch(source, made, seconds=12)
    assert max(seen.ages) <= 0.2 + 0.002
    assert source.counters.stale >= 1
    assert source.counters.reconnects == 0, "2.5 s are less than a stall"


def test_a_frame_that_lay_too_long_is_thrown_away() -> None:
    # The camera stops while the reader of frames is busy: what lies there is old.
    made = camera(SimulatedClock(), Event("stall", 5.0, 2.0))
    with live(made, deadline=0.5) as source:
        watch(source, made, seconds=4.5)
        before = source.counters.stale
        made.sleep(2.0)
        shot = source.read(0.1)
        assert shot is None and source.counters.stale == before + 1
        shot = source.read(3.0)
        assert shot is not None and fake.number_in(shot.frame) >= 210


def test_a_rate_asked_for_is_kept_evenly() -> None:
    made = camera(SimulatedClock())
    with live(made, fps=12.0) as source:
        seen = watch(source, made, seconds=20)
        assert source.fps == 12.0
    assert abs(len(seen.numbers) - 240) <= 2
    assert set(np.diff(seen.numbers)) <= {2, 3}
    assert source.counters.skipped > 300


# --- times ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("drift", [-200.0, 0.0, 200.0])
def test_times_are_the_camera_s_on_our_clock(drift: float) -> None:
    made = camera(SimulatedClock(), drift=drift)
    began = made.clock.now()
    with live(made) as source:
        seen = watch(source, made, seconds=300, work=0.01)
    truth = began + np.array(seen.numbers) / 30
    error = np.array(seen.stamps) - truth
    assert np.abs(error).max() < 0.03, "200 ppm over 300 s are 60 ms when nobody looks"
    assert np.all(np.diff(seen.stamps) > 0)
    spacing = np.diff(seen.stamps) / np.diff(seen.numbers)
    np.testing.assert_allclose(spacing, 1 / 30, rtol=1e-3)


@pytest.mark.parametrize("drift", [-1000.0, 1000.0])
def test_a_camera_whose_stamps_are_far_too_slow_or_fast_is_never_lost(drift: float) -> None:
    # 29.97 frames/s stamped as 30 are 1000 ppm: 0.2 s in 200 s.
    made = camera(SimulatedClock(), fps=5.0, drift=drift)
    began = made.clock.now()
    with live(made, deadline=0.2) as source:
        seen = watch(source, made, seconds=600)
    assert source.counters.reconnects == 0 and source.counters.stale <= 1
    assert max(np.diff(seen.times)) < 0.21
    assert np.abs(np.array(seen.stamps) - began - np.array(seen.numbers) / 5).max() < 0.03


def test_frames_held_back_longer_than_delays_are_remembered_are_old_all_the_same() -> None:
    made = camera(SimulatedClock(), Event("clog", 5.0, 45.0))
    with live(made, deadline=0.2, stall=100.0) as source:
        seen = watch(source, made, seconds=60)
    assert max(seen.ages) <= 0.2 + 0.002, "the queue's frames are 45 s old"
    assert source.counters.reconnects == 0 and source.counters.stale >= 2


STRANGE: dict[str, Callable[[int], float]] = {
    "constant": lambda i: 5.0,
    "whole seconds": lambda i: 1.0 + i // 30,
    "alternating": lambda i: 10 + i / 30 + (0.1 if i % 2 else -0.1),
    "the order of decoding": lambda i: 10 + (i + (0, 2, -1, -1)[i % 4]) / 30,
    "counted to three": lambda i: 1 + (i % 3) / 30,
}


@dataclass
class Stamping:
    """A camera of 30 frames/s that stamps as it likes, by a frame's number. lost_at: once."""

    clock: SimulatedClock
    stamp: Callable[[int], float]
    lost_at: int = 10**9  # a frame
    opened: int = 0
    number: int = 0
    describe: str = "stamping"
    fps: float | None = 30.0
    blocks: float = 0.0

    def connect(self) -> Stream:
        self.opened += 1
        return self

    def read(self, seconds: float) -> Taken | None:
        self.clock.sleep(1 / 30)
        self.number += 1
        if self.number == self.lost_at:
            raise CameraLost("gone")
        return Taken(np.zeros((2, 2, 3), np.uint8), self.stamp(self.number))

    def pattern(self) -> None:
        return None

    def close(self) -> None:
        pass

    def live(self, **policy: object) -> LiveSource:
        return LiveSource(
            self.connect,
            name="stamping:",
            policy=LivePolicy(**policy),  # type: ignore[arg-type]
            clock=self.clock,
        )


def frames_of(source: LiveSource, clock: SimulatedClock, *, seconds: float) -> list[float]:
    """Return the times of the frames that come within so many seconds."""
    stamps, until = [], clock.now() + seconds
    while clock.now() < until:
        shot = source.read(0.5)
        if shot is not None:
            stamps.append(shot.timestamp)
    return stamps


@pytest.mark.parametrize("how", STRANGE)
def test_stamps_that_say_nothing_give_way_to_the_time_of_arrival(
    how: str, caplog: pytest.LogCaptureFixture
) -> None:
    clock = SimulatedClock()
    made = Stamping(clock, STRANGE[how], lost_at=600)
    with caplog.at_level(logging.WARNING, "edge_seg"), made.live(deadline=0.2) as source:
        stamps = frames_of(source, clock, seconds=60)
        assert abs(stamps[-1] - clock.now()) < 0.04
    assert len(stamps) >= 60 * 30 - 30, "all but the first, and those of half a second's loss"
    assert source.counters.reconnects == 1 and source.counters.stalls == 0
    np.testing.assert_allclose(np.diff(stamps[30:500]), 1 / 30, atol=1e-3)
    assert sum("time stamps repeat or go back" in m for m in caplog.messages) == 1, "once"


def test_a_clock_set_back_now_and_then_is_believed_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    # By 100 s once a minute: a frame is lost each time, and ages are known all the same.
    clock = SimulatedClock()
    made = Stamping(clock, lambda i: 10_000 + i / 30 - 100 * (i // 1800))
    with caplog.at_level(logging.WARNING, "edge_seg"), made.live(deadline=0.2) as source:
        stamps = frames_of(source, clock, seconds=600)
    assert len(stamps) >= 600 * 30 - 12 and not caplog.messages
    assert source.counters.stale <= 11


@pytest.mark.parametrize("fps", [2.0, 12.0])
def test_a_rate_asked_for_is_kept_when_the_camera_s_clock_is_set_back(fps: float) -> None:
    clock = SimulatedClock()
    made = Stamping(clock, lambda i: 10_000 + i / 30 - (500 if i > 300 else 0))
    with made.live(fps=fps) as source:
        stamps = frames_of(source, clock, seconds=30)
    assert abs(len(stamps) - 30 * fps) <= 2 and np.diff(stamps).max() < 1.6 / fps


def test_a_late_arrival_does_not_move_its_time() -> None:
    rng = np.random.default_rng(4)
    times = CameraClock()
    errors = []
    for i in range(5000):
        taken = i / 30
        arrived = 77.0 + taken + 0.004 + rng.exponential(0.03)
        errors.append(times.ours(5.0 + taken * 1.0001, arrived) - (77.0 + taken))
    late = np.array(errors[100:])
    assert late.min() >= 0 and late.max() < 0.02, "the jitter is 30 ms, with a tail"


def test_what_a_camera_kept_before_anybody_looked_is_not_settled() -> None:
    # A server that sends the last two seconds first, as fast as it can, then the present.
    times = CameraClock()
    for i in range(60):
        times.ours(i / 30, 50.0 + 0.001 * i)
        assert not times.settled
    times.ours(60 / 30, 50.1)
    assert times.settled
    times.ours(61 / 30, 50.1 + 1 / 30)
    assert times.settled
    times.forget()
    assert not times.settled


def test_another_connection_s_stamps_may_be_believed() -> None:
    times = CameraClock()
    for i in range(10):
        times.ours(7.0, 50.0 + i)
    assert times.odd and times.ours(7.0, 60.0) == 60.0
    times.forget()
    assert not times.odd
    times.ours(8.0, 61.0)
    assert times.ours(9.0, 62.5) == 62.0


def test_a_camera_clock_set_back_begins_anew() -> None:
    times = CameraClock()
    assert times.ours(100.0, 10.0) == 10.0
    assert times.ours(1.0, 11.0) == 11.0
    assert times.ours(1.5, 11.6) == pytest.approx(11.5, abs=1e-3)


# --- what goes wrong -----------------------------------------------------------------------------


def test_a_stalling_camera_is_opened_again_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    made = camera(SimulatedClock(), Event("stall", 5.0, 8.0))
    with caplog.at_level(logging.WARNING, "edge_seg"), live(made) as source:
        seen = watch(source, made, seconds=20)
    assert source.counters.stalls >= 1 and source.counters.reconnects >= 1
    assert made.opened == made.closed == 1 + source.counters.reconnects
    assert max(seen.times) > made.clock.now() - 1, "it must come back"
    assert sum("lost the camera" in m for m in caplog.messages) == 1, "one line per loss"
    assert sum("back after" in m for m in caplog.messages) == 1


def test_an_unplugged_camera_comes_back_when_it_is_plugged_in_with_growing_pauses() -> None:
    made = camera(SimulatedClock(), Event("unplug", 5.0, 100.0))
    with live(made) as source:
        seen = watch(source, made, seconds=130)
    gap = max(np.diff(seen.times))
    assert 100 < gap < 111, "the longest pause is 10 s"
    assert source.counters.reconnects < 20, "it must not hammer the device"
    assert np.all(np.diff(seen.stamps) > 0), "times grow over a reconnection"


def test_another_size_passes_through() -> None:
    made = camera(SimulatedClock(), resizes=((2.0, (32, 48)),))
    with live(made) as source:
        sizes = []
        for _ in range(120):
            shot = source.read(1.0)
            assert shot is not None
            sizes.append(shot.frame.shape)
    assert sizes[0] == (48, 64, 3) and sizes[-1] == (32, 48, 3)


@pytest.mark.parametrize("native", ["bgr", "rgb", "bgrx", "rgbx", "nv12", "yuv420"])
def test_whatever_the_camera_gives_the_frame_is_what_was_asked_for(native: str) -> None:
    made = camera(SimulatedClock(), native=native)
    began = made.clock.now()
    with live(made) as source:
        shot = next(source)
    number = round(30 * (shot.timestamp - began))
    wanted = fake.scene(*SMALL, number % fake.LOOP / fake.LOOP)
    assert shot.frame.shape == (48, 64, 3)
    assert np.abs(shot.frame[4:].astype(int) - wanted[4:]).mean() < 4, "per pixel and colour"


def test_a_camera_that_never_gives_a_frame_is_an_error_after_ten_seconds() -> None:
    clock = SimulatedClock()
    made = camera(clock, silent=True)
    began = clock.now()
    with pytest.raises(CameraError, match="within 10 s") as raised:
        live(made)
    assert not isinstance(raised.value, CameraLost)
    assert 10.0 <= clock.now() - began < 13.0
    assert clock.threads == 0 and made.closed == made.opened


def test_a_camera_that_cannot_be_opened_is_an_error_at_once() -> None:
    clock = SimulatedClock()
    made = camera(clock, Event("unplug", 0.0, 1000.0))
    began = clock.now()
    with pytest.raises(CameraError, match="unplugged"):
        live(made)
    assert clock.now() - began < 1.0 and clock.threads == 0


def test_giving_up_is_a_policy() -> None:
    made = camera(SimulatedClock(), Event("unplug", 5.0, 1000.0))
    source = live(made, give_up=30.0)
    began = made.clock.now()
    with pytest.raises(CameraLost, match="30 s"):
        for _ in source:
            pass
    assert 34 < made.clock.now() - began < 37
    source.close()


def test_a_camera_that_gives_more_than_is_asked_for_is_not_given_up() -> None:
    made = camera(SimulatedClock(), fps=10.0)
    with live(made, fps=0.1, give_up=5.0) as source:
        seen = watch(source, made, seconds=100)
    assert 9 <= len(seen.numbers) <= 11


@pytest.mark.parametrize("drop", ["oldest", "none"])
def test_a_slow_camera_is_not_given_up_because_nobody_looked(drop: str) -> None:
    made = camera(SimulatedClock(), fps=0.5)
    with live(made, give_up=10.0, stall=5.0, drop=drop) as source:
        assert watch(source, made, seconds=6).numbers
        made.sleep(20.3)
        for _ in range(6):
            source.read(0)  # what lies there is too old, or the only one
        assert len(watch(source, made, seconds=6).numbers) >= 2
        assert source.counters.stalls == 0


def test_a_camera_that_ended_while_nobody_looked_is_given_up() -> None:
    made = camera(SimulatedClock(), Event("unplug", 5.0, 1000.0))
    source = live(made, give_up=10.0)
    made.sleep(20.0)
    with pytest.raises(CameraLost, match="10 s"):
        source.read(1.0)


def test_a_camera_whose_every_frame_is_old_is_given_up() -> None:
    # Its clock all but stops: each frame seems older than the one before.
    clock = SimulatedClock()
    source = Stamping(clock, lambda i: 10 + min(i, 60) / 30 + i / 1e6).live(
        give_up=2.0, deadline=0.2
    )
    with pytest.raises(CameraLost, match="found none for 2 s"):
        frames_of(source, clock, seconds=60)


@dataclass
class Hanging:
    """A camera whose calls may not come back: for so long, or for ever."""

    clock: SimulatedClock
    where: str
    seconds: float
    opened: int = 0
    describe: str = "hanging"
    fps: float | None = None
    blocks: float = 0.0

    def connect(self) -> Stream:
        self.opened += 1
        if self.where == "connect" and self.opened > 1:
            self.clock.sleep(self.seconds)
        return Hanging(self.clock, self.where, self.seconds, self.opened)

    def read(self, seconds: float) -> Taken | None:
        self.clock.sleep(0.03)
        self.opened += 1
        if self.where != "close" and self.opened > 20:
            if self.where == "connect":
                raise CameraLost("gone")
            self.clock.sleep(self.seconds)
        return Taken(np.zeros((2, 2, 3), np.uint8))

    def close(self) -> None:
        if self.where == "close":
            self.clock.sleep(self.seconds)


@pytest.mark.parametrize("where", ["connect", "read", "close"])
def test_a_call_that_hangs_is_left_behind_and_closing_does_not_wait(where: str) -> None:
    clock = SimulatedClock()
    source = LiveSource(Hanging(clock, where, 1e6).connect, name="hanging", clock=clock)
    if where == "close":
        source.read(1.0)
    else:
        with pytest.raises(CameraLost, match="restart the process"):
            while True:
                source.read(1.0)
        assert source.counters.hung == source.policy.hung + 1
    began = clock.now()
    source.close()
    assert clock.now() - began < 3.0


def test_calls_that_hang_now_and_then_do_not_add_up() -> None:
    # Each comes back after 20 s: never more than one at a time is left behind.
    clock = SimulatedClock()
    hangs = tuple(Event("hang", 10.0 + 60 * i, 20.0) for i in range(8))
    made = camera(clock, *hangs)
    with live(made) as source:
        seen = watch(source, made, seconds=520)
    assert source.counters.hung >= 8 > source.policy.hung
    assert clock.threads == 0 and made.opened == made.closed
    assert max(seen.ages) <= 1.0 and np.all(np.diff(seen.stamps) > 0)


def test_a_driver_that_raises_anything_is_a_lost_camera() -> None:
    clock = SimulatedClock()
    made = camera(clock)

    class Broken:
        describe, fps, blocks, left = "broken", None, 0.0, 5

        def read(self, seconds: float) -> Taken | None:
            clock.sleep(0.03)
            self.left -= 1
            if self.left < 0:
                raise ValueError("a vendor's surprise")
            return Taken(np.zeros((2, 2, 3), np.uint8))

        def close(self) -> None:
            made.closed += 1

    with LiveSource(Broken, name="broken:", clock=clock) as source:
        for _ in range(30):
            assert source.read(5.0) is not None
    assert source.counters.reconnects >= 4 and clock.threads == 0


# --- ten minutes ---------------------------------------------------------------------------------


def bad_day(seconds: float) -> tuple[Event, ...]:
    """Stalls, hold-ups, plugs pulled, calls that hang: one of them every 7 to 16 s."""
    rng = np.random.default_rng(7)
    events, at = [], 5.0
    while at < seconds - 25:
        kind = ("stall", "clog", "unplug", "hang")[len(events) % 4]
        longest = 4.0 if kind == "hang" else 9.0
        events.append(Event(kind, at, float(rng.uniform(0.4, longest))))
        at += events[-1].seconds + float(rng.uniform(5, 8))
    return tuple(events)


def _resident() -> int:
    statm = Path("/proc/self/statm")
    if not statm.exists():
        pytest.skip("memory is read from /proc, which is not here")
    return int(statm.read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_ten_minutes_of_a_stalling_reconnecting_camera() -> None:
    clock = SimulatedClock()
    events = bad_day(600)
    assert len(events) > 40
    made = camera(clock, *events, fps=15.0, drift=150)
    with live(made, deadline=0.5) as source:
        seen = watch(source, made, seconds=60, work=0.02)
        held = _resident()
        rest = watch(source, made, seconds=540, work=0.02)
        grown = _resident() - held
        for name, values in vars(rest).items():
            getattr(seen, name).extend(values)
        assert clock.threads <= 2, "one thread for the camera, whatever happened"
    assert made.opened == made.closed, "every stream was closed"
    assert clock.threads == 0
    assert grown < 8 << 20, "5000 frames of 9 kB, kept, would be 45 MB"
    assert max(seen.ages) <= 0.5 + 0.01, "no frame older than the deadline"
    assert len(set(seen.numbers)) == len(seen.numbers), "no frame twice"
    assert np.all(np.diff(seen.numbers) > 0) and np.all(np.diff(seen.stamps) > 0)
    good = sum(1 for n in range(600 * 15) if not any(e.holds(n / 15) for e in events))
    assert len(seen.numbers) > 0.6 * good, "most of what could be had was had"
    assert source.counters.delivered == len(seen.numbers)
    assert source.counters.reconnects > 15 and source.counters.stale > 5


def test_the_same_in_real_time_for_a_short_while() -> None:
    before = threading.active_count()
    text = "fake:size=64x48,fps=60,stall=0.5+0.6,clog=1.3+0.4,unplug=2+0.5"
    policy = LivePolicy(stall=0.3, pause=0.05, deadline=0.25)
    began = time.monotonic()
    with open_source(text, policy=policy) as source:
        assert source.live and source.fps == 60.0
        stamps = []
        while time.monotonic() - began < 3.2:
            shot = source.read(0.2)
            if shot is not None:
                stamps.append(shot.timestamp)
                assert (
                    time.monotonic() - shot.timestamp < 0.25 + 0.5
                )  # the test itself waits for a core
        closing = time.monotonic()
    assert time.monotonic() - closing < 1.0
    assert isinstance(source, LiveSource)
    assert source.counters.reconnects >= 1 and len(stamps) > 30
    assert source.read() is None and source.ended
    until(lambda: threading.active_count() <= before)  # fewer: another test's has ended since


def test_a_camera_that_is_dropped_without_being_closed_is_let_go() -> None:
    """As a notebook's second `source = open_source(0)` does: the first must not keep the device."""
    before = threading.active_count()
    source = open_source("fake:size=64x48,fps=60")
    assert source.read(5.0) is not None
    assert threading.active_count() > before
    del source
    until(lambda: threading.active_count() <= before)


ENDS_WITHOUT_CLOSING = """
import atexit, threading
atexit.register(lambda: print(threading.active_count()))  # registered first, runs last
from edge_seg.camera import open_source
source = open_source("fake:size=1920x1080,fps=60")
"""


def test_a_program_that_ends_with_a_camera_open_is_not_aborted() -> None:
    """As it is while the camera's thread is in OpenCV, in every second run or so."""
    words = [sys.executable, "-c", ENDS_WITHOUT_CLOSING]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "1\n", "")


def test_a_forked_process_is_told_to_open_a_camera_of_its_own() -> None:
    """Nothing reads the parent's camera there: it would look like a driver that hangs."""
    with open_source("fake:size=64x48,fps=60") as source:
        assert source.read(5.0) is not None
        ours, theirs = multiprocessing.get_context("fork").Pipe(duplex=False)

        def child() -> None:
            try:
                while True:  # a frame may have been waiting
                    source.read()
            except CameraLost as error:
                theirs.send(str(error))
            source.close()

        forked = multiprocessing.get_context("fork").Process(target=child)
        forked.start()
        assert ours.poll(20)
        assert "open the camera in the process that reads it" in ours.recv()
        forked.join(20)
        assert forked.exitcode == 0
        assert source.read(5.0) is not None, "the parent's goes on"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(
            (name, value)
            for name in ("start", "stall", "deadline")
            for value in (0, -1.0, math.nan)
        ),
        *(("pause", value) for value in (-0.5, 0.0, "0.5", True)),
        *(("longest_pause", value) for value in (-1, None)),
        *(("give_up", value) for value in (0.0, -30.0, math.nan)),
        *(("hung", value) for value in (-1, 1.5, None)),
        *(("fps", value) for value in (0, -2, math.nan, math.inf, "30")),
    ],
)
def test_a_policy_no_source_could_keep_is_refused(name: str, value: object) -> None:
    with pytest.raises(SettingError, match=rf"LivePolicy\({name}=...\).*from 0.*found {value!r};"):
        LivePolicy(**{name: value})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "milliseconds"),
    [
        *(("deadline", 500), ("start", 10_000.0), ("stall", 3000)),
        *(("pause", 500), ("longest_pause", 10_000)),
    ],
)
def test_milliseconds_are_taken_for_what_they_are(name: str, milliseconds: float) -> None:
    with pytest.raises(SettingError, match=rf"\({name}=.*in milliseconds, divide by 1000"):
        LivePolicy(**{name: milliseconds})  # type: ignore[arg-type]
    assert getattr(LivePolicy(**{name: milliseconds / 1000}), name) == milliseconds / 1000  # type: ignore[arg-type]


def test_a_policy_may_wait_for_ever() -> None:
    patient = LivePolicy(
        start=math.inf, stall=math.inf, deadline=math.inf, give_up=math.inf, hung=0
    )
    with open_source("fake:size=32x16,fps=60", policy=patient) as source:
        assert source.read(2.0) is not None


# --- the fake camera itself ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "text", ["fake:size=4x4", "fake:fps=0", "fake:nonsense", "fake:stall=5", "fake:size=101x100"]
)
def test_what_a_fake_camera_cannot_be_is_refused(text: str) -> None:
    with pytest.raises(CameraError, match="fake:"):
        open_source(text)


@pytest.mark.parametrize("drop", ["oldest", "none"])
def test_stream_is_the_loop_in_one_call(drop: str, fake_bundle: Path, fake_board: Path) -> None:
    with EdgeSegmenter.open(fake_bundle, board=str(fake_board), format="nv12") as segmenter:
        pairs = segmenter.stream("fake:size=96x64,fps=60", drop=drop)
        numbers = []
        for frame, mask in pairs:
            assert frame.shape == (96, 96) and mask.shape == (64, 96)
            assert mask[-4:, 40:56].mean() > 0.5 > mask[:8].mean(), "somebody stands in the middle"
            numbers.append(fake.number_in(frame))
            if len(numbers) == 12:
                break
        pairs.close()  # type: ignore[attr-defined]
        with pytest.raises(SettingError, match="newest"):
            next(segmenter.stream("fake:", drop="newest"))
    steps = np.diff(numbers)
    assert steps.min() >= 1
    if drop == "none":
        assert np.all(steps[:3] == 1)


def test_a_fake_camera_gives_what_is_asked_of_it() -> None:
    hardware = fake.parse(
        "fake:size=64x32,fps=15,drift=-20,unplug=1.5+2,resize=3:32x16,native=nv12"
    )
    assert hardware.size == (32, 64) and hardware.fps == 15.0 and hardware.drift == -20.0
    assert hardware.events == (Event("unplug", 1.5, 2.0),)
    assert hardware.resizes == ((3.0, (16, 32)),) and hardware.native == "nv12"
    with open_source("fake:", size=(48, 64), format="yuv420") as source:
        shot = next(source)
    assert shot.frame.shape == (72, 64)
    made = FakeCamera(hardware, Request(format="yuv420"))
    made._began -= 5.0
    with pytest.raises(CameraError, match="ask for that"):
        made.connect()


@pytest.mark.parametrize("format", ["bgr", "nv12", "yuv420"])
@pytest.mark.parametrize("size", [[100, 200], (101, 203), (8, 8)])
def test_a_camera_that_is_asked_for_an_odd_size_gives_one_near(format: str, size: Any) -> None:
    with open_source("fake:", size=size, format=format) as source:
        shot = source.read(seconds=10.0)
    assert shot is not None
    height, width = shot.frame.shape[:2]
    height = height if format == "bgr" else height * 2 // 3
    assert abs(height - size[0]) <= 8 and abs(width - size[1]) <= 8

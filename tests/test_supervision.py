"""Falling back aloud: engines that fail, hang and freeze as hardware does, and come back."""

from __future__ import annotations

import logging
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_seg import supervision
from edge_seg.choices import Choice
from edge_seg.counters import Counters
from edge_seg.errors import BackendFailure, BackendUnavailable, MaskLate, SettingError
from edge_seg.supervision import Policy, Supervisor
from edge_seg.watch import Watch, silhouettes
from tests.conftest import until

SHAPE = (48, 64, 3)
PROBES = 2  # calls that opening takes


@dataclass
class Device:
    """A piece of hardware: what is plugged in, what hangs, what has frozen."""

    there: bool = True
    failing: int = 0  # calls that will fail
    hanging: bool = False
    frozen: bool = False
    saturated: bool = False
    stubborn: bool = False  # closing it raises
    slow_to_open: float = 0.0
    slow: float = 0.0  # seconds a call takes
    opened: int = 0
    closed: int = 0
    calls: int = 0
    free: threading.Event = field(default_factory=threading.Event)

    def open(self) -> Bright:
        time.sleep(self.slow_to_open)
        if not self.there:
            raise BackendUnavailable("wanted the device, found it unplugged")
        self.opened += 1
        return Bright(self)

    def choice(self, name: str) -> Choice:
        return Choice(name, self.open)


@dataclass
class Bright:
    """A network on that device: the answer is the brightness of every cell of 4x4 pixels."""

    device: Device
    shape: tuple[int, int, int] = SHAPE
    last: NDArray[np.generic] | None = None

    def run(
        self, picture: NDArray[np.uint8], tick: Callable[[str], None] | None = None
    ) -> NDArray[np.generic]:
        device = self.device
        device.calls += 1
        time.sleep(device.slow)
        if device.hanging:
            device.free.wait(20)
            raise BackendFailure("the call came back, far too late")
        if not device.there or device.failing:
            device.failing = max(0, device.failing - 1)
            raise BackendFailure("device lost")
        if device.frozen and self.last is not None:
            return self.last.copy()
        if device.saturated:
            return np.full((12, 16), -128, np.int8)
        self.last = truth(picture)
        return self.last

    def close(self) -> None:
        self.device.closed += 1
        if self.device.stubborn:
            raise RuntimeError("device lost while freeing")


def truth(picture: NDArray[np.uint8]) -> NDArray[np.generic]:
    """The right answer."""
    return picture.reshape(12, 4, 16, 4, 3).mean(axis=(1, 3, 4)).astype(np.float32)


def pictures(count: int) -> list[NDArray[np.uint8]]:
    """Pictures that all differ by more than noise."""
    random = np.random.default_rng(0)
    return [random.integers(0, 256, SHAPE, dtype=np.uint8) for _ in range(count)]


@pytest.fixture
def npu() -> Device:
    return Device()


@pytest.fixture
def cpu() -> Device:
    return Device()


def supervised(*devices: Device, **policy: float | int | None) -> Supervisor:
    names = ("npu int8", "cpu int8", "cpu fp32")
    choices = [d.choice(n) for d, n in zip(devices, names, strict=False)]
    return Supervisor(choices, Policy(**{"pause": 0.001, **policy}))  # type: ignore[arg-type]


# --- a device that fails --------------------------------------------------------------------------


def test_a_device_that_works_is_left_alone(npu: Device, cpu: Device) -> None:
    boss = supervised(npu, cpu)
    for picture in pictures(5):
        engine, answer = boss.run(picture)
        assert engine.device is npu and np.array_equal(answer, truth(picture))
    assert boss.counters == Counters() and not boss.degraded and boss.reason == ""
    assert cpu.opened == 0, "what is not needed is not opened"


def test_one_failure_is_retried(npu: Device, cpu: Device) -> None:
    boss = supervised(npu, cpu)
    npu.failing = 1
    picture = pictures(1)[0]
    engine, answer = boss.run(picture)
    assert engine.device is npu and np.array_equal(answer, truth(picture))
    assert boss.counters.failures == 1 and boss.counters.switches == 0 and not boss.degraded


def test_a_lost_device_gives_way_within_the_same_frame(
    npu: Device, cpu: Device, caplog: pytest.LogCaptureFixture
) -> None:
    boss = supervised(npu, cpu)
    npu.there = False
    picture = pictures(1)[0]
    with caplog.at_level(logging.WARNING, "edge_seg"):
        engine, answer = boss.run(picture)
    assert engine.device is cpu and np.array_equal(answer, truth(picture)), "never zeros"
    assert boss.degraded and boss.reason == "npu int8: device lost"
    assert boss.counters.switches == 1 and boss.counters.lost == 0
    assert npu.closed == 1
    assert [r.getMessage() for r in caplog.records] == [
        "running on cpu int8, because npu int8: device lost"
    ]
    boss.run(picture)
    assert boss.counters.switches == 1, "said once, not per frame"


def test_when_all_fail_every_call_says_so_and_attempts_go_on(npu: Device, cpu: Device) -> None:
    boss = supervised(npu, cpu, pause=0.02)
    npu.there = cpu.there = False
    picture = pictures(1)[0]
    with pytest.raises(BackendFailure, match="npu int8: device lost; cpu int8: wanted the device"):
        boss.run(picture)
    calls = npu.calls
    with pytest.raises(BackendFailure, match="next attempt"):
        boss.run(picture)
    assert npu.calls == calls, "not hammered"
    assert boss.degraded
    with pytest.raises(BackendFailure):
        _ = boss.engine
    npu.there = True
    time.sleep(0.1)
    engine, answer = boss.run(picture)
    assert engine.device is npu and np.array_equal(answer, truth(picture))
    assert not boss.degraded and boss.reason == "" and boss.counters.lost == 2


def test_pauses_grow_and_the_reason_does_not(npu: Device) -> None:
    now = [0.0]
    boss = Supervisor([npu.choice("npu int8")], Policy(pause=1.0), clock=lambda: now[0], sleep=_no)
    npu.there = False
    picture, attempts, lengths = pictures(1)[0], [], set()
    for _ in range(4000):
        now[0] += 0.1
        before = npu.closed
        with pytest.raises(BackendFailure) as failed:
            boss.run(picture)
        if "next attempt" not in str(failed.value):
            attempts.append(now[0])
            lengths.add(len(str(failed.value)))
        assert npu.closed <= before + 1
    gaps = np.diff(attempts)
    assert gaps[0] == pytest.approx(2, abs=0.2) and gaps[-1] == pytest.approx(30, abs=0.2)
    assert max(lengths) < 300


def _no(seconds: float) -> None:
    """Stand in for sleep."""


def test_nothing_opens(npu: Device, cpu: Device) -> None:
    npu.there = cpu.there = False
    with pytest.raises(BackendUnavailable) as refused:
        supervised(npu, cpu)
    assert "npu int8" in str(refused.value) and "cpu int8" in str(refused.value)


def test_a_device_that_opens_and_fails_its_first_call_is_no_choice(
    npu: Device, cpu: Device
) -> None:
    npu.failing = 1
    boss = supervised(npu, cpu)
    assert boss.engine.device is cpu and boss.reason == "npu int8: device lost"


@pytest.mark.parametrize("deadline", [None, 10.0])
def test_a_device_that_cannot_be_freed_gives_way_all_the_same(
    deadline: float | None, npu: Device, cpu: Device, caplog: pytest.LogCaptureFixture
) -> None:
    boss = supervised(npu, cpu, deadline=deadline)
    npu.there, npu.stubborn = False, True
    picture = pictures(1)[0]
    engine, answer = boss.run(picture)
    assert engine.device is cpu and np.array_equal(answer, truth(picture))
    assert boss.reason == "npu int8: device lost"
    said = "npu int8: closing it failed: RuntimeError: device lost while freeing"
    until(lambda: said in caplog.messages)
    assert npu.closed == 1
    cpu.stubborn = True
    boss.close()
    until(lambda: cpu.closed == 1)


def test_a_device_that_opens_fails_and_cannot_be_freed_is_no_choice(
    npu: Device, cpu: Device
) -> None:
    npu.failing, npu.stubborn = 1, True
    boss = supervised(npu, cpu)
    assert boss.engine.device is cpu and boss.reason == "npu int8: device lost"


# --- a device that hangs --------------------------------------------------------------------------


def test_a_hang_costs_one_deadline_and_then_the_next_runtime_answers(
    npu: Device, cpu: Device
) -> None:
    boss = supervised(npu, cpu, deadline=0.15, misses=1)
    picture = pictures(1)[0]
    assert boss.run(picture)[0].device is npu
    npu.hanging = True
    start = time.perf_counter()
    with pytest.raises(MaskLate):
        boss.run(picture)
    assert time.perf_counter() - start < 0.15 + 0.1
    time.sleep(0.05)
    engine, answer = boss.run(picture)
    assert engine.device is cpu and np.array_equal(answer, truth(picture))
    assert "npu int8: no answer in 150 ms" in boss.reason
    assert boss.counters.hangs == 1 and boss.counters.lost == 1
    assert npu.closed == 0, "closing what still runs would crash"
    npu.free.set()
    until(lambda: npu.closed == 1)
    boss.close()
    until(lambda: cpu.closed == 1)


def test_a_runtime_slow_to_open_delays_no_frame(npu: Device, cpu: Device) -> None:
    cpu.slow_to_open = 0.4
    boss = supervised(npu, cpu, deadline=0.1)
    npu.there = False
    picture, late = pictures(1)[0], 0
    for _ in range(20):
        start = time.perf_counter()
        try:
            engine, _ = boss.run(picture)
            assert engine.device is cpu
            break
        except MaskLate:
            late += 1
        assert time.perf_counter() - start < 0.1 + 0.1
    assert 2 <= late <= 6 and cpu.opened == 1


def test_one_late_call_condemns_nobody_and_two_in_a_row_do(npu: Device, cpu: Device) -> None:
    boss = supervised(npu, cpu, deadline=0.1)
    picture = pictures(1)[0]
    boss.run(picture)
    for _ in range(3):  # late now and then: a processor that throttles
        npu.slow = 0.15
        with pytest.raises(MaskLate, match="npu int8 takes longer"):
            boss.run(picture)
        npu.slow = 0.0
        assert boss.run(picture)[0].device is npu
    assert not boss.degraded and boss.counters.hangs == 0 and boss.counters.lost == 3
    npu.hanging = True
    for _ in range(2):
        with pytest.raises(MaskLate):
            boss.run(picture)
    time.sleep(0.05)
    assert boss.run(picture)[0].device is cpu and boss.counters.hangs == 1
    npu.free.set()
    boss.close()


def test_after_a_missed_call_the_next_one_keeps_its_deadline(npu: Device) -> None:
    boss = supervised(npu, deadline=0.2, misses=100)
    picture, late = pictures(1)[0], 0
    boss.run(picture)
    npu.slow = 0.38  # its answer comes in the middle of the next call, whose own takes 0.19 s more
    for _ in range(3):
        began = time.monotonic()
        with pytest.raises(MaskLate):
            boss.run(picture)
        assert time.monotonic() - began < 0.2 + 0.1
        npu.slow = 0.19
    npu.slow = 0.0
    while late < 5:
        try:
            assert np.array_equal(boss.run(picture)[1], truth(picture))
            break
        except MaskLate:
            late += 1
    assert late < 5 and boss.counters.hangs == 0
    boss.close()


def test_a_runtime_that_takes_over_late_in_a_frame_is_not_condemned(
    npu: Device, cpu: Device
) -> None:
    boss = supervised(npu, cpu, deadline=0.4, misses=1)
    picture = pictures(1)[0]
    boss.run(picture)
    cpu.slow_to_open, cpu.slow = 0.5, 0.24  # it answers in time, of a whole frame
    npu.there = False
    late = 0
    for _ in range(10):
        try:
            boss.run(picture)
        except MaskLate:
            late += 1
    assert boss._seat is not None and boss.engine.device is cpu
    assert 1 <= late <= 4 and boss.counters.hangs == 0
    boss.close()


def test_closing_while_a_runtime_opens_leaves_none_open(npu: Device, cpu: Device) -> None:
    boss = supervised(npu, cpu, npu, deadline=0.1)
    picture = pictures(1)[0]
    boss.run(picture)
    npu.there, cpu.slow_to_open = False, 0.4
    with pytest.raises(MaskLate):
        boss.run(picture)
    npu.there = True
    opened = npu.opened
    boss.close()
    time.sleep(0.6)
    assert npu.opened == opened, "the one after it was never begun"
    assert cpu.opened == cpu.closed and npu.opened == npu.closed


def test_hardware_that_stays_dead_stays_a_failure_for_days(npu: Device) -> None:
    clock = [0.0]
    choice = npu.choice("npu int8")
    boss = Supervisor([choice], clock=lambda: clock[0], sleep=lambda seconds: None)
    npu.there = False
    picture = pictures(1)[0]
    for _ in range(2000):
        clock[0] += 31
        with pytest.raises(BackendFailure):
            boss.run(picture)
    assert boss.counters.lost == 2000 and boss.degraded
    with pytest.raises(BackendFailure, match="found none: npu int8.*the next attempt follows"):
        boss.run(picture)
    assert "npu int8" in boss.reason and len(boss.reason) < 200
    npu.there = True
    clock[0] += 31
    assert boss.run(picture)[0].device is npu and boss.reason == "" and not boss.degraded


@pytest.mark.parametrize(
    "wrong",
    [
        {"deadline": 200},
        {"deadline": 0},
        {"deadline": "x"},
        {"retries": -1},
        {"retries": 1.5},
        {"abandoned": 0},
        {"misses": 0},
        {"return_after": float("nan")},
        {"pause": True},
        {"retries": np.float64(1)},
    ],
)
def test_a_policy_that_could_not_be_kept_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(SettingError, match=f"wanted Policy.{next(iter(wrong))}="):
        Policy(**wrong)  # type: ignore[arg-type]


def test_hangs_have_a_limit(npu: Device, cpu: Device) -> None:
    boss = supervised(npu, cpu, deadline=0.3, abandoned=2, misses=1)
    npu.hanging = cpu.hanging = False
    picture = pictures(1)[0]
    boss.run(picture)
    npu.hanging = True
    with pytest.raises(MaskLate):
        boss.run(picture)
    time.sleep(0.05)
    boss.run(picture)
    cpu.hanging = True
    with pytest.raises(BackendFailure, match="2 calls that hang.*restart the process"):
        for _ in range(3):
            boss.run(picture)
    npu.free.set()
    cpu.free.set()


def test_an_interrupted_call_does_not_answer_the_next_one(npu: Device) -> None:
    boss = supervised(npu, deadline=5.0)
    one, other = pictures(2)
    boss._seat._line._asked.put((0, one))  # type: ignore[union-attr]  # as Ctrl-C leaves it
    time.sleep(0.05)
    assert np.array_equal(boss.run(other)[1], truth(other))


def test_a_device_that_fails_every_frame_is_left_where_no_time_is_left_to_retry(
    npu: Device, cpu: Device
) -> None:
    boss = supervised(npu, cpu, deadline=0.05, pause=10.0)  # a pause that fits no deadline
    picture = pictures(1)[0]
    npu.there = False
    with pytest.raises(MaskLate, match="no time to try again"):
        boss.run(picture)
    for _ in range(3):
        try:
            assert boss.run(picture)[0].device is cpu
        except MaskLate:  # it was still opening
            time.sleep(0.05)
    assert boss.degraded and "device lost" in boss.reason


def test_closing_waits_until_the_device_is_free(npu: Device) -> None:
    boss = supervised(npu, deadline=5.0)
    boss.run(pictures(1)[0])
    boss.close()
    assert npu.closed == 1, "who opens the device next would find it taken"


# --- closing from elsewhere, and ending without it ------------------------------------------------


def _in_a_thread(boss: Supervisor) -> tuple[threading.Thread, list[BaseException]]:
    """Run pictures in another thread until one fails; how it failed."""
    ends: list[BaseException] = []

    def work() -> None:
        try:
            while True:
                boss.run(pictures(1)[0])
        except BaseException as error:
            ends.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    return thread, ends


@pytest.mark.parametrize("deadline", [None, 10.0])
def test_a_call_that_another_thread_closes_ends_in_a_sentence(
    deadline: float | None, npu: Device, cpu: Device
) -> None:
    npu.slow = 0.02
    boss = supervised(npu, cpu, deadline=deadline)
    thread, ends = _in_a_thread(boss)
    until(lambda: npu.calls > PROBES + 2)
    boss.close()
    assert npu.closed == 1, "the device is free"
    thread.join(15)
    assert [type(error) for error in ends] == [BackendFailure], ends
    assert "found it closed; open again" in str(ends[0])
    assert cpu.opened == 0 and npu.closed == 1 and boss.counters.failures == 0


@pytest.mark.parametrize("deadline", [None, 3.0])
def test_closing_waits_for_a_call_that_hangs_no_longer_than_it_says(
    deadline: float | None,
    npu: Device,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(supervision, "GRACE", 0.2)
    boss = supervised(npu, deadline=deadline)
    npu.hanging = True
    thread, ends = _in_a_thread(boss)
    until(lambda: npu.calls > PROBES)
    began = time.monotonic()
    boss.close()
    assert 0.2 <= time.monotonic() - began < 2.5
    assert "npu int8: did not let go in 0.2 s; left behind" in caplog.messages
    assert npu.closed == 0, "closing what still runs would crash"
    if deadline is None:
        npu.free.set()
    thread.join(15)
    npu.free.set()
    until(lambda: npu.closed == 1)
    assert [type(error) for error in ends] == [BackendFailure], ends
    assert "found it closed" in str(ends[0])


def _closed_by_a_signal(boss: Supervisor, picture: NDArray[np.uint8]) -> NDArray[np.generic]:
    """The answer to a picture amid which a signal's handler closes, in the thread of the call."""
    took: list[float] = []

    def handle(number: int, frame: object) -> None:
        began = time.monotonic()
        boss.close()
        took.append(time.monotonic() - began)

    before = signal.signal(signal.SIGALRM, handle)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        return boss.run(picture)[1]
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        assert len(took) == 1 and took[0] < 1.5, "to wait for its own thread is to wait in vain"


@pytest.mark.parametrize("deadline", [None, 10.0])
def test_a_signal_s_handler_may_close_amid_a_call(
    deadline: float | None, npu: Device, caplog: pytest.LogCaptureFixture
) -> None:
    boss = supervised(npu, deadline=deadline)
    npu.slow = 0.4
    picture = pictures(1)[0]
    assert (_closed_by_a_signal(boss, picture) == truth(picture)).all(), "that call ends"
    assert npu.closed == 1 and not caplog.messages
    with pytest.raises(BackendFailure, match="found it closed"):
        boss.run(picture)


def test_a_signal_s_handler_may_close_while_a_runtime_opens(
    npu: Device, cpu: Device, caplog: pytest.LogCaptureFixture
) -> None:
    boss = supervised(npu, cpu)
    npu.there, cpu.slow_to_open = False, 0.5
    with pytest.raises(BackendFailure, match="found it closed"):
        _closed_by_a_signal(boss, pictures(1)[0])
    assert npu.closed == cpu.closed == cpu.opened == 1 and not caplog.messages


def test_a_runtime_that_opens_while_another_thread_closes_is_freed(
    npu: Device, cpu: Device
) -> None:
    boss = supervised(npu, cpu)
    npu.there, cpu.slow_to_open = False, 0.3
    thread, ends = _in_a_thread(boss)
    until(lambda: npu.closed == 1)  # so the next one is being opened
    time.sleep(0.05)
    boss.close()
    assert cpu.opened == cpu.closed == 1, "the device is free"
    thread.join(15)
    assert "found it closed" in str(ends[0]) and cpu.calls == PROBES


def test_a_segmenter_that_is_dropped_takes_its_thread_with_it(npu: Device) -> None:
    before = threading.active_count()
    for _ in range(5):
        boss = supervised(npu, deadline=10.0)
        boss.run(pictures(1)[0])
        del boss
    until(lambda: npu.closed == 5)
    until(lambda: threading.active_count() <= before)  # fewer: another test's has ended since
    assert npu.opened == npu.closed == 5


# A program that does not close: `late` is a call that goes on when its caller has gone on.
PROGRAM = """
import sys, time
import numpy as np
from edge_seg.errors import BackendFailure, MaskLate
from edge_seg.choices import Choice
from edge_seg.supervision import Policy, Supervisor

how, seconds = sys.argv[1], float(sys.argv[2])

class Slow:
    shape, calls = (32, 32, 3), 0
    def run(self, picture, tick=None):
        self.calls += 1
        if self.calls > 2:
            time.sleep(seconds)
            if how == "opening":
                raise BackendFailure("lost")
        return picture[::4, ::4].astype(np.float32)
    def close(self):
        print("freed", flush=True)

class Next(Slow):
    def __init__(self):
        time.sleep(1.0)

def late():
    choices = [Choice("npu", Slow), Choice("cpu", Next)]
    boss = Supervisor(choices, Policy(deadline=0.05, misses=1000, retries=0))
    while True:
        boss.run(np.zeros((32, 32, 3), np.uint8))

try:
    late()
except MaskLate:
    if how == "uncaught":
        raise
"""


@pytest.mark.parametrize(
    ("how", "seconds", "code", "freed"),
    [
        ("uncaught", 1.0, 1, 1),  # the traceback keeps the segmenter
        ("dropped", 1.0, 0, 1),
        ("opening", 0.0, 0, 2),
        ("uncaught", 600.0, 1, 0),  # what hangs for ever does not keep the process
    ],
)
def test_a_program_that_ends_waits_for_a_late_call(
    how: str, seconds: float, code: int, freed: int
) -> None:
    words = [sys.executable, "-c", PROGRAM, how, str(seconds)]
    ended = subprocess.run(words, capture_output=True, text=True, timeout=120)
    assert ended.returncode == code, ended.stderr
    assert ended.stdout.split() == ["freed"] * freed, "nobody was in it when the process ended"
    assert ("MaskLate" in ended.stderr) == (how == "uncaught")


# --- a device that is stuck -----------------------------------------------------------------------


def test_a_frozen_device_is_found_out(npu: Device, cpu: Device) -> None:
    boss = supervised(npu, cpu, stuck=10)
    seen = pictures(30)
    boss.run(seen[0])
    npu.frozen = True
    engines = [boss.run(picture)[0].device for picture in seen[1:]]
    assert engines[-1] is cpu and 10 <= engines.index(cpu) <= 13
    assert "same answer to 10 changed pictures" in boss.reason and boss.counters.stuck == 1


def test_an_empty_room_is_not_a_stuck_device(npu: Device, cpu: Device) -> None:
    boss = supervised(npu, cpu, stuck=5)
    still = pictures(1)[0]
    noise = np.random.default_rng(1)
    for _ in range(100):  # noise of a sensor, same answer each time
        picture = np.clip(still.astype(int) + noise.integers(-2, 3, SHAPE), 0, 255)
        npu.frozen = True
        boss.run(picture.astype(np.uint8))
    assert boss.engine.device is npu and boss.counters.stuck == 0


def test_a_network_that_says_nobody_to_everything_is_not_accused(npu: Device, cpu: Device) -> None:
    npu.saturated = True
    boss = supervised(npu, cpu, stuck=5)
    for picture in pictures(40):
        boss.run(picture)
    assert boss.engine.device is npu and boss.counters.stuck == 0


def test_the_same_answer_to_other_pictures_is_examined_not_condemned(npu: Device) -> None:
    # Pictures whose cells have the same brightness but whose pixels differ: same answer by right.
    boss = supervised(npu, stuck=5)
    base = np.full(SHAPE, 100, np.uint8)
    base[::2] += 40
    for i in range(30):
        boss.run(np.roll(base, i % 2, axis=0))
    assert boss.counters.stuck == 0 and npu.calls > PROBES + 30, "it was examined"


def test_a_device_that_needs_most_of_the_deadline_is_examined_too(npu: Device, cpu: Device) -> None:
    # Rooms in changing light, the same answer by right; two more calls fit no deadline.
    boss = supervised(npu, cpu, deadline=0.3, stuck=5)
    npu.slow = 0.2
    base = np.full(SHAPE, 100, np.uint8)
    base[::2] += 40
    for i in range(8):
        boss.run(np.roll(base, i % 2, axis=0))
    assert npu.calls > PROBES + 8, "it was examined"
    assert boss.engine.device is npu and not boss.degraded, boss.reason


def test_silhouettes_differ_and_are_pictures() -> None:
    one, other = silhouettes(SHAPE)
    assert one.shape == other.shape == SHAPE and one.dtype == np.uint8
    assert np.abs(one.astype(int) - other).mean() > 10


def test_a_watch_that_is_off_never_suspects() -> None:
    watch = Watch(0)
    answer = np.zeros((4, 4), np.int8)
    assert not any(watch.suspects(picture, answer) for picture in pictures(100))


# --- coming back ----------------------------------------------------------------------------------


def test_it_goes_back_to_the_first_choice_if_asked(npu: Device, cpu: Device) -> None:
    boss = supervised(npu, cpu, return_after=0.05)
    npu.there = False
    picture = pictures(1)[0]
    assert boss.run(picture)[0].device is cpu
    time.sleep(0.06)
    boss.run(picture)  # tries, in the background, and is refused
    time.sleep(0.05)
    assert boss.run(picture)[0].device is cpu
    npu.there = True
    until(lambda: boss.run(picture)[0].device is npu)
    assert not boss.degraded and boss.reason == "" and boss.counters.returns == 1
    assert cpu.closed == 1


def test_it_stays_where_it_is_unless_asked(npu: Device, cpu: Device) -> None:
    boss = supervised(npu, cpu)
    npu.failing = 2
    picture = pictures(1)[0]
    for _ in range(20):
        assert boss.run(picture)[0].device is cpu
        time.sleep(0.005)
    assert npu.opened == 1


def test_close_leaves_nothing_open(npu: Device, cpu: Device) -> None:
    for deadline in (None, 1.0):
        boss = supervised(npu, cpu, deadline=deadline)
        boss.run(pictures(1)[0])
        boss.close()
        boss.close()
        with pytest.raises(BackendFailure):
            boss.run(pictures(1)[0])
    until(lambda: npu.closed == npu.opened == 2)


def test_a_policy_takes_numpy_s_numbers() -> None:
    policy = Policy(deadline=np.float32(0.2), retries=np.int64(2))  # type: ignore[arg-type]
    assert policy.retries == 2


INTERRUPTED = """
import random, signal
import numpy as np
from edge_seg.watch import Watch
pictures = [np.full((224, 224, 3), level, np.uint8) for level in (40, 90)]
answer, watch, chance, caught = np.zeros(12544, np.int8), Watch(1 << 40), random.Random(0), 0
signal.signal(signal.SIGALRM, signal.default_int_handler)
while caught < 2000:
    try:
        signal.setitimer(signal.ITIMER_REAL, chance.uniform(2e-5, 2e-4))
        while True:
            for picture in pictures:
                watch.suspects(picture, answer)
    except KeyboardInterrupt:
        caught += 1
"""


def test_ctrl_c_at_any_moment_of_an_empty_room_is_an_exception() -> None:
    """In cv2.norm of two pictures it ended the process (OpenCV 5.0, SIGSEGV)."""
    done = subprocess.run([sys.executable, "-c", INTERRUPTED], capture_output=True, timeout=120)
    assert done.returncode == 0, done.stderr[-500:]

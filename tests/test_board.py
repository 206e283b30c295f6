"""Boards are found by the files a kernel shows, read from root file systems in miniature."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from edge_seg import machine
from edge_seg.board import boards, detect, load, resolve
from edge_seg.errors import BundleError, UnknownBoard

ROOTS = Path(__file__).parent / "fixtures" / "rootfs"


@pytest.mark.parametrize(
    ("machine_name", "board"),
    [
        ("raspberry-pi-4", "raspberry-pi-4"),
        ("raspberry-pi-400", "raspberry-pi-4"),
        ("raspberry-pi-5", "raspberry-pi-5"),
        ("raspberry-pi-3", "generic"),
        ("jetson-orin-nano", "jetson-orin-nano"),
        ("jetson-orin-nano-custom-carrier", "jetson-orin-nano"),
        ("jetson-orin-nx", "generic"),
        ("intel-npu", "intel-npu"),
        ("pc", "generic"),
        ("pc-avx2", "pc-avx2"),
    ],
)
def test_a_machine_is_recognised_by_its_files(machine_name: str, board: str) -> None:
    root = ROOTS / machine_name
    assert (root / "proc" / "cpuinfo").is_file(), "the fixture is not there: nothing was tested"
    assert detect(root).name == board


def test_every_board_that_can_be_recognised_is_tested_here() -> None:
    told_apart = {detect(root).name for root in ROOTS.iterdir() if root.is_dir()}
    assert told_apart == {board.name for board in boards()}


def test_a_newer_processor_is_not_the_older_one(tmp_path: Path) -> None:
    board, cpuinfo = load("pc-avx2"), tmp_path / "proc" / "cpuinfo"
    cpuinfo.parent.mkdir()
    for flags, old in (
        ("sse4_2 avx avx2 bmi2", True),
        ("avx2 avx512f avx512bw", True),
        ("avx2 avx512f avx512_vnni", False),
        ("avx2 avx_vnni", False),
        ("sse4_2 avx", False),
        ("fp asimd", False),
    ):
        cpuinfo.write_text(f"processor : 0\nflags\t\t: fpu {flags} rdseed\n")
        assert board.is_here(tmp_path) is old, flags


def test_a_machine_without_a_single_known_file_is_generic(tmp_path: Path) -> None:
    assert detect(tmp_path).name == "generic"


def test_no_machine_answers_to_two_boards() -> None:
    for root in (r for r in ROOTS.iterdir() if r.is_dir()):
        assert sum(board.is_here(root) for board in boards()) <= 1, root.name


def test_aliases_lead_to_their_board_and_are_nobody_elses() -> None:
    assert load("rpi4").name == "raspberry-pi-4"
    assert load("rpi5").name == "raspberry-pi-5"
    names = [n for board in boards() for n in (board.name, *board.aliases)]
    assert len(names) == len(set(names))


def test_an_unknown_board_is_answered_with_the_names_there_are() -> None:
    with pytest.raises(UnknownBoard, match="raspberry-pi-5") as raised:
        load("raspbery-pi-5")
    assert "raspbery-pi-5" in str(raised.value)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("title = ", "TOML"),
        ("title = " + "1" * 5000, "TOML"),  # Python turns no more than 4300 digits into a number
        ("title = 0x" + "f" * 5000, "TOML"),
        ("# " + "x" * 70_000, "a larger file"),
        ('title = "x"\naliases = []\n', "runtime"),
        ('title = "x"\naliases = []\nruntime = []\n', "runtime"),
        ('title = "x"\naliases = []\n[[runtime]]\nbackend = "fake"\nprecision = "int9"\n', "int9"),
        # A misspelt entry would be ignored: here the board's own number of threads.
        (
            'title = "x"\naliases = []\n[[runtime]]\nbackend = "fake"\nprecision = "int8"\n'
            "option = { threads = 4 }\n",
            "found 'option'",
        ),
        (
            'title = "x"\naliases = []\n[[runtime]]\nbackend = "fake"\nprecision = "int8"\n'
            'optional = "yes"\n',
            "'optional'",
        ),
        ('title = "x"\nalias = []\naliases = []\nruntime = []\n', "'alias'"),
        ('title = 5\naliases = []\n[[runtime]]\nbackend = "fake"\nprecision = "int8"\n', "title"),
    ],
)
def test_a_wrong_board_file_is_named_with_what_is_wrong(
    tmp_path: Path, text: str, names: str
) -> None:
    path = tmp_path / "mine" / "board.toml"
    path.parent.mkdir()
    path.write_text(text, encoding="utf-8")
    with pytest.raises(BundleError, match=names) as raised:
        load(str(path))
    assert str(path) in str(raised.value)


def test_a_users_own_board_is_named_by_its_path(fake_board: Path) -> None:
    board = load(str(fake_board))
    assert [str(r) for r in board.runtimes] == ["fake int8, threads 1", "fake fp32, threads 1"]
    assert resolve(fake_board) == resolve(str(fake_board)) == load(str(fake_board))


def test_what_names_no_board_is_refused() -> None:
    for wrong in (5, None, b"rpi5"):
        with pytest.raises(UnknownBoard, match=f"found {wrong!r}"):
            resolve(wrong)  # type: ignore[arg-type]


def test_a_machines_own_words() -> None:
    assert machine.model(ROOTS / "raspberry-pi-5") == "Raspberry Pi 5 Model B Rev 1.0"
    assert machine.model(ROOTS / "intel-npu") == "Intel(R) Core(TM) Ultra 7 155H"
    assert "Debian GNU/Linux 12" in machine.distribution(ROOTS / "raspberry-pi-5")


@pytest.mark.parametrize(
    ("release", "told"),
    [
        ("R32 (release), REVISION: 7.1", "JetPack 4 (L4T 32.7.1)"),
        ("R34 (release), REVISION: 1.1", "JetPack 5 (L4T 34.1.1)"),
        ("R35 (release), REVISION: 4.1", "JetPack 5 (L4T 35.4.1)"),
        ("R36 (release), REVISION: 4.3", "JetPack 6 (L4T 36.4.3)"),
        ("R38 (release), REVISION: 2.0", "JetPack 7 (L4T 38.2.0)"),  # on Thor alone
        ("R39 (release), REVISION: 2.1", "JetPack 7 (L4T 39.2.1)"),  # 7.2: on Orin too
        ("R99 (release), REVISION: 1.0", "JetPack ? (L4T 99.1.0)"),
    ],
)
def test_a_jetson_s_system_by_its_release(tmp_path: Path, release: str, told: str) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "nv_tegra_release").write_text(f"# {release}, GCID: 1, BOARD: generic\n")
    assert machine.jetpack(tmp_path) == told
    assert machine.jetpack(tmp_path / "elsewhere") is None


def test_temperature_is_the_hottest_zone_that_is_switched_on(tmp_path: Path) -> None:
    assert machine.temperature(ROOTS / "raspberry-pi-5") == pytest.approx(52.35)
    assert machine.temperature(ROOTS / "jetson-orin-nano") == pytest.approx(49.312)
    assert machine.temperature(ROOTS / "pc") is None
    assert machine.temperature(tmp_path) is None


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ("throttled=0x0\n", "no"),
        ("throttled=0x50000\n", "under-voltage has occurred, throttling has occurred (0x50000)"),
        ("throttled=0x4\n", "throttled now (0x4)"),
        ("VCHI initialization failed\n", None),
    ],
)
def test_the_pis_throttle_flag_in_words(answer: str, words: str | None) -> None:
    assert machine.read_throttled(answer) == words


@pytest.fixture
def tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where vcgencmd is looked for first; skips where the kernel's file goes before it."""
    if any(Path("/").glob("sys/devices/platform/soc*/soc*firmware/get_throttled")):
        pytest.skip("on this Raspberry Pi the kernel is asked, not the tool")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    return tmp_path / "vcgencmd"


def test_the_pis_own_tool_is_asked_where_the_kernel_has_no_file(tool: Path) -> None:
    tool.write_text('#!/bin/sh\n[ "$*" = get_throttled ] && echo throttled=0x50005\n')
    tool.chmod(0o755)
    assert str(machine.throttled()).startswith("under-voltage now, throttled now, ")
    assert machine.throttled(ROOTS / "pc") is None, "the tool tells of this machine, not of files"


@pytest.mark.parametrize(
    "script",
    [
        "#!/bin/sh\nexec sleep 30\n",
        "#!/bin/sh\necho VCHI initialization failed; exit 1\n",
        "#!/no/such/interpreter\n",
    ],
)
def test_a_tool_that_does_not_answer_says_nothing_and_holds_nobody_up(
    tool: Path, script: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool.write_text(script)
    tool.chmod(0o755)
    monkeypatch.setattr(machine, "TOOL_WAIT", 0.3)
    began = time.monotonic()
    assert machine.throttled() is None
    assert time.monotonic() - began < 10

"""What this machine says of itself: its name, its heat, its memory, whether it is throttled.

Everything is read from files under `root` (tests hand in a folder) or from the Pi's own tool.
What a machine does not tell is None: never a guess.
"""

from __future__ import annotations

import os
import platform
import re
import resource
import shutil
import subprocess
import sys
from pathlib import Path

MAX_CHARACTERS = 1 << 20  # of a file: those read here have a page, a large site's group file less
TOOL_WAIT = 5.0  # seconds: vcgencmd answers in milliseconds, or not at all
# Bits of `vcgencmd get_throttled` (Raspberry Pi documentation, "vcgencmd").
THROTTLE_BITS = {
    0: "under-voltage now",
    1: "frequency capped now",
    2: "throttled now",
    3: "soft temperature limit now",
    16: "under-voltage has occurred",
    17: "frequency capping has occurred",
    18: "throttling has occurred",
    19: "soft temperature limit has occurred",
}
# The kernel's names of instructions that multiply and add int8, the fastest first (Linux:
# arch/x86/include/asm/cpufeatures.h, Documentation/arch/arm64/elf_hwcaps.rst).
INT8_PRODUCTS = {
    "amx_int8": "AMX",
    "avx512_vnni": "AVX-512 VNNI",
    "avx_vnni": "AVX-VNNI",
    "i8mm": "int8 matrix products",
    "asimddp": "int8 dot products",
}
# L4T (Jetson Linux) -> JetPack; 38 is for Thor alone, 39 for Orin and Thor.
JETPACKS = {"32": "4", "34": "5", "35": "5", "36": "6", "38": "7", "39": "7"}


def measured_on(library: str = "") -> str:
    """Return this machine's model, int8 instructions, cores, system, Python and `library`."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    system = f"{distribution()} ({platform.machine()})"
    processor = " with ".join(filter(None, (model(), int8_products())))
    parts = [processor, f"{cores} CPUs", system, f"Python {platform.python_version()}"]
    return ", ".join([*parts, library] if library else parts)


def model(root: Path = Path("/")) -> str:
    """Return the board's model where a device tree names it, else the processor's."""
    board = read_text(root / "proc/device-tree/model").strip("\0\n ")
    if board:
        return board
    found = re.search(r"^model name\s*:\s*(.+)$", read_text(root / "proc/cpuinfo"), re.MULTILINE)
    return found.group(1).strip() if found else platform.processor() or platform.machine()


def int8_products(root: Path = Path("/")) -> str:
    """Return which instructions for int8 products the processor has, the fastest that is known.

    They decide what int8 gains: without any it takes about float's time. "" where the processor
    does not say.
    """
    able = _able(root)
    named = (words for flag, words in INT8_PRODUCTS.items() if flag in able)
    return next(named, "no int8 dot products" if able else "")


def computes_bfloat16(root: Path = Path("/")) -> bool:
    """Tell whether the processor has instructions for bfloat16; False where it does not say.

    The kernel's names: avx512_bf16 and amx_bf16 (x86), bf16 (ARM).
    """
    return not _able(root).isdisjoint(("avx512_bf16", "amx_bf16", "bf16"))


def _able(root: Path) -> set[str]:
    """The kernel's names of what the processors can do."""
    lines = re.findall(
        r"^(?:flags|Features)\s*:(.*)$", read_text(root / "proc/cpuinfo"), re.MULTILINE
    )
    return {word for line in lines for word in line.split()}


def distribution(root: Path = Path("/")) -> str:
    """Return the operating system's name."""
    found = re.search(r'^PRETTY_NAME="?([^"\n]+)', read_text(root / "etc/os-release"), re.MULTILINE)
    return found.group(1) if found else platform.system()


def temperature(root: Path = Path("/")) -> float | None:
    """Return the hottest thermal zone in degrees Celsius; None where there is none."""
    degrees = []
    for path in (root / "sys/class/thermal").glob("thermal_zone*/temp"):
        text = read_text(path).strip()
        if re.fullmatch(r"-?[0-9]+", text):
            degrees.append(int(text) / 1000.0)  # the kernel gives millidegrees
    # Zones that are switched off say 0 or less.
    return max((d for d in degrees if d > 0), default=None)


def throttled(root: Path = Path("/")) -> str | None:
    """Return what a Raspberry Pi says of its power and heat ("no" when all is well), else None."""
    # The firmware driver's own file, hexadecimal (kernel: drivers/firmware/raspberrypi.c); it is
    # named after the address on some boards.
    for path in sorted(root.glob("sys/devices/platform/soc*/soc*firmware/get_throttled")):
        return read_throttled(f"throttled=0x{read_text(path).strip().removeprefix('0x')}")
    tool = shutil.which("vcgencmd") if root == Path("/") else None
    if tool is None:
        return None
    try:
        done = subprocess.run(
            [tool, "get_throttled"], capture_output=True, text=True, timeout=TOOL_WAIT, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return read_throttled(done.stdout)


def slowed(root: Path = Path("/")) -> list[str]:
    """Return the kernel's cooling devices that slow the machine down now; fans are none."""
    found = []
    for folder in sorted((root / "sys/class/thermal").glob("cooling_device*")):
        kind, state = read_text(folder / "type").strip(), read_text(folder / "cur_state").strip()
        if re.fullmatch("[1-9][0-9]*", state) and "fan" not in kind.lower():
            found.append(
                f"{kind} at step {state} of {read_text(folder / 'max_state').strip() or '?'}"
            )
    return found


def jetpack(root: Path = Path("/")) -> str | None:
    """Return the Jetson's system, "JetPack 6 (L4T 36.4.3)"; None on other machines."""
    # "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64, DATE: ..."
    told = re.match(
        r"# R(\d+) \(release\), REVISION: ([\d.]+)", read_text(root / "etc/nv_tegra_release")
    )
    if told is None:
        return None
    return f"JetPack {JETPACKS.get(told[1], '?')} (L4T {told[1]}.{told[2]})"


def read_throttled(answer: str) -> str | None:
    """Read `throttled=0x50005` into words; None where it is something else."""
    found = re.search(r"throttled=(0x[0-9a-fA-F]+)", answer)
    if found is None:
        return None
    bits = int(found.group(1), 16)
    words = [text for bit, text in THROTTLE_BITS.items() if bits >> bit & 1]
    return f"{', '.join(words) or 'unknown flag'} ({found.group(1)})" if bits else "no"


def peak_memory() -> int:
    """Return the most memory this process has held so far, in bytes (resident)."""
    own = re.search(r"VmHWM:\s+(\d+) kB", read_text(Path("/proc/self/status")))
    if own is not None:  # what follows may remember the process that started this one
        return int(own[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # Linux counts in KiB


def read_text(path: Path) -> str:
    """Return the beginning of a small file, such as the kernel's; "" where it cannot be read."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(MAX_CHARACTERS)
    except OSError:
        return ""

"""What `edge-seg doctor` finds on machines that are not here: root file systems in miniature."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from edge_seg import machine
from edge_seg.board import detect, load
from edge_seg.cli import main
from edge_seg.conditions import Condition, conditions
from edge_seg.doctor import diagnose
from edge_seg.installation import Installation

ROOTS = Path(__file__).parent / "fixtures" / "rootfs"


def found(name: str) -> dict[str, Condition]:
    """Return what is found of a root, by subject."""
    root = ROOTS / name
    return {c.subject: c for c in conditions(detect(root), root, Installation.under(root))}


def verdicts(name: str, board: str = "auto") -> dict[str, bool]:
    """Return which of a board's runtimes would open under a root."""
    root = ROOTS / name
    chosen = detect(root) if board == "auto" else load(board)
    return {str(f.runtime): f.opens for f in diagnose(chosen, root=root).findings}


@pytest.mark.parametrize(
    ("name", "python", "arch", "venv", "sees", "user"),
    [
        ("raspberry-pi-4", (3, 11), "aarch64", True, False, "pi"),
        ("raspberry-pi-4-32-bit", (3, 11), "armv7l", True, True, "pi"),
        ("raspberry-pi-5", (3, 11), "aarch64", True, True, "pi"),
        ("jetson-orin-nano", (3, 10), "aarch64", True, True, "user"),
        ("intel-npu", (3, 12), "x86_64", True, False, "user"),
        ("container", (3, 13), "x86_64", False, True, "root"),
    ],
)
def test_an_installation_is_read_from_its_files(
    name: str, python: tuple[int, int], arch: str, venv: bool, sees: bool, user: str
) -> None:
    read = Installation.under(ROOTS / name)
    assert (read.python, read.machine, read.venv) == (python, arch, venv)
    assert (read.sees_system, read.user) == (sees, user)


def test_packages_of_the_environment_win_over_the_system_s() -> None:
    assert Installation.under(ROOTS / "raspberry-pi-5").packages["numpy"] == "2.4.6"
    assert "tensorrt" in Installation.under(ROOTS / "jetson-orin-nano").packages
    assert "tensorrt" not in Installation.under(ROOTS / "jetson-orin-nano-custom-carrier").packages


def test_the_running_python_is_read_too() -> None:
    import numpy

    here = Installation.here()
    assert here.packages["numpy"] == numpy.__version__
    assert here.has("rich") and not here.has("no-such-package")


# --- per machine ----------------------------------------------------------------------------------


def test_a_pi_in_order_has_nothing_to_mend() -> None:
    assert all(c.state == "ok" for c in found("raspberry-pi-5").values())
    assert all(verdicts("raspberry-pi-5").values())


def test_a_venv_without_apts_libcamera_is_told_the_command() -> None:
    camera = found("raspberry-pi-4")["camera"]
    assert camera.state == "warning" and "does not see" in camera.text
    assert "--system-site-packages" in camera.mend
    assert all(verdicts("raspberry-pi-4").values()), "the network runs all the same"


def test_throttling_now_is_said_in_words() -> None:
    seen = found("raspberry-pi-4")
    assert "under-voltage now, throttled now" in seen["power and heat"].text
    assert "power supply" in seen["power and heat"].mend
    assert "cpufreq-cpu0 at step 2 of 4" in seen["heat"].text
    assert machine.slowed(ROOTS / "raspberry-pi-5") == [], "a fan that turns slows nothing down"
    assert machine.throttled(ROOTS / "raspberry-pi-5") == "no"
    assert machine.throttled(ROOTS / "pc") is None


def test_numpy_2_beside_tflite_runtime_is_found_before_it_fails() -> None:
    tflite = found("raspberry-pi-4-32-bit")["TFLite"]
    assert tflite.state == "missing" and "NumPy 2.2.6" in tflite.text
    assert "numpy<2" in tflite.mend and "4.11.0.86" in tflite.mend
    assert not any(verdicts("raspberry-pi-4-32-bit").values())


def test_jetpack_is_named_and_its_tensorrt_found() -> None:
    seen = found("jetson-orin-nano")
    assert seen["JetPack"].text == "JetPack 6 (L4T 36.4.3), package nvidia-jetpack 6.2+b77"
    assert seen["TensorRT"].state == "ok" and "python3.10" in seen["TensorRT"].text
    assert verdicts("jetson-orin-nano")["tensorrt int8"]
    assert not verdicts("jetson-orin-nano")["onnxruntime fp32, provider CUDA, threads 2"]


def test_a_jetson_s_camera_needs_gstreamer_s_bindings_whichever_opencv_is_there() -> None:
    assert "opencv-python-headless" in Installation.under(ROOTS / "jetson-orin-nano").packages
    camera = found("jetson-orin-nano")["camera"]
    assert camera.state == "ok" and not camera.mend
    hidden = found("jetson-orin-nano-custom-carrier")["camera"]
    assert hidden.state == "warning" and "does not see" in hidden.text
    assert "--system-site-packages" in hidden.mend


@pytest.mark.parametrize(
    ("remove", "words", "mend"),
    [
        ("python3/dist-packages/gi", "python3-gi is not installed", "apt install python3-gi"),
        ("*/girepository-1.0/GstApp-1.0.typelib", "not installed: GstApp", "gir1.2-gst-plugins"),
        ("*/gstreamer-1.0/libgstnvarguscamerasrc.so", "no csi://", "nvidia-l4t-gstreamer"),
        ("python3/dist-packages/gi/_gi.*.so", "not for Python 3.10", "/usr/bin/python3 -m venv"),
    ],
)
def test_what_a_jetson_s_camera_lacks_is_named(
    tmp_path: Path, remove: str, words: str, mend: str
) -> None:
    root = tmp_path / "root"
    shutil.copytree(ROOTS / "jetson-orin-nano", root)
    (gone,) = (root / "usr/lib").glob(remove)
    if "_gi" in remove:
        gone.rename(gone.with_name("_gi.cpython-312-aarch64-linux-gnu.so"))
    elif gone.is_dir():
        shutil.rmtree(gone)
    else:
        gone.unlink()
    told = {c.subject: c for c in conditions(load("jetson"), root, Installation.under(root))}
    camera = told["camera"]
    assert camera.state == "warning" and not camera.blocks, "the network runs all the same"
    assert words in camera.text and mend in camera.mend


def test_bindings_that_pip_put_into_the_environment_do() -> None:
    root = ROOTS / "jetson-orin-nano-custom-carrier"
    here = Installation.under(root)
    own = replace(here, packages={**here.packages, "pygobject": "3.50.0"})
    told = {c.subject: c for c in conditions(load("jetson"), root, own)}
    assert told["camera"].state == "ok"


@pytest.mark.parametrize("device", ["GPU", "GPU.1"])
def test_a_second_gpu_is_looked_at_like_the_first(device: str) -> None:
    board = load("npu")
    runtime = replace(board.runtimes[0], backend="openvino", options={"device": device})
    root = ROOTS / "intel-npu"
    told = conditions(replace(board, runtimes=(runtime,)), root, Installation.under(root))
    (gpu,) = (c for c in told if c.subject == "GPU")
    assert gpu.state == "missing" and gpu.blocks == {f"openvino {device}"}


def test_a_venv_that_does_not_see_jetpack_has_no_tensorrt() -> None:
    seen = found("jetson-orin-nano-custom-carrier")
    assert seen["TensorRT"].state == "missing" and "--system-site-packages" in seen["TensorRT"].mend
    assert "/usr/lib/python3.10/dist-packages" in seen["TensorRT"].text
    assert str(ROOTS) not in seen["TensorRT"].text
    assert "NVIDIA's onnxruntime-gpu wheel" in seen["CUDA"].mend


@pytest.mark.parametrize("package", ["onnxruntime", "numpy"])
def test_a_jetson_asked_for_elsewhere_gets_the_jetson_s_remedy(package: str) -> None:
    """The usual wheel has no CUDA there, whatever it has on the machine that is looked at."""
    here = replace(Installation.under(ROOTS / "pc"), packages={package: "1.0"})
    told = {c.subject: c for c in conditions(load("jetson"), ROOTS / "pc", here)}
    cuda = told["CUDA"] if package == "onnxruntime" else told["ONNX Runtime"]
    assert cuda.state == "missing" and "NVIDIA's onnxruntime-gpu wheel" in cuda.mend
    assert "pip install" not in cuda.mend


@pytest.mark.parametrize(
    ("release", "package", "words"),
    [
        ("# R35 (release), REVISION: 4.1, GCID: 1", "", "JetPack 5 (L4T 35.4.1) has TensorRT 8"),
        ("# R36 (release), REVISION: 4.3, GCID: 1", "3.12", "package is for Python 3.12, this is"),
        ("# R36 (release), REVISION: 4.3, GCID: 1", "", "the Python package is not installed"),
    ],
)
def test_other_states_of_a_jetson(tmp_path: Path, release: str, package: str, words: str) -> None:
    root = tmp_path / "root"
    shutil.copytree(ROOTS / "jetson-orin-nano", root)
    (root / "etc/nv_tegra_release").write_text(release)
    shutil.rmtree(root / "usr/lib/python3.10/dist-packages/tensorrt")
    if package:
        folder = root / f"usr/lib/python{package}/dist-packages/tensorrt"
        folder.mkdir(parents=True)
        (folder / "__init__.py").touch()
    told = conditions(load("jetson"), root, Installation.under(root))
    assert any(words in c.text and c.mend and "tensorrt" in c.blocks for c in told)


@pytest.fixture
def jetpack_7(tmp_path: Path) -> Path:
    """An Orin Nano of JetPack 7.2: Python 3.12, and CUDA 13 where servers have it (sbsa)."""
    root = tmp_path / "root"
    shutil.copytree(ROOTS / "jetson-orin-nano", root)
    (root / "etc/nv_tegra_release").write_text("# R39 (release), REVISION: 2.1, GCID: 1\n")
    config = root / "home/user/edge-seg/pyvenv.cfg"
    config.write_text(config.read_text().replace("3.10", "3.12"))
    for path in [*root.rglob("python3.10"), *root.rglob("_gi.cpython-310-*")]:
        path.rename(path.with_name(path.name.replace("3.10", "3.12").replace("-310-", "-312-")))
    shutil.rmtree(root / "usr/local/cuda-12.6")
    library = root / "usr/local/cuda/targets/sbsa-linux/lib/libcudart.so.13"
    library.parent.mkdir(parents=True)
    library.touch()
    return root


def test_jetpack_7_has_what_tensorrt_needs(jetpack_7: Path) -> None:
    here, board = Installation.under(jetpack_7), detect(jetpack_7)
    assert board.name == "jetson-orin-nano" and here.python == (3, 12)
    told = {c.subject: c for c in conditions(board, jetpack_7, here)}
    assert told["JetPack"].text.startswith("JetPack 7 (L4T 39.2.1), package nvidia-jetpack ")
    assert told["TensorRT"].state == "ok" and "python3.12" in told["TensorRT"].text
    assert {c.subject for c in told.values() if c.state != "ok"} == {"ONNX Runtime"}
    first = diagnose(board, root=jetpack_7).first
    assert first is not None and first.runtime.backend == "tensorrt"


def test_a_jetson_without_cuda_s_library_is_told_so(jetpack_7: Path) -> None:
    (jetpack_7 / "usr/local/cuda/targets/sbsa-linux/lib/libcudart.so.13").unlink()
    told = conditions(load("jetson"), jetpack_7, Installation.under(jetpack_7))
    (cuda,) = (c for c in told if "libcudart" in c.text)
    assert cuda.state == "missing" and cuda.blocks == {"tensorrt"}
    assert cuda.mend == "sudo apt install nvidia-jetpack"


def test_an_npu_in_order() -> None:
    assert found("intel-npu")["NPU"].text == "/dev/accel/accel0, and user may open it"
    seen = verdicts("intel-npu")
    assert seen["openvino int8, device NPU"] and not seen["openvino int8, device GPU"]


@pytest.mark.parametrize(
    ("name", "words", "mend"),
    [
        ("intel-npu-without-driver", "intel_vpu is not loaded", "sudo modprobe intel_vpu"),
        ("intel-npu-without-right", "not in the group render", "sudo usermod -aG render user"),
    ],
)
def test_an_npu_that_cannot_be_used_is_told_why_and_the_cpu_takes_over(
    name: str, words: str, mend: str
) -> None:
    npu = found(name)["NPU"]
    assert npu.state == "missing" and words in npu.text and npu.mend.startswith(mend)
    seen = verdicts(name)
    assert not seen["openvino int8, device NPU"]
    assert seen["openvino int8, device CPU, threads 4"]


@pytest.mark.parametrize(
    ("remove", "words"),
    [
        ("usr/lib/x86_64-linux-gnu/libze_intel_npu.so.1", "Intel's driver library is not"),
        ("dev/accel/accel0", "gives no /dev/accel/accel0"),
        ("sys/bus/pci/devices/0000:00:0b.0/class", "no NPU on the PCI bus"),
    ],
)
def test_other_states_of_an_npu(tmp_path: Path, remove: str, words: str) -> None:
    root = tmp_path / "root"
    shutil.copytree(ROOTS / "intel-npu", root)
    (root / remove).unlink()
    told = conditions(load("npu"), root, Installation.under(root))
    assert any(words in c.text and "openvino NPU" in c.blocks for c in told)


def test_a_bare_container_is_told_one_command_per_library() -> None:
    seen = found("container")
    assert seen["TFLite"].mend == "pip install ai-edge-litert"
    assert not any(verdicts("container").values())


@pytest.mark.parametrize(
    ("python", "arch", "words", "mend"),
    [
        ("3.14", "arm-linux-gnueabihf", "no wheel for armv7l", "64-bit system"),
        ("3.11", "arm-linux-gnueabihf", "no wheel for armv7l", "pip install tflite-runtime"),
        (
            *("3.15", "aarch64-linux-gnu", "wheels for Python 3.10 to 3.14, this is 3.15"),
            "python3.11 -m venv ~/edge-seg && ~/edge-seg/bin/pip install . ai-edge-litert",
        ),
        ("3.9", "aarch64-linux-gnu", "", ""),
    ],
)
def test_a_python_without_a_wheel_is_told_which_has_one(
    tmp_path: Path, python: str, arch: str, words: str, mend: str
) -> None:
    for file in (f"usr/bin/python{python}", f"usr/lib/{arch}/libc.so.6"):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).touch()
    told = conditions(load("rpi4"), tmp_path, Installation.under(tmp_path))
    blocking = [c for c in told if c.blocks]
    if python == "3.9":
        assert any("wanted 3.10 or newer" in c.text and "*" in c.blocks for c in blocking)
    else:
        assert any(words in c.text and mend in c.mend for c in blocking)


def test_a_machine_that_its_files_do_not_name_is_not_called_unknown(tmp_path: Path) -> None:
    (tmp_path / "usr/bin").mkdir(parents=True)
    (tmp_path / "usr/bin/python3.11").touch()
    told = conditions(load("generic"), tmp_path, Installation.under(tmp_path))
    assert not any("unknown" in c.text or "no wheel" in c.text for c in told)
    seen = {c.subject: c for c in told}
    assert "a machine its files do not name" in seen["Python"].text
    assert seen["TFLite"].mend == "pip install ai-edge-litert"


@pytest.mark.parametrize("machine", ["riscv64", "aarch64"])
def test_an_environment_is_only_proposed_where_it_would_help(machine: str, tmp_path: Path) -> None:
    here = replace(Installation.under(ROOTS / "container"), machine=machine, python=(3, 15))
    told = {c.subject: c for c in conditions(load("npu"), tmp_path, here)}
    assert told["OpenVINO"].state == "missing"
    assert ('bin/pip install ".[openvino]"' in told["OpenVINO"].mend) == (machine == "aarch64")


@pytest.mark.parametrize(("folder", "state"), [("made/later", "ok"), ("file/inside", "warning")])
def test_a_cache_that_cannot_be_written_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str, state: str
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("EDGE_SEG_CACHE", str(tmp_path / folder))
    told = conditions(load("npu"), Path("/"), Installation.here())
    (cache,) = (c for c in told if c.subject == "cache")
    assert cache.state == state and not cache.blocks
    assert ("prepare" in cache.mend) == (state == "warning")
    assert all(
        c.subject != "cache" for c in conditions(load("rpi5"), Path("/"), Installation.here())
    )


LOOK_AT_THE_CACHE = """
import json
from dataclasses import asdict
from pathlib import Path
from edge_seg.board import load
from edge_seg.conditions import conditions
from edge_seg.installation import Installation
told = conditions(load("npu"), Path("/"), Installation.here())
print(json.dumps([(c.state, c.text, c.mend) for c in told if c.subject == "cache"]))
"""


def as_one_whom_permissions_bind() -> list[str]:
    """The words before a command: root without its powers, which no permission would stop."""
    if os.geteuid() != 0:
        return []
    words = ["unshare", "--user"]
    if shutil.which("unshare") is None or subprocess.run([*words, "true"]).returncode != 0:
        pytest.skip("no permission stops root, and unshare is refused here")
    return words


@pytest.mark.parametrize(
    ("mode", "holds", "told"),
    [
        (0o555, ["openvino/a.compiled"], "is read-only and holds 1 prepared entry"),
        (0o555, ["openvino/a", "openvino/b"], "is read-only and holds 2 prepared entries"),
        (0o555, [], ""),
        (0o555, ["openvino/.a.xyz.part"], ""),
        (0o555, ["tensorrt/a.engine"], ""),  # another board's
        (0o000, ["openvino/a.compiled"], ""),  # it may not be looked into
    ],
)
def test_a_read_only_cache_is_in_order_where_it_was_prepared(
    tmp_path: Path, mode: int, holds: list[str], told: str
) -> None:
    words = as_one_whom_permissions_bind()
    cache = tmp_path / "image" / "cache"
    cache.mkdir(parents=True)
    for name in holds:
        (cache / name).parent.mkdir(exist_ok=True)
        (cache / name).touch()
    for folder in (cache, cache.parent):
        folder.chmod(mode)
    try:
        done = subprocess.run(
            [*words, sys.executable, "-c", LOOK_AT_THE_CACHE],
            env={**os.environ, "EDGE_SEG_CACHE": str(cache)},
            capture_output=True,
            text=True,
        )
    finally:
        for folder in (cache.parent, cache):
            folder.chmod(0o755)
    assert done.returncode == 0, done.stderr
    ((state, text, mend),) = json.loads(done.stdout)
    if told:
        assert (state, text, mend) == ("ok", f"{cache} {told}", "")
    else:
        assert state == "warning" and "cannot be written" in text and "prepare" in mend


# --- the verb, and that nothing raises ----------------------------------------------------------


@pytest.mark.parametrize("name", sorted(p.name for p in ROOTS.iterdir() if p.is_dir()))
@pytest.mark.parametrize("board", ["auto", "rpi4", "jetson", "npu", "generic"])
def test_the_verb_takes_any_root_and_any_board(
    name: str, board: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main(["doctor", "--root", str(ROOTS / name), "--board", board])
    said = capsys.readouterr().out
    assert code in (0, 4) and "the machine:" in said
    assert ("cannot run here" in said) == (code == 4)


def test_files_that_are_not_what_they_should_be_raise_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "root"
    shutil.copytree(ROOTS / "jetson-orin-nano", root)
    for path in root.rglob("*"):
        if path.is_file():
            path.chmod(path.stat().st_mode | stat.S_IWUSR)
            path.write_bytes(b"\xff\x00" * 40)
    assert main(["doctor", "--root", str(root), "--board", "jetson"]) in (0, 4)
    shutil.rmtree(root)
    root.mkdir()
    capsys.readouterr()
    assert main(["doctor", "--root", str(root), "--board", "rpi5"]) == 4
    said = capsys.readouterr().out
    assert "system: no system was found there" in said and "name the folder that holds" in said
    assert "unknown" not in said and "Python: there is none" not in said and "wheel" not in said


def test_a_root_that_is_not_there_is_a_wrong_input(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--root", "/no/such/root"]) == 2
    assert "/no/such/root" in capsys.readouterr().err


def test_the_verdict_of_files_is_not_called_works(capsys: pytest.CaptureFixture[str]) -> None:
    main(["doctor", "--root", str(ROOTS / "raspberry-pi-5")])
    said = capsys.readouterr().out
    assert "1. likely" in said and "not tried" in said and "works" not in said


@pytest.mark.parametrize(
    ("line", "has"),
    [
        ("flags\t\t: fpu sse2 fma avx2 avx512f avx512_vnni", False),
        ("flags\t\t: fpu avx512_vnni avx512_bf16 avx512_vbmi2", True),
        ("flags\t\t: fpu amx_bf16 amx_tile amx_int8", True),
        ("Features\t: fp asimd evtstrm crc32 atomics fphp asimdhp asimddp", False),  # Pi 5
        ("Features\t: fp asimd asimddp i8mm bf16", True),
        ("model name\t: bf16 Processor", False),
    ],
)
def test_whether_a_processor_computes_in_bfloat16(tmp_path: Path, line: str, has: bool) -> None:
    write_cpuinfo(tmp_path, line)
    assert machine.computes_bfloat16(tmp_path) is has
    assert not machine.computes_bfloat16(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("flags\t\t: fpu avx2 fma", "no int8 dot products"),
        ("flags\t\t: fpu avx2 avx512f avx512_vnni avx512_bf16", "AVX-512 VNNI"),
        ("flags\t\t: fpu avx512_vnni avx_vnni amx_tile amx_int8", "AMX"),
        ("flags\t\t: fpu avx2 avx_vnni", "AVX-VNNI"),
        ("Features\t: fp asimd evtstrm crc32 cpuid", "no int8 dot products"),  # Pi 4
        ("Features\t: fp asimd evtstrm crc32 atomics fphp asimdhp asimddp", "int8 dot products"),
        ("Features\t: fp asimd asimddp i8mm bf16", "int8 matrix products"),
        ("model name\t: avx512_vnni Processor", ""),
    ],
)
def test_what_makes_int8_fast_is_told_of_a_processor(tmp_path: Path, line: str, told: str) -> None:
    write_cpuinfo(tmp_path, line)
    assert machine.int8_products(tmp_path) == told
    assert machine.int8_products(tmp_path / "nowhere") == ""


def write_cpuinfo(root: Path, line: str) -> None:
    """Write the kernel's file about a processor of one line."""
    (root / "proc").mkdir()
    (root / "proc" / "cpuinfo").write_text(f"processor\t: 0\n{line}\nbugs\t\t:\n")

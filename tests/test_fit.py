"""Training: it learns, it resumes bit-equal, it stops on NaN, it refuses what it cannot use."""

from __future__ import annotations

import functools
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs torch: pip install edge-seg[train]")
pytest.importorskip("safetensors")
pytest.importorskip("matplotlib")
pytest.importorskip("tensorboard")

from edge_seg.calibration.dataset import read_list, scene_rule  # noqa: E402
from edge_seg.cli import main  # noqa: E402
from edge_seg.cli.train import _store  # noqa: E402
from edge_seg.errors import DatasetError, OutputError  # noqa: E402
from edge_seg.training import checkpoint, curves, fit, state  # noqa: E402
from edge_seg.training.augment import Renderer  # noqa: E402
from edge_seg.training.batches import sample_numbers  # noqa: E402
from edge_seg.training.collection import find, open_store, to_teach  # noqa: E402
from edge_seg.training.judge import Judge  # noqa: E402
from edge_seg.training.network import SHAPES, PortraitNet, Shape  # noqa: E402
from edge_seg.training.processes import Place  # noqa: E402
from edge_seg.training.recipe import Recipe  # noqa: E402
from edge_seg.training.store import PictureStore  # noqa: E402
from tests import toy_pictures  # noqa: E402

ALONE = Place(0, 1, torch.device("cpu"))
SMALL = {
    "shape": "lite",
    "sizes": [[0, 32], [4, 64]],
    "batch": 4,
    "steps": 8,
    "warmup": 2,
    "decay_from": 4,
    "save_every": 2,
    "judge_every": 4,
    "bf16": False,
}
# A run that would go on for minutes, and is saved by what the test does alone.
UNSAVED = SMALL | {"steps": 5000, "save_every": 5000, "judge_every": 5}


@pytest.fixture(scope="module")
def toys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy_pictures.write(tmp_path_factory.mktemp("toys") / "data")


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """One process, and one thread: pictures this small only wait for a second one."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    yield
    torch.set_num_threads(threads)


def renderer(toys: Path, tmp_path: Path, seed: int = 0) -> Renderer:
    return Renderer(open_store(find(toys), tmp_path / "pictures", side=90), Recipe(seed=seed))


def no_judge(network: torch.nn.Module, side: int) -> dict[str, float]:
    return {"miou": 0.5}


def train(folder: Path, toys: Path, **settings: object) -> fit.Run:
    folder.mkdir(exist_ok=True)
    run = fit.Run(folder, Recipe.from_dict(SMALL | settings), place=ALONE)
    run.resume()
    run.fit(renderer(toys, folder), no_judge)
    return run


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return checkpoint.load_tensors(folder / state.STATE)[0]


def command(toys: Path, out: Path, *more: str) -> list[str]:
    python = [sys.executable, "-m", "edge_seg", "train", "--data", str(toys), "-o", str(out)]
    return [*python, *more]


@pytest.mark.slow
def test_it_learns_what_a_person_is_here(toys: Path, tmp_path: Path) -> None:
    """From nothing to a useful mask, judged through the runtime's own pixels."""
    recipe = Recipe.from_dict(
        SMALL | {"sizes": [[0, 32]], "batch": 8, "steps": 80, "decay_from": 40, "ema": 0.9}
    )
    run = fit.Run(tmp_path, recipe, place=ALONE)
    judge = Judge(find(toys).val, [])
    before = judge(run.averaged, 32)["miou"]
    run.fit(renderer(toys, tmp_path), judge)
    assert before < 0.7 < 0.85 < judge(run.averaged, 32)["miou"]
    assert run.best > 0.85
    network, facts = checkpoint.load_network(tmp_path / state.BEST)
    assert judge(network, 32)["miou"] == pytest.approx(run.best)
    assert facts["recipe"]["steps"] == 80


@pytest.mark.slow
def test_a_run_leaves_what_it_promises(toys: Path, tmp_path: Path) -> None:
    train(tmp_path, toys)
    names = {path.name for path in tmp_path.iterdir()}
    assert {state.STATE, state.BEST, state.WARM, "history.jsonl", "curves.png"} <= names
    assert any(name.startswith("events.out.tfevents") for name in names)
    rows = [json.loads(line) for line in (tmp_path / "history.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [4, 8]
    assert (tmp_path / "curves.png").read_bytes()[:4] == b"\x89PNG"
    assert not [name for name in names if name.endswith(".part")]


@pytest.mark.slow
def test_bfloat16_is_used_only_where_the_processor_computes_in_it(
    toys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Emulated it takes nine times as long: asked for there, the run is the float32 one."""
    weighed = {}
    for has in (False, True):
        monkeypatch.setattr("edge_seg.machine.computes_bfloat16", lambda has=has: has)
        for asked in (False, True):
            folder = tmp_path / f"{has}-{asked}"
            train(folder, toys, bf16=asked, steps=2, sizes=[[0, 32]], decay_from=2)
            weighed[has, asked] = weights(folder)["network.head.weight"]
    assert torch.equal(weighed[False, True], weighed[False, False])
    assert not torch.equal(weighed[True, True], weighed[True, False])


@pytest.mark.slow
def test_resuming_is_bit_equal(toys: Path, tmp_path: Path) -> None:
    """A run stopped after six steps and resumed ends with the same bits as one that was not."""
    train(tmp_path / "whole", toys)
    (tmp_path / "broken").mkdir()
    run = fit.Run(tmp_path / "broken", Recipe.from_dict(SMALL), place=ALONE)

    class Killed(Exception):
        pass

    def kill(row: dict[str, float]) -> None:
        if row["step"] == 7:  # one step after a save: that step is done again
            raise Killed

    with pytest.raises(Killed):
        run.fit(renderer(toys, tmp_path / "broken"), no_judge, report=kill)
    train(tmp_path / "broken", toys)
    whole, broken = weights(tmp_path / "whole"), weights(tmp_path / "broken")
    assert whole.keys() == broken.keys()
    assert all(torch.equal(whole[name], broken[name]) for name in whole)


@pytest.mark.slow
def test_a_run_killed_at_any_moment_resumes_bit_equal(toys: Path, tmp_path: Path) -> None:
    """SIGKILL through the command line, several times, then to the end."""
    settings = tmp_path / "recipe.json"
    settings.write_text(json.dumps(SMALL | {"steps": 40, "save_every": 3, "judge_every": 20}))
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    first = command(toys, whole, "--recipe", str(settings))
    subprocess.run(first, check=True, env=environment, capture_output=True, timeout=300)
    kills = 0
    for seconds in (0.2, 0.7, 1.3):
        more = () if (broken / "recipe.json").is_file() else ("--recipe", str(settings))
        process = subprocess.Popen(command(toys, broken, *more), env=environment)
        deadline = time.monotonic() + 120
        while not (broken / state.STATE).is_file() and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(seconds)
        process.send_signal(signal.SIGKILL)
        kills += process.wait() == -signal.SIGKILL
    assert kills, "every run ended before it could be killed"
    last = command(toys, broken)
    subprocess.run(last, check=True, env=environment, capture_output=True, timeout=300)
    one, other = weights(whole), weights(broken)
    assert all(torch.equal(one[name], other[name]) for name in one)


def interrupted(line: list[str], out: Path, *numbers: signal.Signals) -> tuple[int, str]:
    """Start a run, wait for its first judgement, send signals to all its processes at once."""
    # A shell that starts CI in the background hands down SIGINT as ignored: a terminal does not.
    heard = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    running = subprocess.Popen(
        line,
        env=os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=heard,
        start_new_session=True,
    )
    deadline = time.monotonic() + 300
    while not (out / "history.jsonl").is_file() and time.monotonic() < deadline:
        time.sleep(0.02)
    for number in numbers:
        os.killpg(running.pid, number)
    _, said = running.communicate(timeout=300)
    return running.returncode, said


@pytest.mark.slow
@pytest.mark.parametrize(
    ("numbers", "workers", "code"),
    [((signal.SIGINT,), 0, 130), ((signal.SIGTERM, signal.SIGTERM), 2, 143)],
)
def test_ctrl_c_and_sigterm_keep_every_step_that_was_done(
    toys: Path, tmp_path: Path, numbers: tuple[signal.Signals, ...], workers: int, code: int
) -> None:
    """Though states are saved every 5,000 steps; what is kept is bit-equal to a run to there."""
    settings = tmp_path / "recipe.json"
    settings.write_text(json.dumps(UNSAVED))
    more = ("--recipe", str(settings), "--workers", str(workers))
    out = tmp_path / "run"
    returned, said = interrupted(command(toys, out, *more), out, *numbers)
    assert returned == code and "Traceback" not in said, said
    at = checkpoint.load_tensors(out / state.STATE)[1]["step"]
    assert 5 <= at < 5000
    assert f"stopped at step {at} of 5000; the same command goes on" in said
    run = fit.Run(tmp_path, Recipe.from_dict(UNSAVED), place=ALONE)
    pictures = Renderer(_store(find(toys), run), run.recipe)
    run.fit(pictures, no_judge, stop=lambda: run.step == at)
    one, other = weights(out), weights(tmp_path)
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_two_processes_stop_at_the_same_step(
    toys: Path, tmp_path: Path, number: signal.Signals
) -> None:
    settings = tmp_path / "recipe.json"
    settings.write_text(json.dumps(UNSAVED))
    out = tmp_path / "two"
    line = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    line += ["-m", "edge_seg", "train", "--data", str(toys), "--recipe", str(settings)]
    _, said = interrupted([*line, "-o", str(out)], out, number)
    at = checkpoint.load_tensors(out / state.STATE)[1]["step"]
    assert 5 <= at < 5000
    assert said.count(f"stopped at step {at} of 5000; the same command goes on") == 2, said


def test_a_run_asked_to_stop_goes_on_to_the_same_bits(toys: Path, tmp_path: Path) -> None:
    """At a step at which nothing else would have been saved."""
    train(tmp_path / "whole", toys, save_every=100)
    (tmp_path / "stopped").mkdir()
    recipe = Recipe.from_dict(SMALL | {"save_every": 100})
    run = fit.Run(tmp_path / "stopped", recipe, place=ALONE)
    run.fit(renderer(toys, tmp_path / "stopped"), no_judge, stop=lambda: run.step == 3)
    assert (run.step, run.saved) == (3, 3)
    assert checkpoint.load_tensors(tmp_path / "stopped" / state.STATE)[1]["step"] == 3
    assert train(tmp_path / "stopped", toys, save_every=100).step == 8
    whole, stopped = weights(tmp_path / "whole"), weights(tmp_path / "stopped")
    assert whole.keys() == stopped.keys()
    assert all(torch.equal(whole[name], stopped[name]) for name in whole)


def test_slow_steps_are_saved_by_the_clock(
    toys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = fit.Run(tmp_path, Recipe.from_dict(SMALL | {"save_every": 100}), place=ALONE)
    saved: list[int] = []

    def hours_later(row: dict[str, float]) -> None:
        saved.append(run.saved)
        if row["step"] == 2:
            monkeypatch.setattr(fit, "SAVE_AFTER", -1.0)
        if row["step"] == 3:
            monkeypatch.setattr(fit, "SAVE_AFTER", 600.0)

    stop = run.recipe.steps - 3
    run.fit(renderer(toys, tmp_path), no_judge, report=hours_later, stop=lambda: run.step == stop)
    assert saved == [0, 0, 3, 3, 3]


@pytest.mark.slow
def test_two_gloo_processes_train_together(toys: Path, tmp_path: Path) -> None:
    """torchrun on one machine: it ends, and both saw the same samples as one process would."""
    settings = tmp_path / "recipe.json"
    settings.write_text(json.dumps(SMALL))
    out = tmp_path / "two"
    line = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    line += ["-m", "edge_seg", "train", "--data", str(toys), "-o", str(out)]
    done = subprocess.run(
        [*line, "--recipe", str(settings)],
        env=os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    tensors, facts = checkpoint.load_tensors(out / state.STATE)
    assert facts["step"] == 8
    assert all(torch.isfinite(t).all() for t in tensors.values() if t.is_floating_point())
    recipe = Recipe.from_dict(SMALL)
    shares = [sample_numbers(recipe, 3, Place(r, 2, torch.device("cpu"))) for r in (0, 1)]
    assert [*shares[0], *shares[1]] == list(sample_numbers(recipe, 3, ALONE))


@pytest.mark.slow
def test_processes_without_a_common_run_folder_stop_instead_of_waiting(
    toys: Path, tmp_path: Path
) -> None:
    """As on two machines whose disks are their own, one of which has a run to go on with."""
    settings = tmp_path / "recipe.json"
    settings.write_text(json.dumps(SMALL))
    train(tmp_path / "run0", toys)
    each = f"{sys.executable} -m edge_seg train --data {toys} --recipe {settings} -o {tmp_path}/run"
    line = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*line, "--no-python", "bash", "-c", each + "$RANK"],
        env=os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode != 0
    assert "one run folder for all processes, found them at steps 0 and 8" in done.stderr


def test_seeds_decide_everything(toys: Path, tmp_path: Path) -> None:
    one = renderer(toys, tmp_path, seed=1)
    again, other = renderer(toys, tmp_path, seed=1), renderer(toys, tmp_path, seed=2)
    for number in range(6):
        sample = one.sample(number, 48)
        assert all(
            np.array_equal(a, b) for a, b in zip(sample, again.sample(number, 48), strict=True)
        )
        assert not np.array_equal(sample[0], other.sample(number, 48)[0])


def poison(run: fit.Run, at: int) -> None:
    """From step `at` on the network's last bias is NaN, as after a numeric accident."""
    plain = run._one_step

    def step(*arguments: object) -> float:
        if run.step == at:
            with torch.no_grad():
                run.network.head.bias.fill_(float("nan"))
        return plain(*arguments)  # type: ignore[arg-type]

    run._one_step = step  # type: ignore[method-assign]


def test_nan_stops_the_run_names_the_batch_and_keeps_the_last_good_state(
    toys: Path, tmp_path: Path
) -> None:
    run = fit.Run(tmp_path, Recipe.from_dict(SMALL), place=ALONE)
    poison(run, at=5)
    with pytest.raises(fit.TrainingStopped, match=r"batch 5 \(samples 20, 21, 22, 23; seed 0\)"):
        run.fit(renderer(toys, tmp_path), no_judge)
    tensors, facts = checkpoint.load_tensors(tmp_path / state.STATE)
    assert facts["step"] == 4
    assert all(torch.isfinite(t).all() for t in tensors.values() if t.is_floating_point())


def test_infinite_weights_are_never_saved(toys: Path, tmp_path: Path) -> None:
    """Loss and gradient of the last step are finite, and it threw the weights to infinity."""
    run = fit.Run(tmp_path, Recipe.from_dict(SMALL), place=ALONE)
    plain = run._one_step

    def step(*arguments: object) -> float:
        loss = plain(*arguments)  # type: ignore[arg-type]
        if run.step == 6:
            with torch.no_grad():
                run.network.head.bias.fill_(float("inf"))
        return loss

    run._one_step = step  # type: ignore[method-assign]
    with pytest.raises(fit.TrainingStopped, match=r"head\.bias after batch 5"):
        run.fit(renderer(toys, tmp_path), no_judge)
    tensors, facts = checkpoint.load_tensors(tmp_path / state.STATE)
    assert facts["step"] == 4
    assert all(torch.isfinite(t).all() for t in tensors.values() if t.is_floating_point())


def test_nan_in_the_first_batch_leaves_the_state_it_began_with(toys: Path, tmp_path: Path) -> None:
    run = fit.Run(tmp_path, Recipe.from_dict(SMALL), place=ALONE)
    poison(run, at=0)
    with pytest.raises(fit.TrainingStopped, match="batch 0"):
        run.fit(renderer(toys, tmp_path), no_judge)
    tensors, facts = checkpoint.load_tensors(tmp_path / state.STATE)
    assert facts["step"] == 0
    assert all(torch.isfinite(t).all() for t in tensors.values() if t.is_floating_point())


@pytest.mark.slow
def test_what_a_kill_left_half_written_goes_and_the_curve_goes_on(
    toys: Path, tmp_path: Path
) -> None:
    train(tmp_path / "whole", toys)
    broken = tmp_path / "broken"
    broken.mkdir()
    run = fit.Run(broken, Recipe.from_dict(SMALL), place=ALONE)

    def stop(row: dict[str, float]) -> None:
        if row["step"] == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run.fit(renderer(toys, broken), no_judge, report=stop)
    (broken / ".state.safetensors.1.part").write_bytes(b"half")
    train(broken, toys)
    assert not list(broken.glob(".*"))
    rows = [
        [(row["step"], row["loss"]) for row in map(json.loads, lines)]
        for lines in (
            (folder / "history.jsonl").read_text().splitlines()
            for folder in (tmp_path / "whole", broken)
        )
    ]
    assert rows[0] == rows[1]


def test_tensorboards_curve_has_every_step_of_a_run_that_was_stopped(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for begun, steps in ((0, (50, 100, 150)), (100, (150, 200))):  # saved at 100, killed behind 150
        board = curves.Board(tmp_path, step=begun)
        for step in steps:
            board.add({"step": float(step), "miou": begun + step / 1000})
        board.close()
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    found = [(event.step, round(event.value, 3)) for event in events.Scalars("miou")]
    assert found == [(50, 0.05), (100, 0.1), (150, 100.15), (200, 100.2)]


@pytest.mark.slow
def test_batches_without_any_person_train(tmp_path: Path) -> None:
    """Cards only: everything is background, the loss stays finite and falls."""
    data = toy_pictures.write(tmp_path / "data", train=3)
    cards = {"cards": 1.0, "rooms": 0.0, "composites": 0.0, "unlabelled": 0.0}
    losses: list[float] = []
    recipe = Recipe.from_dict(SMALL | cards | {"steps": 12, "sizes": [[0, 32]], "scl": 0.1})
    run = fit.Run(tmp_path, recipe, place=ALONE)
    cards_alone = Renderer(open_store(find(data), tmp_path / "pictures", side=90), recipe)
    run.fit(cards_alone, no_judge, report=lambda row: losses.append(row["loss"]))
    assert np.isfinite(losses).all()
    assert losses[-1] < losses[0]


@pytest.mark.slow
def test_a_warm_restart_begins_with_the_averaged_weights(toys: Path, tmp_path: Path) -> None:
    old = train(tmp_path / "old", toys)
    assert (tmp_path / "old" / state.WARM).stat().st_size < 4_000_000
    new = fit.Run(tmp_path, Recipe.from_dict(SMALL), place=ALONE)
    new.start_from(tmp_path / "old" / state.WARM)
    for name, tensor in old.averaged.state_dict().items():
        if tensor.is_floating_point():
            torch.testing.assert_close(new.network.state_dict()[name], tensor, rtol=1e-3, atol=1e-4)
    _, facts = checkpoint.load_tensors(tmp_path / "old" / state.WARM)
    assert {"step", "recipe"} <= facts.keys() and "seed" in facts["recipe"]


def test_a_run_may_begin_with_the_mean_of_several(tmp_path: Path) -> None:
    recipe = Recipe.from_dict(SMALL)
    paths = [tmp_path / f"{seed}.safetensors" for seed in range(3)]
    networks = []
    for seed, path in enumerate(paths):
        torch.manual_seed(seed)
        networks.append(PortraitNet(recipe.shape))
        checkpoint.save_tensors(path, networks[-1].state_dict(), {"recipe": recipe.to_dict()})
    run = fit.Run(tmp_path / "run", recipe, place=ALONE)
    run.start_from(*paths)
    for name, tensor in run.averaged.state_dict().items():
        if tensor.is_floating_point():
            every = torch.stack([network.state_dict()[name] for network in networks])
            torch.testing.assert_close(tensor, every.mean(0), rtol=1e-5, atol=1e-7)
    other = tmp_path / "other.safetensors"
    facts = {"recipe": recipe.to_dict() | {"shape": "slim"}}
    checkpoint.save_tensors(other, PortraitNet("slim").state_dict(), facts)
    with pytest.raises(DatasetError, match="other.safetensors: wanted a network of shape"):
        run.start_from(paths[0], other)


@pytest.mark.slow
def test_a_share_of_what_it_began_from_is_kept_also_after_a_stop(
    toys: Path, tmp_path: Path
) -> None:
    begun = train(tmp_path / "begun", toys).folder / state.BEST
    start = checkpoint.load_network(begun)[0].state_dict()
    runs = {}
    for name, keep in (("all", 0.0), ("share", 0.25), ("stopped", 0.25)):
        folder = tmp_path / name
        folder.mkdir()
        run = fit.Run(folder, Recipe.from_dict(SMALL | {"seed": 7, "keep": keep}), place=ALONE)
        run.start_from(begun)
        if name == "stopped":
            run.save()  # and from here on without --from
            run = fit.Run(folder, run.recipe, place=ALONE)
            assert run.resume()
        run.fit(renderer(toys, folder), no_judge)
        runs[name] = checkpoint.load_network(folder / state.WARM)[0].state_dict()
    for name, tensor in runs["share"].items():
        assert torch.equal(tensor, runs["stopped"][name]), name
        if tensor.is_floating_point():
            mixed = 0.75 * runs["all"][name] + 0.25 * start[name]
            torch.testing.assert_close(tensor, mixed, rtol=2e-3, atol=2e-4)
    assert any(not torch.equal(t, runs["all"][n]) for n, t in runs["share"].items())


@pytest.mark.slow
def test_the_share_is_in_the_network_that_is_used_though_val_liked_it_less(
    toys: Path, tmp_path: Path
) -> None:
    begun = train(tmp_path / "begun", toys).folder / state.BEST
    scores = iter([0.5, 0.9, 0.8])  # what it began with, unmixed, mixed
    folder = tmp_path / "run"
    folder.mkdir()
    run = fit.Run(folder, Recipe.from_dict(SMALL | {"keep": 0.25}), place=ALONE)
    run.start_from(begun)
    run.fit(renderer(toys, folder), lambda network, side: {"miou": next(scores)})
    best, facts = checkpoint.load_network(folder / state.BEST)
    assert facts["step"] == 8 and run.best == 0.8
    for name, tensor in run.averaged.state_dict().items():
        assert torch.equal(best.state_dict()[name], tensor), name


@pytest.mark.slow
def test_a_mix_worse_than_what_it_began_with_leaves_that(toys: Path, tmp_path: Path) -> None:
    """Not what was judged best on the way, unmixed."""
    begun = train(tmp_path / "begun", toys).folder / state.BEST
    scores = iter([0.5, 0.9, 0.4])  # what it began with, unmixed, mixed
    folder = tmp_path / "run"
    folder.mkdir()
    sizes = [[0, 64]]
    run = fit.Run(folder, Recipe.from_dict(SMALL | {"keep": 0.25, "sizes": sizes}), place=ALONE)
    run.start_from(begun)
    run.fit(renderer(toys, folder), lambda network, side: {"miou": next(scores)})
    best, facts = checkpoint.load_network(folder / state.BEST)
    assert facts["step"] == 0 and run.best == facts["best"] == 0.5
    for name, tensor in checkpoint.load_network(begun)[0].state_dict().items():
        assert torch.equal(best.state_dict()[name], tensor), name


@pytest.mark.slow
def test_weights_of_another_network_are_refused(toys: Path, tmp_path: Path) -> None:
    train(tmp_path, toys)
    other = fit.Run(tmp_path, Recipe.from_dict(SMALL | {"shape": "wide"}), place=ALONE)
    with pytest.raises(DatasetError, match="those of another one"):
        other.resume()
    # Weights may grow into a larger network, but these go deeper than it.
    with pytest.raises(DatasetError, match="a network that fits into"):
        other.start_from(tmp_path / state.BEST)


@pytest.fixture(scope="module")
def stepped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The state of a run after one step."""
    folder = tmp_path_factory.mktemp("stepped")
    run = fit.Run(folder, Recipe.from_dict(SMALL), place=ALONE)
    generator = np.random.default_rng(0)
    pictures, target = (
        torch.from_numpy(generator.integers(0, 255, shape, dtype=np.uint8))
        for shape in ((4, 64, 64, 3), (4, 64, 64))
    )
    run._one_step(run.network, pictures, (target, torch.full_like(target, 255)))
    run.history.append({"step": 1, "miou": 0.5})
    run.save()
    return folder / state.STATE


def test_a_state_after_one_step_is_taken_up(stepped: Path) -> None:
    run = fit.Run(stepped.parent, Recipe.from_dict(SMALL), place=ALONE)
    assert run.resume()
    assert (run.step, run.history) == (1, [{"step": 1, "miou": 0.5}])
    moments = run.optimizer.state_dict()["state"]
    saved = checkpoint.load_tensors(stepped)[0]
    assert len(moments) == len(list(run.network.parameters()))
    assert all(torch.equal(moments[0][name], saved[f"optimizer.0.{name}"]) for name in moments[0])


DAMAGED_FACTS = {
    "best": [None, "high", float("nan"), True],
    "loss": [None, "low", float("inf")],
    "step": [None, -1, 1.5, "1", True],
    "history": [None, 3, "none", [1], [{}], [{"step": None}], [{"step": 1, "miou": "good"}]],
}


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, some in DAMAGED_FACTS.items() for value in some]
)
def test_a_state_whose_facts_are_damaged_is_refused(
    stepped: Path, tmp_path: Path, name: str, value: object
) -> None:
    tensors, facts = checkpoint.load_tensors(stepped)
    checkpoint.save_tensors(tmp_path / state.STATE, tensors, facts | {name: value})
    run = fit.Run(tmp_path, Recipe.from_dict(SMALL), place=ALONE)
    with pytest.raises(DatasetError, match=rf"state\.safetensors: wanted .*{name}"):
        run.resume()


@pytest.mark.parametrize("facts", [{}, [], {"step": 1, "history": []}, 7, None])
def test_a_state_without_its_facts_is_refused(stepped: Path, tmp_path: Path, facts: object) -> None:
    tensors = checkpoint.load_tensors(stepped)[0]
    checkpoint.save_tensors(tmp_path / state.STATE, tensors, facts)  # type: ignore[arg-type]
    with pytest.raises(DatasetError, match=r"state\.safetensors: wanted"):
        fit.Run(tmp_path, Recipe.from_dict(SMALL), place=ALONE).resume()


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("optimizer.x.exp_avg", (1,)),
        ("optimizer.9999.exp_avg", (1,)),
        ("optimizer.0.momentum", (1,)),
        ("optimizer.0.exp_avg", (3, 2)),
        ("optimizer.0.step", (2,)),
        ("optimizer.0.exp_avg_sq", None),
    ],
)
def test_a_state_whose_moments_are_damaged_is_refused(
    stepped: Path, tmp_path: Path, name: str, shape: tuple[int, ...] | None
) -> None:
    tensors, facts = checkpoint.load_tensors(stepped)
    tensors.pop(name, None)
    if shape is not None:
        tensors[name] = torch.zeros(shape)
    checkpoint.save_tensors(tmp_path / state.STATE, tensors, facts)
    run = fit.Run(tmp_path, Recipe.from_dict(SMALL), place=ALONE)
    with pytest.raises(DatasetError, match=rf"state\.safetensors: wanted .*moments.*{name} "):
        run.resume()


@pytest.mark.slow
def test_a_warm_restart_takes_up_the_schedule(toys: Path, tmp_path: Path) -> None:
    """Only the small state is left of a run: the commands go on at its step, to its end."""
    settings = tmp_path / "recipe.json"
    settings.write_text(json.dumps(SMALL | {"steps": 6}))
    old, new = tmp_path / "old", tmp_path / "new"
    assert main(["train", "--data", str(toys), "--recipe", str(settings), "-o", str(old)]) == 0
    line = ["train", "--data", str(toys), "--restart", str(old / state.WARM), "-o", str(new)]
    assert main([*line, "--steps", "9"]) == 0
    _, facts = checkpoint.load_tensors(new / state.STATE)
    assert facts["step"] == 9 and facts["recipe"]["decay_from"] == SMALL["decay_from"]
    assert [row["step"] for row in facts["history"]] == [4, 6, 8, 9]


@pytest.mark.slow
def test_fine_tuning_that_only_harms_leaves_what_it_began_with(toys: Path, tmp_path: Path) -> None:
    old = train(tmp_path / "old", toys)
    new = fit.Run(tmp_path, Recipe.from_dict(SMALL | {"sizes": [[0, 64]]}), place=ALONE)
    new.start_from(tmp_path / "old" / state.STATE)
    figures = iter([0.9, 0.8, 0.7])
    new.fit(renderer(toys, tmp_path), lambda network, side: {"miou": next(figures)})
    assert new.best == 0.9
    kept, _ = checkpoint.load_network(tmp_path / state.BEST)
    for name, tensor in old.averaged.state_dict().items():
        assert torch.equal(kept.state_dict()[name], tensor), name


@pytest.mark.slow
def test_a_restart_with_nothing_left_to_do_is_refused(
    toys: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(tmp_path / "old", toys)
    warm = tmp_path / "old" / state.WARM
    line = ["train", "--data", str(toys), "--restart", str(warm), "-o", str(tmp_path / "new")]
    assert main(line) == 2
    assert "steps left to do" in capsys.readouterr().err


def test_a_variance_beyond_half_precision_survives_the_small_state(tmp_path: Path) -> None:
    run = fit.Run(tmp_path, Recipe.from_dict(SMALL), place=ALONE)
    run.averaged.stem[0][1].running_var.fill_(1e6)
    checkpoint.save_warm(tmp_path / state.WARM, run.averaged, run.facts())
    network, _ = checkpoint.load_network(tmp_path / state.WARM)
    assert float(network.stem[0][1].running_var.max()) == 1e6
    assert checkpoint.load_tensors(tmp_path / state.WARM)[0]["head.weight"].dtype == torch.float16


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"\xff" * 64])
def test_what_is_no_checkpoint_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    with pytest.raises(DatasetError, match=r"x\.safetensors"):
        checkpoint.load_tensors(path)


def test_a_full_disk_leaves_the_checkpoint_before_it_whole(tmp_path: Path) -> None:
    path = tmp_path / "state.safetensors"
    checkpoint.save_tensors(path, {"a": torch.arange(4.0)}, {"step": 1})
    script = (
        "import resource, signal, sys, torch\n"
        "from pathlib import Path\n"
        "from edge_seg.errors import OutputError\n"
        "from edge_seg.training import checkpoint\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "try:\n"
        "    checkpoint.save_tensors(Path(sys.argv[1]), {'a': torch.zeros(100000)}, {'step': 2})\n"
        "except OutputError as error:\n"
        "    print('refused', error)\n"
    )
    assert hasattr(resource, "RLIMIT_FSIZE")
    done = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True)
    assert "refused" in done.stdout and str(path) in done.stdout, done.stderr
    tensors, facts = checkpoint.load_tensors(path)
    assert facts == {"step": 1} and tensors["a"].tolist() == [0, 1, 2, 3]
    assert [p.name for p in tmp_path.iterdir()] == ["state.safetensors"]


# -- the recipe, the folder, the commands ----------------------------------------------------------


@pytest.mark.parametrize(
    "wrong",
    [
        {"colour": 1},
        {"steps": "many"},
        {"bf16": 1},
        {"sizes": [[4, 128]]},
        {"sizes": [[0, 100]]},
        {"sizes": 224},
        {"sizes": [[0, 64], [5, 32], [2, 64]]},
        {"sizes": [[0, 64], [9, 32]], "steps": 9},
        {"steps": 0},
        {"batch": 0},
        {"save_every": 0},
        {"judge_every": 0},
        {"seed": -1},
        {"lr": float("nan")},
        {"ema": 1.0},
        {"rooms": 0.6, "composites": 0.6},
    ],
)
def test_settings_it_does_not_understand_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(DatasetError, match=str(next(iter(wrong)))):
        Recipe.from_dict(wrong)


def test_a_shorter_run_keeps_the_form_of_its_schedule() -> None:
    """Cut short instead, it would end before its last size and never be judged at it."""
    short = Recipe().scaled(1000)
    assert Recipe.from_dict(short.to_dict()) == short
    assert short.size_at(999) == Recipe().final_size and short.size_at(0) == Recipe().size_at(0)
    assert short.warmup < short.decay_from < 1000
    assert fit.learning_rate(short, 999) < 0.01 * short.lr
    assert Recipe().scaled(2).final_size == Recipe().final_size
    assert Recipe().scaled(Recipe().steps) == Recipe()


def test_settings_survive_being_written() -> None:
    recipe = Recipe(sizes=((0, 64), (10, 96)), seed=3)
    assert Recipe.from_dict(json.loads(json.dumps(recipe.to_dict()))) == recipe


def test_the_learning_rate_rises_holds_and_falls() -> None:
    recipe = Recipe(lr=1.0, warmup=10, decay_from=50, steps=100)
    rates = [fit.learning_rate(recipe, step) for step in range(100)]
    assert rates[0] == pytest.approx(0.1) and rates[9:51] == pytest.approx([1.0] * 42)
    assert all(a > b for a, b in zip(rates[50:], rates[51:], strict=False)) and rates[-1] < 0.01


def test_hard_negatives_and_every_tenth_cutout_stay_out(toys: Path, tmp_path: Path) -> None:
    data = toy_pictures.write(tmp_path / "data", rooms=5)
    (data / "backgrounds/hard_negatives.txt").write_text("1.png\n3.png\n")
    (data / "cutouts").mkdir()
    for index in range(25):
        (data / f"cutouts/{index:02d}.png").touch()
    files = find(data)
    assert [path.name for path in files.rooms] == ["0.png", "2.png", "4.png"]
    assert [path.name for path in files.hard_rooms] == ["1.png", "3.png"]
    assert len(files.cutouts) == 23
    assert not {"09.png", "19.png"} & {path.name for path in files.cutouts}
    (data / "backgrounds/hard_negatives.txt").write_text("1.png\ngone.png\n")
    with pytest.raises(DatasetError, match=r"hard_negatives\.txt line 2.*gone\.png"):
        find(data)


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b"1.png\n\xff\xfe\n", "text"),
        (b"1.png\n/etc/hostname\n", r"line 2.*under .*backgrounds.*/etc/hostname"),
        (b"../train/0.png\n", r"line 1.*under .*backgrounds"),
        (b"notes.txt\n", r"line 1.*notes\.txt"),
        (b"1.png\n" + 300 * b"x" + b"\n", "line 2"),
        (b"a\0b.png\n", "line 1"),
    ],
)
def test_a_list_of_hard_negatives_names_pictures_of_its_folder(
    tmp_path: Path, content: bytes, word: str
) -> None:
    data = toy_pictures.write(tmp_path / "data", train=2, val=1)
    (data / "backgrounds/notes.txt").touch()
    (data / "backgrounds/hard_negatives.txt").write_bytes(content)
    with pytest.raises(DatasetError, match=rf"hard_negatives\.txt.*({word})"):
        find(data)


def test_hard_negatives_are_found_by_any_way_and_through_links(tmp_path: Path) -> None:
    data = toy_pictures.write(tmp_path / "data", train=2, val=1, rooms=4)
    rooms = data / "backgrounds"
    (rooms / "1.png").rename(tmp_path / "elsewhere.png")
    (rooms / "1.png").symlink_to(tmp_path / "elsewhere.png")
    named = ["1.png", "../backgrounds/2.png", str(rooms.resolve() / "3.png"), "./1.png"]
    (rooms / "hard_negatives.txt").write_text("\n".join(named))
    (tmp_path / "link").symlink_to(data)
    files = find(tmp_path / "link")
    assert [path.name for path in files.rooms] == ["0.png"]
    assert [path.name for path in files.hard_rooms] == ["1.png", "2.png", "3.png"]


def test_a_picture_in_both_lists_is_refused(toys: Path, tmp_path: Path) -> None:
    data = toy_pictures.write(tmp_path / "data")
    (data / "val.txt").write_text((data / "train.txt").read_text())
    with pytest.raises(DatasetError, match="both"):
        find(data)


def test_a_run_says_what_it_found_and_goes_on_with_the_same_pictures_to_judge_on(
    toys: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = toy_pictures.write(tmp_path / "data", train=2, val=2)
    (tmp_path / "recipe.json").write_text(
        json.dumps(SMALL | {"steps": 1, "sizes": [[0, 32]]}), encoding="utf-8-sig"
    )
    line = ["train", "--data", str(data), "-o", str(tmp_path / "run")]
    assert main([*line, "--recipe", str(tmp_path / "recipe.json")]) == 0
    said = capsys.readouterr().out
    assert "training on 2 labelled pictures, 3 empty rooms, 0 cutouts; judging on 2 labe" in said
    assert main(line) == 0
    assert "all 1 steps were done before" in capsys.readouterr().out
    first = (data / "val.txt").read_text().splitlines()[0]
    (data / "val.txt").write_text(first)
    kept = (tmp_path / "run/val.txt").read_text()
    assert main(line) == 2
    assert "found 0 others and 1 missing, first: 1001_label.png" in capsys.readouterr().err
    assert (tmp_path / "run/val.txt").read_text() == kept


def test_what_is_wrong_with_the_words_is_said_before_torch_is_loaded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a small computer that takes half a minute."""
    monkeypatch.delitem(sys.modules, "edge_seg.training.fit")  # which imports it
    monkeypatch.setitem(sys.modules, "torch", None)
    assert main(["train", "--data", str(tmp_path / "gone"), "-o", str(tmp_path / "run")]) == 2
    assert "wanted a data folder, found none; check --data" in capsys.readouterr().err
    assert main(["train", "--data", str(tmp_path), "--steps", "0", "-o", str(tmp_path / "r")]) == 2
    assert "wanted setting steps from 1" in capsys.readouterr().err


def pp_humanseg14k(folder: Path) -> Path:
    """The data set's own folder, small: images/ and annotations/ per split, palette labels whose
    index 1 is VOC's dark red, lists of both paths, test.txt of pictures alone; returns it.
    """
    from PIL import Image

    frames = {"train": ("room_a", "room_b"), "val": ("room_c",), "test": ("room_d",)}
    for split, videos in frames.items():
        (folder / "images" / split).mkdir(parents=True)
        (folder / "annotations" / split).mkdir(parents=True)
        lines = []
        for video, number in ((v, n) for v in videos for n in (1, 2)):
            picture, label = toy_pictures.picture(len(lines) + 10 * len(split))
            image = f"images/{split}/{video}{number:04d}.jpg"
            toy_pictures.cv2.imwrite(str(folder / image), picture)
            name = f"annotations/{split}/{video}{number:04d}.png"
            if split != "test":
                mask = Image.fromarray(label).convert("P")
                mask.putpalette([0, 0, 0, 128, 0, 0] + [0, 0, 0] * 254)
                mask.putdata(label.ravel().tolist())
                mask.save(folder / name)
            lines.append(image if split == "test" else f"{image} {name}")
        (folder / f"{split}.txt").write_text("\n".join(lines) + "\n")
    return folder


def test_pp_humanseg14k_is_trained_on_by_pointing_at_its_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, settings = pp_humanseg14k(tmp_path / "portrait14k"), tmp_path / "recipe.json"
    settings.write_text(json.dumps(SMALL | {"steps": 1, "sizes": [[0, 32]]}))
    line = ["train", "--data", str(data), "--scenes", "pp-humanseg14k", "--recipe", str(settings)]
    assert main([*line, "-o", str(tmp_path / "run")]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "training on 4 labelled pictures, 0 empty rooms" in said and "judging on 2 labe" in said
    store = PictureStore(tmp_path / "run/pictures")
    targets = [store[i][1][..., 0] for i in range(len(store))]
    assert all(0.05 < (target > 127).mean() < 0.6 for target in targets), "the palette is read"
    # Frames of one video in both lists: the figures would flatter.
    lists = [(data / name).read_text() for name in ("train.txt", "val.txt")]
    (data / "val.txt").write_text(lists[1] + lists[0].splitlines()[0] + "\n")
    (data / "train.txt").write_text("\n".join(lists[0].splitlines()[1:]) + "\n")
    assert main([*line, "-o", str(tmp_path / "other")]) == 2
    assert "found 1 scenes in both, first: room_a" in capsys.readouterr().err


def test_a_scene_or_a_copy_in_both_lists_is_refused(tmp_path: Path) -> None:
    data = toy_pictures.write(tmp_path / "data")
    with pytest.raises(DatasetError, match=r"found 4 scenes in both, first: 0"):
        find(data, scene=lambda image: image.stem.removeprefix("100"))
    (data / "val/1001.png").write_bytes((data / "train/1.png").read_bytes())
    with pytest.raises(DatasetError, match=r"1 copies, first: .*1001\.png = .*train/1\.png"):
        find(data)


def test_what_is_judged_on_is_not_trained_on_without_a_label_either(tmp_path: Path) -> None:
    import cv2

    data, teacher = toy_pictures.write(tmp_path / "data", rooms=4), tmp_path / "teacher"
    teacher.mkdir()
    (data / "backgrounds/hard_negatives.txt").write_text("0.png")
    (data / "backgrounds/again.png").write_bytes((data / "backgrounds/0.png").read_bytes())
    (data / "unlabeled").mkdir()
    for name, source in {"a": "val/1001", "b": "val/1002", "c_1": "backgrounds/1"}.items():
        picture, label = toy_pictures.picture(ord(name[0]))
        (data / f"unlabeled/{name}.png").write_bytes((data / f"{source}.png").read_bytes())
        cv2.imwrite(str(teacher / f"{name}.png"), 255 * label)
    cv2.imwrite(str(data / "unlabeled/x_1000.png"), picture)
    with (data / "val.txt").open("a") as listing:
        listing.write("unlabeled/x_1000.png val/1000_label.png\n")

    def unlabelled(**options: object) -> set[str]:
        found = {path.name for path in find(data, teacher=teacher, **options).unlabelled}
        taught = {path.name for path in to_teach(data, **options) if path.parent.name != "train"}
        assert found == taught, "teach makes masks of what train uses"
        return found

    assert [path.name for path in find(data).rooms] == ["1.png", "2.png", "3.png"]
    assert unlabelled() == {"c_1.png"}
    cv2.imwrite(str(data / "unlabeled/x_2000.png"), toy_pictures.picture(7)[0])
    assert unlabelled() == {"c_1.png", "x_2000.png"}
    assert unlabelled(scene=scene_rule(r"^([a-z]+|[0-9]+)")) == {"c_1.png"}


def test_a_name_that_no_list_can_hold_is_refused(tmp_path: Path) -> None:
    data = toy_pictures.write(tmp_path / "data")
    for folder, suffix in (("images", ""), ("masks", "_label")):
        (data / folder).mkdir()
        name = os.fsencode(data / folder) + b"/caf\xe9.png"  # Latin-1, from an old archive
        os.rename(data / f"train/0{suffix}.png", name)
    (data / "train.txt").unlink()
    for _ in range(2):  # with a list to judge on, then with scenes to be held back
        with pytest.raises(DatasetError, match="wanted a name in UTF-8"):
            find(data)
        (data / "val.txt").unlink(missing_ok=True)


def test_without_val_scenes_are_held_back(tmp_path: Path) -> None:
    data = toy_pictures.write(tmp_path / "data", train=20)
    (data / "val.txt").unlink()
    files = find(data)
    assert len(files.val) == 2 and len(files.train) == 18
    assert not {p.image for p in files.val} & {p.image for p in files.train}


def test_a_store_is_rendered_once_and_again_when_a_picture_changes(tmp_path: Path) -> None:
    data = toy_pictures.write(tmp_path / "data")
    rendered: list[int] = []

    def open_it() -> None:
        rendered.clear()
        open_store(find(data), tmp_path / "store", side=90, progress=rendered.append)

    open_it()
    assert len(rendered) == 11
    open_it()
    assert not rendered
    path = data / "train/0.png"
    path.write_bytes(path.read_bytes() + b" ")
    open_it()
    assert len(rendered) == 11


def test_a_teacher_labels_the_unlabelled_and_hides_forgotten_people(tmp_path: Path) -> None:
    import cv2

    data = toy_pictures.write(tmp_path / "data", train=1)
    teacher = tmp_path / "teacher"
    teacher.mkdir()
    label = cv2.imread(str(data / "train/0_label.png"), -1)
    seen = label * 255
    seen[:6, :6] = 255  # a bystander the label forgot
    cv2.imwrite(str(teacher / "0.png"), seen)
    (data / "unlabeled").mkdir()
    cv2.imwrite(str(data / "unlabeled/u.png"), toy_pictures.picture(5)[0])
    cv2.imwrite(str(teacher / "u.png"), toy_pictures.picture(5)[1] * 255)
    store = open_store(find(data, teacher=teacher), tmp_path / "store", side=90)
    _, planes = store[int(store.groups["labelled"][0])]
    assert not planes[:5, :5, 1].any(), "the bystander must not count"
    assert planes[label == 1][:, 0].min() > 190 and planes[label == 1][:, 1].min() == 255
    _, planes = store[int(store.groups["unlabelled"][0])]
    np.testing.assert_array_equal(planes[:, :, 0] > 127, toy_pictures.picture(5)[1] == 1)


def test_two_pictures_cannot_share_a_teachers_mask(tmp_path: Path) -> None:
    data = toy_pictures.write(tmp_path / "data", train=2)
    (tmp_path / "teacher").mkdir()
    (data / "unlabeled").mkdir()
    for path in (tmp_path / "teacher/0.png", data / "unlabeled/0.png"):
        path.write_bytes((data / "train/0.png").read_bytes())
    with pytest.raises(DatasetError, match=r"one picture per name"):
        find(data, teacher=tmp_path / "teacher")
    assert find(data).unlabelled == []


def test_masks_of_other_pictures_are_no_teacher(tmp_path: Path) -> None:
    data = toy_pictures.write(tmp_path / "data", train=2)
    (tmp_path / "teacher").mkdir()
    (tmp_path / "teacher/elsewhere.png").touch()
    with pytest.raises(DatasetError, match=r"\(0\.png\), found 1 .* such as elsewhere\.png"):
        find(data, teacher=tmp_path / "teacher")


@pytest.mark.parametrize(
    "kind",
    [
        "nothing",
        "empty list",
        "size",
        "values",
        "no labels",
        "one label missing",
        "nobody in train",
        "nobody in val",
    ],
)
def test_bad_data_ends_with_a_sentence_and_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    import cv2

    data = tmp_path / "data"
    if kind != "nothing":
        toy_pictures.write(data)
    if kind == "empty list":
        (data / "train.txt").write_text("")
    if kind == "size":
        cv2.imwrite(str(data / "train/0_label.png"), np.zeros((7, 9), np.uint8))
    if kind == "values":
        cv2.imwrite(str(data / "train/0_label.png"), np.full(toy_pictures.SIZE, 3, np.uint8))
    if kind == "no labels":
        (data / "train.txt").write_text("train/0.png\n")
    if kind == "one label missing":
        with (data / "train.txt").open("a") as listing:
            listing.write("backgrounds/0.png\n")
    if kind.startswith("nobody"):
        for path in (data / kind.split()[-1]).glob("*_label.png"):
            cv2.imwrite(str(path), np.zeros(toy_pictures.SIZE, np.uint8))
    assert main(["train", "--data", str(data), "-o", str(tmp_path / "run")]) == 2
    assert "wanted" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "word"),
    [
        (["--shape", "huge"], "lite, base, fine, slim, wide"),
        (["--lr", "nan"], "setting lr"),
        (["--batch", "0"], "setting batch"),
        (["--batch", "1", "--side", "32"], "more than one sample"),
        (["--steps", "0"], "setting steps"),
        (["--seed", "-1"], "setting seed"),
        (["--workers", "-1"], "--workers"),
        (["--teacher", "nowhere"], "teacher"),
        (["--from", "nowhere"], "wanted a checkpoint"),
        (["--from", "portrait-lite"], "--from portrait, and --side"),
        (["--from", "default", "--shape", "base"], "of which base is a part, found fine; choose"),
    ],
)
def test_a_mistyped_flag_is_refused_and_settles_nothing(
    toys: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: list[str], word: str
) -> None:
    """Settings of a run that never began must not stand in the way of the corrected command."""
    assert main(["train", "--data", str(toys), "-o", str(tmp_path / "run"), *flags]) == 2
    assert word in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_run_folder_that_is_a_file_and_a_run_not_judged_are_refused(
    toys: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    line = ["train", "--data", str(toys), "--shape", "lite", "-o", str(tmp_path / "file")]
    assert main(line) == 2
    assert "found a file" in capsys.readouterr().err
    assert main(["export", str(tmp_path), "-o", str(tmp_path / "x.onnx")]) == 2
    assert "has been judged" in capsys.readouterr().err


@pytest.mark.parametrize(
    "name",
    [
        "default",
        "portrait",
        *(f"training/{name}.safetensors" for name in ("base", "tuned", "slim", "mixed")),
    ],
)
def test_training_can_begin_from_the_weights_that_are_kept(name: str) -> None:
    from edge_seg.cli.settings import checkpoint_of

    network, facts = checkpoint.load_network(checkpoint_of(name))
    assert facts["network"] == "PortraitNet" and facts["step"] >= 700
    assert network.shape == SHAPES[facts["recipe"]["shape"]]


@pytest.mark.slow
def test_a_larger_shape_grows_from_a_smaller_run(
    toys: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """--from RUN --shape LARGER begins with what the smaller network can do, and goes on alone."""
    small = fit.Run(tmp_path / "small", Recipe.from_dict(SMALL | {"shape": "base"}), place=ALONE)
    (tmp_path / "small").mkdir()
    checkpoint.save_tensors(small.folder / state.BEST, small.averaged.state_dict(), small.facts())
    before = Judge(find(toys).val, [])(small.averaged.eval(), 64)
    line = ["train", "--data", str(toys), "-o", str(tmp_path / "large")]
    more = ["--from", str(small.folder), "--shape", "fine", "--steps", "2", "--batch", "2"]
    assert main([*line, *more]) == 0
    rows = (tmp_path / "large/history.jsonl").read_text().splitlines()
    assert json.loads(rows[0])["miou"] == pytest.approx(before["miou"], abs=0.02)
    assert main(line) == 0  # no word of the smaller one is needed to go on
    network, facts = checkpoint.load_network(tmp_path / "large" / state.WARM)
    assert network.shape.fine and facts["recipe"]["shape"] == "fine"
    capsys.readouterr()
    assert main([*line[:-1], str(tmp_path / "no"), *more[:2], "--shape", "lite"]) == 2
    assert "is a part" in capsys.readouterr().err


@pytest.mark.slow
def test_a_narrower_shape_begins_with_a_part_of_a_wider_run(toys: Path, tmp_path: Path) -> None:
    """--from default --shape slim: `slim` is `fine` with fewer channels."""
    line = ["train", "--data", str(toys), "-o", str(tmp_path / "narrow")]
    more = ["--from", "default", "--shape", "slim", "--steps", "1", "--batch", "2"]
    assert main([*line, *more, "--lr", "1e-9", "--side", "64"]) == 0
    narrow, facts = checkpoint.load_network(tmp_path / "narrow" / state.WARM)
    from edge_seg.cli.settings import checkpoint_of

    wide, _ = checkpoint.load_network(checkpoint_of("default"))
    assert facts["recipe"]["shape"] == "slim"
    known = wide.state_dict()["stem.1.0.weight"]
    for row in narrow.state_dict()["stem.1.0.weight"]:  # it reads all of the stem's channels
        assert any(torch.allclose(row, one, atol=1e-3) for one in known)


@pytest.mark.slow
def test_train_fine_tune_and_export_through_the_commands(
    toys: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    onnx = pytest.importorskip("onnx")
    settings = tmp_path / "recipe.json"
    settings.write_text(json.dumps(SMALL))
    run = tmp_path / "run"
    assert main(["train", "--data", str(toys), "--recipe", str(settings), "-o", str(run)]) == 0
    assert "mIoU" in capsys.readouterr().out
    # The same command with other settings would spoil the run: refused.
    assert main(["train", "--data", str(toys), "--steps", "9", "-o", str(run)]) == 2
    tuned = tmp_path / "tuned"
    line = ["train", "--data", str(toys), "--from", str(run), "-o", str(tuned)]
    assert main([*line, "--steps", "3", "--batch", "2"]) == 0
    assert "begun with" in capsys.readouterr().out
    rows = [json.loads(line) for line in (tuned / "history.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [0, 3]
    assert rows[0]["miou"] == pytest.approx(checkpoint.load_tensors(run / state.BEST)[1]["miou"])
    # What --from implies is no setting of the user's: the command goes on without the flags.
    assert main(line) == 0
    assert [len(read_list(tuned / name)) for name in ("train.txt", "val.txt")] == [8, 4]
    model = tmp_path / "net.onnx"
    assert main(["export", str(tuned), "-o", str(model)]) == 0
    graph = onnx.load(str(model))
    assert graph.opset_import[0].version == 17
    assert [d.dim_value for d in graph.graph.input[0].type.tensor_type.shape.dim] == [1, 3, 64, 64]
    assert [d.dim_value for d in graph.graph.output[0].type.tensor_type.shape.dim] == [1, 1, 16, 16]


@pytest.mark.parametrize(("shape", "side"), [("lite", None), ("fine", None), ("lite", 96)])
def test_an_exported_network_answers_as_it_did(
    tmp_path: Path, shape: str, side: int | None
) -> None:
    runtime = pytest.importorskip("onnxruntime")
    from edge_seg.spec import load_spec
    from edge_seg.training.export import export

    run = fit.Run(tmp_path, Recipe.from_dict(SMALL | {"shape": shape}), place=ALONE)
    checkpoint.save_tensors(tmp_path / state.BEST, run.averaged.state_dict(), run.facts())
    contract = export(tmp_path / state.BEST, tmp_path / "net.onnx", side=side)
    spec, answer = load_spec(contract)
    wanted = side or 64
    assert (spec.height, spec.width, spec.fit, spec.color) == (wanted, wanted, "stretch", "rgb")
    assert (answer.activation, answer.channel) == ("logit", 0)
    x = torch.rand(1, 3, wanted, wanted) * 2 - 1
    session = runtime.InferenceSession(
        str(tmp_path / "net.onnx"), providers=["CPUExecutionProvider"]
    )
    (found,) = session.run(None, {"picture": x.numpy()})
    with torch.no_grad():
        np.testing.assert_allclose(found, run.averaged(x).numpy(), atol=1e-4)


@pytest.mark.parametrize("side", [0, 100, -32, 1 << 20])
def test_an_input_side_the_network_cannot_have_is_refused(
    tmp_path: Path, side: int, capsys: pytest.CaptureFixture[str]
) -> None:
    run = fit.Run(tmp_path, Recipe.from_dict(SMALL), place=ALONE)
    checkpoint.save_tensors(tmp_path / state.BEST, run.averaged.state_dict(), run.facts())
    words = ["export", str(tmp_path), "-o", str(tmp_path / "net.onnx"), "--side", str(side)]
    assert main(words) == 2
    assert "multiple of 32" in capsys.readouterr().err
    assert not (tmp_path / "net.onnx").exists()


def test_an_export_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    from edge_seg.training.export import to_onnx

    with pytest.raises(OutputError, match="gone"):
        to_onnx(PortraitNet("lite"), tmp_path / "gone" / "net.onnx", side=64)


def test_every_named_shape_is_a_shape() -> None:
    assert all(isinstance(shape, Shape) for shape in SHAPES.values())

"""The training loop: resumable, seeded, averaged, judged on val as it goes.

A run is a folder: `state.safetensors` (to go on), `checkpoint.safetensors` (averaged weights of
the best judgement), `warm.safetensors` (small state for a warm restart), `history.jsonl`,
`curves.png`, TensorBoard files. One process, or several (processes.py); batches.py has what each
of them sees.
"""

from __future__ import annotations

import contextlib
import copy
import json
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from edge_seg import machine
from edge_seg.errors import DatasetError, EdgeSegError
from edge_seg.files import write_whole
from edge_seg.training import checkpoint, curves, pphumanseg
from edge_seg.training.augment import Renderer
from edge_seg.training.batches import batches, sample_numbers
from edge_seg.training.growth import grown
from edge_seg.training.loss import sample_losses, to_grid
from edge_seg.training.network import PortraitNet, to_input
from edge_seg.training.processes import Place, join
from edge_seg.training.pruning import pruned
from edge_seg.training.recipe import Recipe
from edge_seg.training.shapes import network_of

Row = dict[str, float]
Judge = Callable[[nn.Module, int], Row]
STATE = "state.safetensors"
BEST = "checkpoint.safetensors"
WARM = "warm.safetensors"
CLIP = 5.0  # of the gradient's norm
MOMENTS = ("step", "exp_avg", "exp_avg_sq")  # what AdamW keeps of a parameter
SAVE_AFTER = 600.0  # seconds since the last save, where steps are slow
TRACE = 50  # steps between two points of TensorBoard's curves


class TrainingStopped(EdgeSegError, RuntimeError):
    """The loss became NaN or infinite; the last good state is kept."""


def checkpoint_of(source: Path) -> Path:
    """Return the best checkpoint of a run's folder; a checkpoint file is itself.

    Raises DatasetError where the run has not been judged yet.
    """
    if not source.is_dir():
        return source
    best = source / BEST
    if not best.is_file():
        raise DatasetError(
            f"{source}: wanted a run that has been judged, found no {BEST}; let "
            "edge-seg train reach its first judgement, or name a checkpoint file"
        )
    return best


def _computes_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    return machine.computes_bfloat16()


def learning_rate(recipe: Recipe, step: int) -> float:
    """Linear warm-up, a plateau, half a cosine down to zero."""
    if step < recipe.warmup:
        return recipe.lr * (step + 1) / recipe.warmup
    if step < recipe.decay_from:
        return recipe.lr
    done = (step - recipe.decay_from) / max(1, recipe.steps - recipe.decay_from)
    return recipe.lr * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))


@contextlib.contextmanager
def _stated(path: Path, what: str) -> Iterator[None]:
    """Name the file where its facts do not hold what is looked for in them."""
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
        raise DatasetError(
            f"{path}: wanted {what} of a run, found none; name a state that edge-seg train wrote"
        ) from None


def _finite(value: object) -> float:
    """A number of a state's facts. Raises ValueError."""
    if type(value) not in (int, float) or not math.isfinite(value):  # type: ignore[arg-type]
        raise ValueError
    return float(value)  # type: ignore[arg-type]


class Run:
    """One training run in its folder."""

    def __init__(self, folder: Path, recipe: Recipe, *, place: Place | None = None) -> None:
        self.folder = folder
        self.recipe = recipe
        self.place = place or join()
        if recipe.batch % self.place.world:
            raise DatasetError(
                f"wanted a batch that {self.place.world} processes can share, found "
                f"{recipe.batch}; choose a multiple"
            )
        smallest = min(side for _, side in recipe.sizes)
        if recipe.batch // self.place.world * (smallest // 32) ** 2 < 2:
            raise DatasetError(
                f"wanted more than one sample per process at {smallest} pixels (batch norm needs "
                f"them), found a batch of {recipe.batch}; choose a larger one"
            )
        torch.manual_seed(recipe.seed)
        network = network_of(recipe.shape).to(self.place.device)
        self.network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.averaged = copy.deepcopy(self.network).eval().requires_grad_(False)
        decayed = [p for p in self.network.parameters() if p.ndim > 1]
        plain = [p for p in self.network.parameters() if p.ndim <= 1]
        self.optimizer = torch.optim.AdamW(
            [
                {"params": decayed, "weight_decay": recipe.weight_decay},
                {"params": plain, "weight_decay": 0.0},
            ],
            lr=recipe.lr,
        )
        self.bf16 = recipe.bf16 and _computes_bfloat16(self.place.device)
        self.step = 0
        self.saved = -1  # the step whose state is in the folder
        self._saved_at = time.monotonic()
        self.best = -1.0
        self.loss = 0.0  # smoothed over steps
        self.tuning = False  # whether it begins with weights that are good already
        self._start: checkpoint.Tensors = {}  # those weights, where the recipe keeps a share
        self._folded = False  # whether their batch norms must be given back first
        self.history: list[Row] = []

    # -- state ------------------------------------------------------------------------------

    def facts(self) -> dict[str, Any]:
        """What a checkpoint says of itself."""
        return {
            "network": type(self.network).__name__,
            "recipe": self.recipe.to_dict(),
            "step": self.step,
            "best": self.best,
            "loss": self.loss,
            "history": self.history,
        }

    def save(self) -> None:
        """Write the state; the one before stays whole until the new one is."""
        if self.place.leads:
            self._write_state()
        self.saved, self._saved_at = self.step, time.monotonic()

    def _write_state(self) -> None:
        tensors = {f"network.{n}": t for n, t in self.network.state_dict().items()}
        tensors |= {f"averaged.{n}": t for n, t in self.averaged.state_dict().items()}
        tensors |= {f"start.{n}": t for n, t in self._start.items()}
        for index, state in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{name}": t for name, t in state.items()}
        checkpoint.save_tensors(self.folder / STATE, tensors, self.facts())
        checkpoint.save_warm(self.folder / WARM, self.averaged, self.facts())

    def resume(self) -> bool:
        """Go on from the folder's state, if there is one. Raises DatasetError: a damaged one."""
        path = self.folder / STATE
        if not path.is_file():
            return False
        tensors, facts = checkpoint.load_tensors(path)
        checkpoint.fill(self.network, checkpoint.part(tensors, "network."), str(path))
        checkpoint.fill(self.averaged, checkpoint.part(tensors, "averaged."), str(path))
        self._start = checkpoint.part(tensors, "start.")
        if self._start:
            checkpoint.fill(copy.deepcopy(self.averaged), self._start, str(path))
        moments = self._moments(path, checkpoint.part(tensors, "optimizer."))
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": moments, "param_groups": groups})
        self._take_up(path, facts)
        with _stated(path, "the best judgement and the loss"):
            self.best, self.loss = _finite(facts["best"]), _finite(facts.get("loss", 0.0))
        self.saved = self.step
        return True

    def _moments(self, path: Path, found: dict[str, Tensor]) -> dict[int, dict[str, Tensor]]:
        """The optimizer's moments by parameter, of all of them or, before the first step, none."""
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        wanted = {
            f"{index}.{name}": tuple(parameter.shape) if name != "step" else ()
            for index, parameter in enumerate(parameters)
            for name in MOMENTS
        }
        shapes = {name: tuple(tensor.shape) for name, tensor in found.items()}
        wrong = sorted(n for n in wanted | shapes if wanted.get(n) != shapes.get(n))
        if found and wrong:
            raise DatasetError(
                f"{path}: wanted the optimizer's moments of this network, found optimizer."
                f"{wrong[0]} {shapes.get(wrong[0], 'missing')} ({len(wrong)} tensors differ); "
                f"go on from {WARM} (--restart), or begin again"
            )
        numbers = range(len(parameters)) if found else range(0)
        return {n: {name: found[f"{n}.{name}"] for name in MOMENTS} for n in numbers}

    def start_from(self, *paths: Path) -> None:
        """Warm start: take the weights of a checkpoint (the mean of several), grown where the
        recipe's shape is larger, pruned where it is narrower.

        Raises DatasetError where the checkpoint's network does not fit into this one.
        """
        path = paths[0]
        begun, facts = checkpoint.mean_of(paths)
        if facts["recipe"]["shape"] == self.recipe.shape:
            tensors = begun.state_dict()
        elif isinstance(begun, PortraitNet) and isinstance(self.network, PortraitNet):
            inherited = pruned if self.network.shape.widths < begun.shape.widths else grown
            tensors = inherited(begun, self.network, where=str(path))
        else:
            raise DatasetError(
                f"{path}: wanted weights of {self.recipe.shape}, found those of "
                f"{facts['recipe']['shape']}, a network of another kind; choose its --shape, or "
                "begin without --from"
            )
        self._folded = facts.get("folded", False)
        self._take(tensors, str(path))
        self.tuning = True

    def _take(self, tensors: checkpoint.Tensors, where: str) -> None:
        """Begin with these weights. Raises DatasetError, naming `where`, for another network's."""
        checkpoint.fill(self.network, tensors, where)
        checkpoint.fill(self.averaged, tensors, where)
        if self.recipe.keep:
            self._start = {n: t.clone() for n, t in self.averaged.state_dict().items()}

    def restart(self, path: Path) -> None:
        """Warm restart: go on at the step of a small state, with fresh optimizer moments.

        Not bit-equal to the run it came from; sample numbers and schedule go on where it stopped.
        """
        _, facts = checkpoint.load_tensors(path)
        self.start_from(path)
        self._start = {}  # not what the run began from
        self._take_up(path, facts)
        if self.step >= self.recipe.steps:
            raise DatasetError(
                f"{path}: wanted a state with steps left to do, found it at {self.step} of "
                f"{self.recipe.steps}; lengthen the run (--steps), or fine-tune (--from)"
            )

    def _take_up(self, path: Path, facts: dict[str, Any]) -> None:
        with _stated(path, "the step and the history"):
            step, history = facts["step"], facts["history"]
            if type(step) is not int or step < 0 or type(history) is not list:
                raise ValueError
            for row in history:
                _finite(row["step"])
                if not all(type(figure) in (int, float) for figure in row.values()):
                    raise ValueError
            self.step, self.history = step, history

    # -- the loop ---------------------------------------------------------------------------

    def fit(
        self,
        renderer: Renderer,
        judge: Judge,
        *,
        report: Callable[[Row], None] = lambda row: None,
        stop: Callable[[], bool] = lambda: False,
        workers: int = 0,
    ) -> None:
        """Train to the recipe's last step; save and judge on the way.

        report: called after every step with step, loss, lr, images_per_s, and the judgement's
        figures when there was one. stop: asked after every step; where it says True, in any of the
        processes, they all return, that step's state saved. Raises TrainingStopped on a loss that
        is not finite.
        """
        if self._folded:
            self._unfold(renderer)
        model: nn.Module = self.network
        if self.place.world > 1:
            self._check_together()
            model = DistributedDataParallel(self.network)
        board = curves.Board(self.folder, step=self.step) if self.place.leads else None
        if self.place.leads:
            self._first_state(judge)
        clock, self._saved_at = time.perf_counter(), time.monotonic()
        for pictures, targets, weights in batches(
            renderer, self.recipe, start=self.step, place=self.place, workers=workers
        ):
            loss = self._one_step(model, pictures, (targets, weights))
            self.loss = loss if not self.loss else 0.98 * self.loss + 0.02 * loss
            now = time.perf_counter()
            row = {
                "step": float(self.step),
                "loss": self.loss,
                "lr": learning_rate(self.recipe, self.step - 1),
                "images_per_s": self.recipe.batch / (now - clock),
            }
            self._milestones(row, judge)
            clock = time.perf_counter()
            if board is not None and (self.step % TRACE == 0 or "miou" in row):
                board.add(row)
            report(row)
            if self._stops(stop()):
                break
        if board is not None:
            board.close()

    def _first_state(self, judge: Judge) -> None:
        """See that there is a state: from here on the run goes on from its folder alone."""
        checkpoint.sweep(self.folder)
        if (self.folder / STATE).is_file():
            return
        if self.tuning and not self.step:
            self._judge({"step": 0.0}, judge)  # what it began with, to be improved on
        self.save()

    def _unfold(self, renderer: Renderer) -> None:
        """Give the batch norms of an official network back, by the first batch: the whole of it in
        every process, so that they stay one network.
        """
        alone = Place(0, 1, self.place.device)
        pictures = next(iter(batches(renderer, self.recipe, start=self.step, place=alone)))[0]
        assert isinstance(self.network, pphumanseg.PPHumanSegV1Lite)
        pphumanseg.unfold(self.network, to_input(pictures, self.place.device))
        self._take(self.network.state_dict(), "the unfolded network")
        self._folded = False

    def _stops(self, asked: bool) -> bool:
        """Whether any process was asked to stop: then all do, with the state of this step saved."""
        if self.place.world > 1:
            flag = torch.tensor(float(asked), device=self.place.device)
            dist.all_reduce(flag, dist.ReduceOp.MAX)
            asked = bool(flag)
        if asked:
            if self.saved != self.step:
                self._stop_if_unsound()
                self.save()
            self.place.wait()  # none ends before the state is whole
        return asked

    def _check_together(self) -> None:
        """Processes that stand at different steps would wait for each other for ever."""
        steps = torch.tensor([self.step, -self.step], device=self.place.device)
        dist.all_reduce(steps, dist.ReduceOp.MAX)
        latest, earliest = int(steps[0]), -int(steps[1])
        if latest != earliest:
            raise DatasetError(
                f"{self.folder}: wanted one run folder for all processes, found them at steps "
                f"{earliest} and {latest}; put it on a disk that every machine sees"
            )

    def _one_step(self, model: nn.Module, pictures: Tensor, planes: tuple[Tensor, Tensor]) -> float:
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.recipe, self.step)
        losses = self._losses(model, pictures, planes)
        self._stop_if_broken(losses)
        self.optimizer.zero_grad(set_to_none=True)
        losses.mean().backward()
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), CLIP)
        self._stop_if_broken(norm.reshape(1))
        self.optimizer.step()
        self._average()
        self.step += 1
        return float(losses.detach().mean())

    def _losses(self, model: nn.Module, pictures: Tensor, planes: tuple[Tensor, Tensor]) -> Tensor:
        device = self.place.device
        model.train()
        x = to_input(pictures, device)
        with torch.autocast(device.type, torch.bfloat16, enabled=self.bf16):
            logits = model(x)
        logits = logits.to(torch.float32)
        shape = (logits.shape[2], logits.shape[3])
        target, weight = (to_grid(plane.to(device), shape) for plane in planes)
        return sample_losses(logits, target, weight, recipe=self.recipe)

    def _stop_if_broken(self, losses: Tensor) -> None:
        bad = ~torch.isfinite(losses.detach())
        broken = bad.any().to(torch.float32)
        if self.place.world > 1:
            dist.all_reduce(broken, dist.ReduceOp.MAX)
        if not float(broken):
            return
        numbers = sample_numbers(self.recipe, self.step, self.place)
        named = [n for n, is_bad in zip(numbers, bad.tolist(), strict=False) if is_bad]
        if len(bad) != len(numbers) or not named:  # the gradient's, or another process's
            named = [numbers[0], numbers[-1]]
        raise TrainingStopped(
            f"wanted a finite loss, found NaN or infinity in batch {self.step} (samples "
            f"{', '.join(map(str, named))}; seed {self.recipe.seed}); {self.folder / STATE} holds "
            "the last good state: start a new run from it with a lower learning rate"
        )

    def _stop_if_unsound(self) -> None:
        """A finite gradient can still throw the weights to infinity: never save those."""
        for name, tensor in self.network.state_dict().items():
            if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
                raise TrainingStopped(
                    f"wanted finite weights, found NaN or infinity in {name} after batch "
                    f"{self.step - 1} (seed {self.recipe.seed}); {self.folder / STATE} holds the "
                    "last good state: start a new run from it with a lower learning rate"
                )

    def _average(self) -> None:
        keep = min(self.recipe.ema, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            pairs = zip(
                self.averaged.state_dict().values(),
                self.network.state_dict().values(),
                strict=True,
            )
            for mean, value in pairs:
                if mean.is_floating_point():
                    mean.lerp_(value, 1 - keep)
                else:
                    mean.copy_(value)

    def _keep_a_share(self) -> None:
        """Mix the weights the run began from into the averaged ones.

        The mix is what the run is for: of the judgements before it only that of what it began
        with (step 0) may still be the best, and then those weights are.
        """
        began = self.history[0] if self.history and not self.history[0]["step"] else None
        if began is None or self.recipe.size_at(0) != self.recipe.final_size:
            self.best = -1.0
        else:
            self.best = began["miou"]
            if self.place.leads:
                facts = self.facts() | began | {"step": 0}
                checkpoint.save_tensors(self.folder / BEST, self._start, facts)
        with torch.no_grad():
            for name, mean in self.averaged.state_dict().items():
                if mean.is_floating_point():
                    mean.lerp_(self._start[name].to(mean), self.recipe.keep)

    def _milestones(self, row: Row, judge: Judge) -> None:
        last = self.step == self.recipe.steps
        judging = last or self.step % self.recipe.judge_every == 0
        saving = last or self.step % self.recipe.save_every == 0
        saving = saving or time.monotonic() - self._saved_at > SAVE_AFTER
        if judging or saving:
            self._stop_if_unsound()
        if last and self._start:
            self._keep_a_share()
        if judging:
            if self.place.leads:
                self._judge(row, judge)
            self.place.wait()
        if saving:
            self.save()

    def _judge(self, row: Row, judge: Judge) -> None:
        """Judge the averaged network; its figures join `row`, which joins the history."""
        row |= judge(self.averaged, self._side_now())
        self.history.append(row)
        self._keep_if_best(row)
        self._publish()

    def _side_now(self) -> int:
        """The input side of the last step done; before the first one, of that."""
        return self.recipe.size_at(max(0, self.step - 1))

    def _publish(self) -> None:
        lines = "".join(json.dumps(row) + "\n" for row in self.history)
        write_whole(self.folder / "history.jsonl", lines)
        curves.draw(self.history, self.folder / "curves.png")

    def _keep_if_best(self, row: Row) -> None:
        if self._side_now() != self.recipe.final_size or row.get("miou", 0.0) <= self.best:
            return
        self.best = row["miou"]
        checkpoint.save_tensors(self.folder / BEST, self.averaged.state_dict(), self.facts() | row)

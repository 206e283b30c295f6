"""The training loop: resumable, seeded, averaged, judged on val as it goes.

Into the run's folder (state.py) it also writes `history.jsonl`, `curves.png` and TensorBoard files.
One process, or several (processes.py); batches.py has what each of them sees.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from pathlib import Path

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
from edge_seg.training.loss import sample_losses, to_grid
from edge_seg.training.network import to_input
from edge_seg.training.processes import Place
from edge_seg.training.recipe import Recipe
from edge_seg.training.state import BEST, STATE, Row, RunState

Judge = Callable[[nn.Module, int], Row]
CLIP = 5.0  # of the gradient's norm
SAVE_AFTER = 600.0  # seconds since the last save, where steps are slow
TRACE = 50  # steps between two points of TensorBoard's curves


class TrainingStopped(EdgeSegError, RuntimeError):
    """The loss became NaN or infinite; the last good state is kept."""


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


class Run(RunState):
    """One training run in its folder. Raises DatasetError as `RunState` does."""

    def __init__(self, folder: Path, recipe: Recipe, *, place: Place | None = None) -> None:
        super().__init__(folder, recipe, place=place)
        self.bf16 = recipe.bf16 and _computes_bfloat16(self.place.device)

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

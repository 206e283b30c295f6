"""What every backend promises, as a class to inherit: a test file per backend is a few lines.

A subclass says which backend, how to write its artifact, and what the network's answer is by
arithmetic that is not the backend's.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_seg.backends import Backend, Tensor, entry, open_backend
from edge_seg.errors import BackendFailure, BackendUnavailable, FrameError


def random_tensor(backend: Backend, seed: int = 0) -> Tensor:
    """Return a tensor the backend eats: noise over the whole range of pixels."""
    random = np.random.default_rng(seed)
    if backend.input.quantized:
        low, high = np.iinfo(backend.input.dtype).min, np.iinfo(backend.input.dtype).max
        return random.integers(low, high + 1, backend.input.shape).astype(backend.input.dtype)
    return random.uniform(-1, 1, backend.input.shape).astype(np.float32)


def real_values(tensor: Tensor, spec: Any) -> NDArray[np.float64]:
    """Return a tensor's real numbers as (h, w, channels)."""
    real = tensor.astype(np.float64)
    if spec.quantized:
        real = spec.scale * (real - spec.zero_point)
    return np.asarray(real[0] if spec.layout == "nhwc" else real[0].transpose(1, 2, 0))


class BackendContract:
    """The contract. `tolerance`: of the real output, for this precision."""

    name: str
    tolerance: float

    def write_artifact(self, folder: Path) -> Path:
        """Write the artifact; return its path."""
        raise NotImplementedError

    def reference(self, real: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the network's answer (h', w', channels) to a normalised picture (h, w, 3)."""
        raise NotImplementedError

    @pytest.fixture
    def artifact(self, tmp_path: Path) -> Path:
        return self.write_artifact(tmp_path)

    @pytest.fixture
    def backend(self, artifact: Path) -> Iterator[Backend]:
        opened = open_backend(self.name, artifact)
        yield opened
        opened.close()

    def expected(self, backend: Backend, tensor: Tensor) -> NDArray[np.float64]:
        """Return what the network answers by arithmetic, saturated as the output's dtype is."""
        answer = self.reference(real_values(tensor, backend.input))
        if not backend.output.quantized:
            return answer
        info = np.iinfo(backend.output.dtype)
        scale, zero = backend.output.scale, backend.output.zero_point
        return np.clip(answer, scale * (info.min - zero), scale * (info.max - zero))

    def test_shape_and_dtype_are_the_spec_s(self, backend: Backend) -> None:
        answer = backend.infer(random_tensor(backend))
        assert answer.shape == backend.output.shape
        assert answer.dtype == backend.output.dtype

    def test_it_agrees_with_the_arithmetic(self, backend: Backend) -> None:
        for seed in range(3):
            tensor = random_tensor(backend, seed)
            found = real_values(backend.infer(tensor), backend.output)
            expected = self.expected(backend, tensor)
            assert found.shape == expected.shape
            assert np.ptp(expected) > 20 * self.tolerance, "the test's network says nothing"
            np.testing.assert_allclose(found, expected, rtol=0, atol=self.tolerance)

    def test_the_same_input_twice_gives_the_same_output(self, backend: Backend) -> None:
        tensor = random_tensor(backend)
        first = backend.infer(tensor).copy()
        backend.infer(random_tensor(backend, 1))
        assert np.array_equal(first, backend.infer(tensor))

    def test_the_next_call_does_not_overwrite_an_output(self, backend: Backend) -> None:
        first = backend.infer(random_tensor(backend))
        kept = first.copy()
        second = backend.infer(random_tensor(backend, 1))
        assert not np.array_equal(kept, second)
        assert np.array_equal(first, kept)
        assert not np.shares_memory(first, second)
        first[:] = 0  # and the caller may write into it
        assert np.array_equal(second, backend.infer(random_tensor(backend, 1)))

    def test_an_output_outlives_its_backend(self, artifact: Path) -> None:
        backend = open_backend(self.name, artifact)
        answer = backend.infer(random_tensor(backend))
        kept = answer.copy()
        backend.close()
        del backend
        assert np.array_equal(answer, kept)

    def test_the_input_is_not_modified(self, backend: Backend) -> None:
        tensor = random_tensor(backend)
        kept = tensor.copy()
        backend.infer(tensor)
        assert np.array_equal(tensor, kept)

    def test_a_tensor_that_is_a_view_is_read_as_it_looks(self, backend: Backend) -> None:
        tensor = random_tensor(backend)
        mirrored = tensor[:, :, ::-1]
        plain = np.ascontiguousarray(mirrored)
        assert np.array_equal(backend.infer(mirrored), backend.infer(plain))

    def test_a_tensor_that_may_not_be_written_to_is_read(self, backend: Backend) -> None:
        tensor = random_tensor(backend)
        wanted = backend.infer(tensor)
        tensor.flags.writeable = False
        assert np.array_equal(backend.infer(tensor), wanted)

    def test_a_wrong_shape_names_both_shapes(self, backend: Backend) -> None:
        wrong = np.zeros((1, 5, 7, 3), dtype=backend.input.dtype)
        with pytest.raises(FrameError) as caught:
            backend.infer(wrong)
        assert str(wrong.shape) in str(caught.value)
        assert str(backend.input.shape) in str(caught.value)

    def test_a_wrong_dtype_names_both_dtypes(self, backend: Backend) -> None:
        wrong = np.zeros(backend.input.shape, dtype=np.float64)
        with pytest.raises(FrameError) as caught:
            backend.infer(wrong)
        assert "float64" in str(caught.value)
        assert backend.input.dtype in str(caught.value)

    def test_extremes_saturate(self, backend: Backend) -> None:
        if backend.input.quantized:
            info = np.iinfo(backend.input.dtype)
            ends: tuple[float, float] = (info.min, info.max)
        else:
            ends = (-1.0, 1.0)
        for end in ends:
            tensor = np.full(backend.input.shape, end, dtype=backend.input.dtype)
            found = real_values(backend.infer(tensor), backend.output)
            assert np.isfinite(found).all()
            np.testing.assert_allclose(
                found, self.expected(backend, tensor), rtol=0, atol=self.tolerance
            )

    def test_closing_twice_is_fine_and_inferring_after_it_is_not(self, backend: Backend) -> None:
        tensor = random_tensor(backend)
        backend.close()
        backend.close()
        with pytest.raises(BackendFailure, match="closed"):
            backend.infer(tensor)

    @pytest.mark.parametrize("damage", ["empty", "garbage", "half", "missing", "folder"])
    def test_an_artifact_that_is_not_one_names_its_path(
        self, artifact: Path, tmp_path: Path, damage: str
    ) -> None:
        whole = artifact.read_bytes()
        bad = tmp_path / f"bad{artifact.suffix}"
        if damage == "folder":
            bad.mkdir()
        elif damage != "missing":
            noise = np.random.default_rng(1).bytes(300)
            bad.write_bytes(
                {"empty": b"", "garbage": noise, "half": whole[: len(whole) // 2]}[damage]
            )
        with pytest.raises(BackendUnavailable) as caught:
            open_backend(self.name, bad)
        assert str(bad) in str(caught.value)

    @pytest.mark.usefixtures("artifact")  # skips where the library is not here
    def test_an_artifact_of_another_backend_names_its_path(self, tmp_path: Path) -> None:
        other = tmp_path / "other"
        other.write_text("format = 'something else'\n", encoding="utf-8")
        with pytest.raises(BackendUnavailable, match="other"):
            open_backend(self.name, other)

    @pytest.mark.parametrize("options", [{"thread": 2}, {"threads": 0}, {"threads": "four"}])
    def test_an_option_that_is_not_one_is_refused_in_a_sentence(
        self, artifact: Path, options: dict[str, Any]
    ) -> None:
        with pytest.raises(BackendUnavailable) as caught:
            open_backend(self.name, artifact, options)
        assert "thread" in str(caught.value)
        assert self.name in str(caught.value)

    def test_it_says_which_library_it_is(self, backend: Backend) -> None:
        library = getattr(backend, "library", "")
        assert library.split()[0] and library.split()[1][0].isdigit()
        assert entry(self.name).install

    @pytest.mark.parametrize("count", [1, 2])
    def test_two_threads_do_not_disturb_each_other(self, artifact: Path, count: int) -> None:
        """Whether each has a backend of its own, or both have one."""
        backends = [open_backend(self.name, artifact) for _ in range(count)] * (3 - count)
        tensors = [random_tensor(b, i) for i, b in enumerate(backends)]
        wanted = [b.infer(t) for b, t in zip(backends, tensors, strict=True)]
        wrong: list[int] = []
        start = threading.Barrier(2)

        def work(i: int) -> None:
            start.wait()
            for _ in range(40):
                if not np.array_equal(backends[i].infer(tensors[i]), wanted[i]):
                    wrong.append(i)

        threads = [threading.Thread(target=work, args=(i,)) for i in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not wrong
        for backend in backends:
            backend.close()

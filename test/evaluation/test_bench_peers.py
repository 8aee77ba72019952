from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from eseg_ros.engine.manifest import load_engine
from eseg_ros.errors import EngineError, UsageError
from eseg_ros.evaluation.bench import Terms, bench
from eseg_ros.evaluation.bench_peers import peer_subjects

Dimension = int | str
MakePeer = Callable[..., Path]


@pytest.fixture
def make_peer(tmp_path: Path) -> MakePeer:
    """`make_peer(height="h", ids=True)`: a network of somebody else: one convolution of stride 8 and what follows."""

    def make(
        shape: Sequence[Dimension] = (1, 3, 64, 96),
        *,
        dtype: int = TensorProto.FLOAT,
        classes: int = 5,
        ids: bool = False,
        outputs: int = 1,
    ) -> Path:
        weight = np.random.default_rng(0).normal(size=(classes, 3, 8, 8)).astype(np.float32)
        nodes = [helper.make_node("Conv", ["pixels", "weight"], ["scores"], strides=[8, 8])]
        made = ["scores"]
        if ids:
            nodes.append(helper.make_node("ArgMax", ["scores"], ["ids"], axis=1))
            made = ["ids"]
        for index in range(1, outputs):
            nodes.append(helper.make_node("Relu", ["scores"], [f"auxiliary{index}"]))
            made.append(f"auxiliary{index}")
        element = TensorProto.INT64 if ids else TensorProto.FLOAT
        graph = helper.make_graph(
            nodes,
            "peer",
            [helper.make_tensor_value_info("pixels", dtype, list(shape))],
            [helper.make_tensor_value_info(name, element, ["n", "c", "rows", "columns"]) for name in made],
            [numpy_helper.from_array(weight, "weight")],
        )
        path = tmp_path / "peer.onnx"
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
        return path

    return make


def timed(path: Path, sizes: Sequence[tuple[int, int]], folder: Path) -> list[dict[str, Any]]:
    results: list[dict[str, Any]] = bench(list(peer_subjects([path], sizes, folder)), Terms(repeat=1, threads=1))[
        "configurations"
    ]
    return results


def test_a_file_that_gives_class_scores_is_timed_in_the_nodes_pipeline(make_peer: MakePeer, tmp_path: Path) -> None:
    results = timed(make_peer(), [], tmp_path)
    assert [result["runtime"] for result in results] == ["openvino", "onnxruntime"]
    for result in results:
        assert (result["engine"], result["input"], result["alone"]) == ("peer", "96x64", None)
        assert 0 < result["postprocess_ms"]["median"] < result["latency_ms"]["median"]


def test_a_file_that_gives_ids_is_timed_alone(make_peer: MakePeer, tmp_path: Path) -> None:
    for result in timed(make_peer(ids=True), [], tmp_path):
        assert result["alone"] == "its output is int64 [1, 1, 8, 12], not scores of classes"
        assert result["inference_ms"]["median"] > 0
        assert "postprocess_ms" not in result


def test_a_file_with_several_outputs_is_timed_alone(make_peer: MakePeer, tmp_path: Path) -> None:
    (subject,) = peer_subjects([make_peer(outputs=3)], [], tmp_path)
    assert subject.alone == "it has 3 outputs"


def test_a_symbolic_size_becomes_each_that_is_asked_for(make_peer: MakePeer, tmp_path: Path) -> None:
    sizes = [(96, 64), (160, 128)]
    subjects = list(peer_subjects([make_peer(("batch", 3, "height", "width"))], sizes, tmp_path))
    assert [subject.size for subject in subjects] == sizes
    outputs = [load_engine(subject.path).manifest.output for subject in subjects]
    assert [(output.width, output.height, output.stride) for output in outputs] == [(12, 8, 8), (20, 16, 8)]


def test_masks_of_others_are_not_scored_for_nobody_knows_how_their_images_are_normalized(
    make_peer: MakePeer, dataset: Path, tmp_path: Path
) -> None:
    terms = Terms(["openvino"], repeat=1, data=dataset, split="val")
    (result,) = bench(list(peer_subjects([make_peer()], [], tmp_path)), terms)["configurations"]
    assert result["score"] is None


def test_a_symbolic_size_must_be_said(make_peer: MakePeer, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="takes images of any size; say at which to time it: --size"):
        list(peer_subjects([make_peer((1, 3, "h", "w"))], [], tmp_path))


def test_a_fixed_size_stays_as_it_is(make_peer: MakePeer, tmp_path: Path) -> None:
    path = make_peer()
    with pytest.raises(UsageError, match="takes images of 96x64 pixels, and that size cannot be changed here"):
        list(peer_subjects([path], [(128, 64)], tmp_path))
    (subject,) = peer_subjects([path], [(128, 64), (96, 64)], tmp_path)
    assert subject.size == (96, 64)


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"shape": (1, 64, 96, 3)}, r"'pixels' float32 \[1, 64, 96, 3\]"),
        ({"dtype": TensorProto.UINT8}, r"'pixels' uint8 \[1, 3, 64, 96\]"),
        ({"shape": (4, 3, 64, 96)}, r"'pixels' float32 \[4, 3, 64, 96\]"),
        ({"shape": (1, "channels")}, r"'pixels' float32 \[1, channels\]"),
    ],
)
def test_what_takes_no_float_image_is_refused(
    make_peer: MakePeer, tmp_path: Path, changes: dict[str, Any], found: str
) -> None:
    with pytest.raises(EngineError, match=rf"takes {found}; expected one float32 image, NCHW"):
        list(peer_subjects([make_peer(**changes)], [], tmp_path))


def test_a_file_that_is_no_onnx_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "notes.onnx"
    path.write_text("not a network")
    with pytest.raises(EngineError, match=r"notes.onnx cannot be read as an ONNX file"):
        list(peer_subjects([path], [], tmp_path))


def test_a_file_that_does_not_run_at_a_size_is_told_so(make_peer: MakePeer, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="peer"):
        list(peer_subjects([make_peer((1, 3, "h", "w"))], [(4, 4)], tmp_path))

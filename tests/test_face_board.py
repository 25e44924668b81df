"""A face detector from Graph to boards: maps and boxes of host, sanitizers, both emulated cores and numpy are the same
bytes under every schedule; what its post-processing costs in instructions and SRAM."""

from dataclasses import replace

import numpy as np
import pytest
from faces import face_model
from programs import run_host

from nni_mcunet.core.boards import get_board
from nni_mcunet.core.ir.arch import Schedule
from nni_mcunet.core.plan.plan import plan
from nni_mcunet.engine.codegen.sources import detector_params, write_sources
from nni_mcunet.engine.detect import BOX, with_room
from nni_mcunet.engine.lower import reference
from nni_mcunet.engine.run.elf import elf_report
from nni_mcunet.engine.run.emulator import run_emulated
from nni_mcunet.engine.run.firmware import build_firmware
from nni_mcunet.engine.run.host import build_host


@pytest.fixture(scope="module")
def faces():
    return face_model(64, 96, 3, 0.02)


@pytest.mark.parametrize(
    "schedule", [Schedule(), Schedule((2, 2), 1), Schedule((3, 1), 2), Schedule((1, 4), 2)], ids=str
)
def test_boards_equal_host_and_numpy(faces, tmp_path, schedule):
    model, picture = faces
    p = plan(model.graph, schedule)
    expected = reference.run(p, model, (picture.astype(np.int16) - 128).astype(np.int8))
    maps = [expected[name] for name in model.graph.outputs]
    boxes = detector_params(model).decode(maps)
    assert len(boxes) > 10 and len(np.unique(boxes["score"])) > 5
    folder = write_sources(p, model, tmp_path / "model")
    host = build_host(folder)
    results = [{"outputs": host.run(picture), "boxes": host.detect()}, run_host(folder, picture)]
    for name in ("stm32h743", "stm32f412")[: 1 if schedule.n else 2]:
        board = get_board(name)
        results.append(run_emulated(build_firmware(folder, board, picture), board))
        assert set(results[-1]["names"]) == {"face"}
    for result in results:
        for got, want in zip(result["outputs"], maps, strict=True):
            assert np.array_equal(got, want.ravel())
        assert np.array_equal(result["boxes"], boxes)


def test_room_for_boxes_is_generated_and_counted(tmp_path):
    """max_per_img asks for more candidates than the runtime's reserve holds: the plan's limit and the ELF say so."""
    model, picture = face_model(64, 96, 2, 0.001, max_per_img=500, nms_iou=0.9)
    post, board = detector_params(model), get_board("stm32f412")
    assert post.candidates == 800
    roomy = with_room(board, post.candidates)
    assert board.arena_limit - roomy.arena_limit == (800 - 160) * BOX.itemsize
    p = plan(model.graph)
    folder = write_sources(p, model, tmp_path / "model")
    host = build_host(folder)
    host.run(picture)
    elf = build_firmware(folder, board, picture)
    sizes = elf_report(elf)
    assert 800 * 12 <= sizes["data_bytes"] < 800 * 12 + 500
    assert sizes["sram_bytes"] - sizes["arena_bytes"] <= roomy.reserved_sram
    boxes = run_emulated(elf, board)["boxes"]
    assert len(boxes) > 160 and np.array_equal(boxes, host.detect())


def test_25600_anchors_take_under_a_million_instructions(tmp_path):
    """640x480, six levels, a few dozen faces: what mcu_detect costs on the Cortex-M4."""
    model, picture = face_model(480, 640, 6, 0.002, bias=-7.0)
    post, board = detector_params(model), replace(get_board("stm32f412"), name="roomy", sram=2**20)
    assert sum(s.h * s.w for s in post.levels) == 25_600
    elf = build_firmware(
        write_sources(plan(model.graph, Schedule((8, 8), 2)), model, tmp_path / "model"), board, picture
    )
    report = run_emulated(elf, board)
    boxes = post.decode(report["outputs"])
    assert np.array_equal(report["boxes"], boxes)
    assert len(boxes) > 50
    assert 8 * 25_600 <= report["detect_instructions"] < 1_000_000  # eight an anchor, the rest for the boxes

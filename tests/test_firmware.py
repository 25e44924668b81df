"""A small hand-made model with a detector: host library, sanitized program and both emulated boards give the same
bytes; sizes from the ELF; what does not fit does not link."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from nni_mcunet.core.boards import get_board
from nni_mcunet.core.errors import FirmwareError, Infeasible, UserError
from nni_mcunet.engine import detect
from nni_mcunet.engine.codegen.sources import KERNELS
from nni_mcunet.engine.ops.conv import pair_rows
from nni_mcunet.engine.ops.weight_packing import pack_channels, pack_weights
from nni_mcunet.engine.run import emulator, firmware
from nni_mcunet.engine.run.elf import elf_report
from nni_mcunet.engine.run.host import build_host, run_sanitized

H, W, CLASSES, MID = 32, 48, 3, 12
OUT = 2 * (5 + CLASSES)
META = {"type": "yolov3", "classes": ["a", "b", "c"], "strides": [2], "anchors": [[[9, 7.5], [4, 12]]],
        "score_thr": 0.2, "conf_thr": 0.3, "nms_iou": 0.45, "max_per_img": 20}  # fmt: skip
POST = detect.detector(META, [{"scale": 0.05, "zero_point": 20, "h": H // 2, "w": W // 2, "c": OUT}])
HEADER = f"""#ifndef MCU_MODEL_H
#define MCU_MODEL_H
#include <stdint.h>
#include "mcu_boxes.h"
#define MCU_INPUT_H {H}
#define MCU_INPUT_W {W}
#define MCU_INPUT_C 3
#define MCU_OUTPUTS 1
#define MCU_ARENA_BYTES ARENA
#define MCU_DETECTOR
#define MCU_MOST_BOXES 160
typedef void (*mcu_read_tile)(void *ctx, int y, int x, int h, int w, int8_t *dst);
extern int8_t mcu_arena[MCU_ARENA_BYTES];
void mcu_run(mcu_read_tile read, void *ctx);
/*   0: "maps" {H // 2}x{W // 2}x{OUT}, real = 0.05 * (q - 20) */
const int8_t *mcu_output(int i);
int mcu_output_bytes(int i);
extern const char *const mcu_class_names[];
int mcu_detect(mcu_box *boxes, int most);
#endif
"""
NAMES = 'const char *const mcu_class_names[] = {"a", "b", "c"};\n'
# Rows in two patches through 3x3 s2 and, in place, depth-wise 3x3; the second patch reads no padding above. Then 1x1.
MODEL = f"""#include "mcu_model.h"
#include "mcu.h"
WEIGHTS
int8_t mcu_arena[MCU_ARENA_BYTES] __attribute__((aligned(4)));
static int8_t *const tile = mcu_arena, *const stem = mcu_arena + {22 * W * 3}, *const scratch = mcu_arena + 8000;
static int8_t *const mid = mcu_arena + 8800, *const out = mcu_arena;
_Static_assert(MCU_CONV_DENSE_SCRATCH(3, 3, 3, 0) <= 800 && MCU_CONV_DW_SCRATCH(1, 3, 3, {W // 2 + 2}) <= 800, "");
static const mcu_conv conv_stem = {{3, {MID}, 1, 3, 3, 2, 2, -128, 3, -128, 127, 0, 0, 0, w0, p0}};
static const mcu_conv conv_dw = {{{MID}, {MID}, {MID}, 3, 3, 1, 1, 3, -4, -128, 127, 0, 0, 0, w1, p1}};
static const mcu_conv conv_pw = {{{MID}, {OUT}, 1, 1, 1, 1, 1, -4, 20, -128, 127, 0, 0, 0, w2, p2}};
void mcu_run(mcu_read_tile read, void *ctx) {{
    const mcu_axis x0 = {{{W}, -1, {W // 2}, {W // 2}, 0, 0, 0}}, x1 = {{{W // 2}, -1, {W // 2}, {W // 2}, 0, 0, 0}};
    const mcu_axis x2 = {{{W // 2}, 0, {W // 2}, {W // 2}, 0, 0, 0}}, y2 = {{16, 0, 16, 16, 0, 0, 0}};
    for (int i = 0; i < 2; i++) {{
        const mcu_axis y0 = {{(int16_t)(i ? 19 : 18), (int16_t)(i ? 0 : -1), 9, 9, 0, 0, 0}};
        const mcu_axis y1 = {{9, (int16_t)(i ? 0 : -1), 8, 8, 0, 0, 0}};
        read(ctx, i ? 13 : 0, 0, y0.n_in, {W}, tile);
        mcu_conv_dense(&conv_stem, &y0, &x0, tile, 0, stem, scratch);
        mcu_conv_dw(&conv_dw, &y1, &x1, stem, 0, stem, scratch);
        for (int j = 0; j < {8 * W // 2 * MID}; j++)
            mid[i * {8 * W // 2 * MID} + j] = stem[j];
    }}
    mcu_conv_pw(&conv_pw, &y2, &x2, mid, 0, out, scratch);
}}
const int8_t *mcu_output(int i) {{ return out + i; }}
int mcu_output_bytes(int i) {{ return {H * W // 4 * OUT} + i; }}
"""


def constants(rng, i, shape, right):
    """C arrays of one layer, random weights (cout, kh, kw, cin) or, depth-wise, (c, kh, kw); `right` shifts its sums
    into int8."""
    weight = rng.integers(-60, 60, shape)
    if len(shape) == 4:
        weight = pack_weights(weight.transpose(0, 3, 1, 2), 1)
    bias, mult = rng.integers(-3000, 3000, shape[0]), rng.integers(2**30, 2**31, shape[0])
    pairs = pack_channels(bias, mult, np.zeros(shape[0], int), np.full(shape[0], right), 1)
    return (
        f"static const int8_t w{i}[] = {{{', '.join(map(str, weight.ravel()))}}};\n"
        f"static const mcu_pair p{i}[] = {{{pair_rows(pairs)}}};\n"
    )


def write_model(folder: Path, arena=18000, extra="") -> Path:
    rng = np.random.default_rng(0)
    shapes = [((MID, 3, 3, 3), 7), ((MID, 3, 3), 6), ((OUT, 1, 1, MID), 6)]
    weights = "".join(constants(rng, i, *shape) for i, shape in enumerate(shapes))
    folder.mkdir(exist_ok=True)
    (folder / "mcu_model.h").write_text(HEADER.replace("_BYTES ARENA", f"_BYTES {arena}"))
    (folder / "mcu_model.c").write_text(MODEL.replace("WEIGHTS", weights) + POST.to_c() + NAMES + extra)
    for source in KERNELS.iterdir():
        shutil.copy(source, folder)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("firmware") / "model")


@pytest.fixture(scope="module")
def picture():
    return np.random.default_rng(1).integers(0, 256, (H, W, 3)).astype(np.uint8)


@pytest.fixture(scope="module")
def host(folder, picture):
    """(outputs, boxes) of the host library."""
    model = build_host(folder)
    assert model.input_shape == (H, W, 3) and model.arena_bytes == 18000
    return model.run(picture), model.detect()


def test_host_boxes_are_the_twins(host):
    outputs, boxes = host
    assert len(boxes) == META["max_per_img"] and len(set(outputs[0])) > 100
    assert (boxes == POST.decode(outputs)).all()


def test_sanitized(folder, picture, host):
    report = run_sanitized(folder, picture)
    assert (report["outputs"][0] == host[0][0]).all() and (report["boxes"] == host[1]).all()


@pytest.mark.parametrize("name", ["stm32f412", "stm32h743"])
def test_boards_equal_host(name, folder, picture, host):
    board = get_board(name)
    elf = firmware.build_firmware(folder, board, picture)
    report, sizes = emulator.run_emulated(elf, board, timeout=60), elf_report(elf)
    assert (report["outputs"][0] == host[0][0]).all() and (report["boxes"] == host[1]).all()
    macs = H * W // 4 * MID * (27 + 9 + OUT)
    assert macs < report["instructions"] < 20 * macs
    assert 0 < report["stack_bytes"] < 2000 < sizes["stack_reserved_bytes"] == 4096
    assert sizes["arena_bytes"] == 18000 and sizes["picture_bytes"] == H * W * 3
    assert 4096 + sizes["data_bytes"] <= board.reserved_sram
    assert 18000 + 4096 + sizes["data_bytes"] == sizes["sram_bytes"] and 4000 < sizes["flash_bytes"] < 32000


def test_emulation_is_deterministic(folder, picture):
    board = get_board("f410")
    elf = firmware.build_firmware(folder, board, picture)
    sizes = elf_report(elf)
    assert sizes["sram_bytes"] - sizes["arena_bytes"] <= board.reserved_sram == 4096
    first, second = (emulator.run_emulated(elf, board)["instructions"] for _ in range(2))
    assert first == second


def test_too_large_does_not_link(tmp_path, picture):
    with pytest.raises(Infeasible, match=r"m does not fit stm32f412 .*lacks \d+ bytes of SRAM"):
        firmware.build_firmware(write_model(tmp_path / "m", arena=256 * 1024), get_board("stm32f412"), picture)
    constant = "extern const int8_t big[1 << 20];\nconst int8_t big[1 << 20] = {1};\n"
    used = "const int8_t *mcu_output(int i) { return out + i; }"
    model = write_model(tmp_path / "f", extra=constant) / "mcu_model.c"
    text = model.read_text().replace(used, used.replace("out + i", "i > 9 ? big + i : out + i"))
    model.write_text(text.replace('#include "mcu.h"', '#include "mcu.h"\nextern const int8_t big[1 << 20];'))
    with pytest.raises(Infeasible, match=r"lacks \d+ bytes of FLASH"):
        firmware.build_firmware(tmp_path / "f", get_board("stm32f412"), picture)
    assert not list(tmp_path.glob("*/build/*.elf"))


def test_stack_overflow_is_an_error(folder, picture):
    elf = firmware.build_firmware(folder, replace(get_board("f412"), name="tiny"), picture, stack_bytes=256)
    with pytest.raises(FirmwareError, match=r"did not come to its end .*exception 3"):
        emulator.run_emulated(elf, get_board("f412"), timeout=20)


def test_c_that_does_not_compile_is_one_line(tmp_path):
    with pytest.raises(FirmwareError, match=r"gcc does not compile .*error: ") as caught:
        build_host(write_model(tmp_path / "m", extra="int broken(void) { return nothing; }\n"))
    assert "\n" not in str(caught.value)


def test_clear_errors(folder, picture, tmp_path, monkeypatch):
    board = get_board("f412")
    with pytest.raises(UserError, match="a picture of"):
        firmware.build_firmware(folder, board, picture[1:])
    with pytest.raises(UserError, match=r"no mcu_model\.h"):
        build_host(tmp_path)
    with pytest.raises(UserError, match="cortex-m0"):
        emulator.run_emulated("x.elf", replace(board, core="cortex-m0", qemu=None))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="apt-get install gcc-arm-none-eabi libnewlib-arm-none-eabi"):
        firmware.build_firmware(folder, board, picture)
    with pytest.raises(UserError, match="apt-get install qemu-system-arm"):
        emulator.run_emulated("x.elf", board)


def test_run_board(folder, tmp_path, picture, host):
    """The command line: a table, the board's boxes as JSON and on the picture; not both QEMU and a port."""
    from PIL import Image

    Image.fromarray(picture).save(tmp_path / "picture.png")
    script = Path(__file__).parents[1] / "tools" / "run_board.py"
    common = [
        sys.executable,
        str(script),
        "--board",
        "stm32f412",
        str(folder),
        "--picture",
        str(tmp_path / "picture.png"),
    ]

    def run(*more):
        return subprocess.run([*common, *more], capture_output=True, text=True)

    done = run("--emulate", "--json", str(tmp_path / "r.json"), "--png", str(tmp_path / "boxes.png"))
    assert done.returncode == 0, done.stderr
    assert "instructions" in done.stdout and (tmp_path / "boxes.png").stat().st_size > 1000
    report = json.loads((tmp_path / "r.json").read_text())
    assert 0 < report["stack_bytes"] <= report["stack_bound_bytes"] <= report["stack_reserved_bytes"]
    assert len(report["boxes"]) == len(host[1]) and report["boxes"][0]["score"] == host[1]["score"][0] / 2**15
    done = run("--port", "/dev/ttyACM0", "--emulate")
    assert done.returncode == 2 and "not allowed with" in done.stderr

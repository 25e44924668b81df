"""The ready callbacks, sanitized on this machine: every tile that a plan asks for is what numpy and Pillow make of the
picture, the network's outputs are the reference's, and what cannot be given is an error and a grey tile."""

import io
import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from nets import any_graph, random_graph, random_model
from PIL import Image
from test_engine import random_schedule

from nni_mcunet.core.boards import get_board
from nni_mcunet.core.ir.arch import Schedule
from nni_mcunet.core.plan import picture_source as callbacks
from nni_mcunet.core.plan.plan import plan
from nni_mcunet.engine.codegen.sources import write_sources
from nni_mcunet.engine.frontend.onnx import load_onnx
from nni_mcunet.engine.lower import reference
from nni_mcunet.engine.run import emulator, host, toolchain
from nni_mcunet.engine.run.elf import elf_report
from nni_mcunet.engine.run.machines import MACHINES

OK, END, CORRUPT, UNSUPPORTED, SIZE, BAND, ORDER = range(7)  # of mcu_jpeg.h
LOST, TIMEOUT, PASSED = 1, 2, 3  # of mcu_lines.h
SUBSAMPLING = {"444": 0, "422": 1, "420": 2}


@dataclass
class Case:
    """A network under a plan, compiled with the callbacks."""

    plan: object
    model: object
    folder: Path

    def run(self, command: str, data: bytes, **settings):
        """(tiles as (y, x, pixels), outputs, error) of a callback."""
        (self.folder / "data").write_bytes(data)
        env = {**os.environ, **{name: str(value) for name, value in settings.items()}}
        done = subprocess.run([self.folder / "host", command, "data"], cwd=self.folder, env=env, capture_output=True)
        assert done.returncode == 0, done.stderr.decode()[-3000:]
        out, tiles, at, c = done.stdout, [], 0, self.shape[2]
        error = int.from_bytes(out[-4:], "little")
        while len(out) > 4 and (y := int.from_bytes(out[at : at + 4], "little", signed=True)) != -1:
            x, h, w = np.frombuffer(out, np.int32, 3, at + 4).tolist()
            tiles.append((y, x, np.frombuffer(out, np.int8, h * w * c, at + 16).reshape(h, w, c)))
            at += 16 + h * w * c
        return tiles, np.frombuffer(out[at + 4 : -4], np.int8), error

    @property
    def shape(self):
        image = self.plan.graph.inputs[0]
        return image.h, image.w, image.c

    def holds(self, picture: np.ndarray, command: str, data: bytes, **settings):
        """The callback gives this picture (h, w, c) uint8, without an error."""
        tiles, outputs, error = self.run(command, data, **settings)
        assert error == OK
        image = (picture.astype(np.int16) - 128).astype(np.int8)
        segment = self.plan.segments[0]
        assert len(tiles) <= segment.grid[0] * segment.grid[1] and tiles
        for y, x, tile in tiles:
            assert np.array_equal(tile, image[y : y + tile.shape[0], x : x + tile.shape[1]])
        expected = reference.run(self.plan, self.model, image)
        assert np.array_equal(outputs, np.concatenate([expected[n].ravel() for n in self.plan.graph.outputs]))


def compiled(p, model, folder) -> Case:
    write_sources(p, model, folder)
    sources = [*folder.glob("*.c"), *folder.glob("pictures/*.c"), ROOT / "tests/pictures_host.c"]
    flags = ["-O1", *toolchain.WARNINGS, *host.SANITIZERS, f"-I{folder}", f"-I{folder}/pictures"]
    subprocess.run(["gcc", *flags, *map(str, sources), "-o", str(folder / "host")], check=True)
    return Case(p, model, folder)


def random_case(seed: int, folder: Path, channels: int = 3) -> Case:
    """A network of any geometry, patched, its halo computed again or cached."""
    rng = np.random.default_rng(seed)
    graph = any_graph(rng, 4, channels) if seed % 4 > 1 else random_graph(rng, 4)
    while True:
        p = plan(graph, random_schedule(rng, graph), halo=("clip", "cache")[seed % 2])
        if p.segments[0].patched:
            return compiled(p, random_model(rng, graph), folder / f"{seed}")


@pytest.fixture(scope="module", params=[0, 3])
def case(request, tmp_path_factory):
    return random_case(request.param, tmp_path_factory.mktemp("case"))


@pytest.fixture(scope="module")
def grey(tmp_path_factory):
    return random_case(3, tmp_path_factory.mktemp("grey"), 1)


def photo(h: int, w: int, seed: int = 0) -> np.ndarray:
    """(h, w, 3): smooth colours, edges and noise."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (h // 7 + 2, w // 7 + 2, 3)).astype(np.uint8)
    smooth = np.asarray(Image.fromarray(coarse).resize((w, h), Image.BICUBIC)).astype(int)
    smooth[h // 3 : h // 2, w // 4 : w // 2] = (250, 10, 40)
    return (smooth + rng.integers(-20, 21, (h, w, 3))).clip(0, 255).astype(np.uint8)


def jpeg(picture, sampling="444", quality=90, **more) -> bytes:
    """picture: an array, or a PIL image."""
    image, file = picture if isinstance(picture, Image.Image) else Image.fromarray(picture), io.BytesIO()
    image.save(
        file, "JPEG", quality=quality, **({"subsampling": SUBSAMPLING[sampling]} if image.mode != "L" else {}), **more
    )
    return file.getvalue()


def planes(data: bytes, size=None) -> np.ndarray:
    """(h, w, 3) Y Cb Cr by libjpeg, at `size` (w, h) where the file is to be reduced."""
    image = Image.open(io.BytesIO(data))
    image.draft("YCbCr", size)
    return np.asarray(image)


def to_rgb(y, cb, cr) -> np.ndarray:
    y, cb, cr = (plane.astype(int) for plane in (y, cb - 128.0, cr - 128.0))
    red, blue = y + (91881 * cr + 32768 >> 16), y + (116130 * cb + 32768 >> 16)
    green = y + (-22554 * cb - 46802 * cr + 32768 >> 16)
    return np.stack([red, green, blue], 2).clip(0, 255).astype(np.uint8)


def mean(plane: np.ndarray, n: int) -> np.ndarray:
    h, w = plane.shape[0] // n, plane.shape[1] // n
    return (plane[: h * n, : w * n].astype(int).reshape(h, n, w, n).sum((1, 3)) + n * n // 2) // (n * n)


def replicated(data: bytes, reduce: int = 1) -> np.ndarray:
    """A 4:2:0 file, of a size divisible by 2 * reduce, unsmoothed: at half its size libjpeg decodes all its chroma."""
    full = planes(data)
    h, w = full.shape[:2]
    half = planes(data, (w // 2, h // 2))
    assert half.shape[:2] == (h // 2, w // 2)
    y, cb, cr = mean(full[..., 0], reduce), *(mean(half[..., i], reduce) for i in (1, 2))
    return to_rgb(y, *(np.kron(plane, np.ones((2, 2), int)) for plane in (cb, cr)))


def raw565(picture: np.ndarray, high_first=True) -> tuple[bytes, np.ndarray]:
    """(bytes, what they mean) of a picture in RGB565."""
    r, g, b = (picture[..., i].astype(np.uint32) >> shift for i, shift in enumerate((3, 2, 3)))
    spread = [
        v * (2**10 + 2**5 + 1) >> 7 if bits == 5 else v * (2**12 + 2**6 + 1) >> 10
        for v, bits in ((r, 5), (g, 6), (b, 5))
    ]
    return (r << 11 | g << 5 | b).astype(">u2" if high_first else "<u2").tobytes(), np.stack(spread, 2).astype(np.uint8)


def test_rgb565_reaches_both_ends():
    """A channel's bits are repeated: 0 stays 0, all ones become 255, at most one step off the nearest."""
    _, meaning = raw565(np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, 2))
    five, six = (np.round((np.arange(256) >> shift) * 255 / top) for shift, top in ((3, 31), (2, 63)))
    assert meaning[0, 0].tolist() == [0] * 3 and meaning[0, 255].tolist() == [255] * 3
    assert max(abs(meaning[0, :, 0] - five).max(), abs(meaning[0, :, 1] - six).max()) <= 1


def test_frames(case):
    h, w, _ = case.shape
    wide = photo(h, w + 5)
    case.holds(wide[:, :w], "frame", wide.tobytes(), STRIDE=w + 5)
    case.holds(np.repeat(wide[:, :w, :1], 3, 2), "grey", wide[..., 0].tobytes(), STRIDE=w + 5)
    for high in (0, 1):
        data, meaning = raw565(wide, high)
        case.holds(meaning[:, :w], "rgb565", data, STRIDE=2 * (w + 5), HIGH=high)


def test_grey_network(grey):
    h, w, _ = grey.shape
    picture = photo(h, w)
    grey.holds(picture[..., :1], "grey", picture[..., 0].tobytes())
    grey.holds(picture[..., :1], "frame", picture[..., 0].tobytes())
    data, meaning = raw565(picture)
    luma = np.asarray(Image.fromarray(meaning).convert("L"))[..., None]
    grey.holds(luma, "rgb565", data, STRIDE=2 * w)
    grey.holds(luma, "lines", data)
    for sampling in SUBSAMPLING:
        file = jpeg(picture, sampling)
        grey.holds(planes(file)[..., :1], "jpeg", file)


def test_camera_lines(case):
    h, w, _ = case.shape
    data, meaning = raw565(photo(h, w))
    case.holds(meaning, "lines", data)
    case.holds(meaning, "lines", data, STEP=0, FRAMES=0)  # as a struct of zeros has them
    big = photo(3 * h + 5, 3 * w + 4)
    data, meaning = raw565(big, 0)
    window = {"CAMERA_H": big.shape[0], "CAMERA_W": big.shape[1], "ROW": 4, "COLUMN": 2, "STEP": 3, "HIGH": 0}
    case.holds(meaning[4 : 4 + 3 * h : 3, 2 : 2 + 3 * w : 3], "lines", data, **window)


def test_a_lost_line_is_an_error_or_comes_with_the_next_frame(case):
    h, w, _ = case.shape
    data, meaning = raw565(photo(h, w))
    last = max(y + tile.shape[0] for y, _, tile in case.run("lines", data)[0]) - 1
    tiles, _, error = case.run("lines", data, CUT=last)
    assert error == LOST and not tiles[-1][2].any() and tiles[-1][2].size
    case.holds(meaning, "lines", data, CUT=last, FRAMES=2)
    kept = callbacks.kept_rows(case.plan)
    if kept <= last:  # a camera that runs ahead of the network
        assert case.run("lines", data, AHEAD=h)[2] == LOST
        case.holds(meaning, "lines", data, AHEAD=h, FRAMES=100)
    assert case.run("lines", data, CUT=last, FRAMES=9, TIMEOUT=1)[2] == TIMEOUT


def test_jpeg_equals_libjpeg(case):
    """4:4:4 and grey to the bit; 4:2:0 to the bit of libjpeg without its smoothing of chroma."""
    h, w, _ = case.shape
    picture = photo(h, w)
    for quality in (30, 90, 100):
        data = jpeg(picture, "444", quality)
        case.holds(np.asarray(Image.open(io.BytesIO(data))), "jpeg", data)
    for more in ({"restart_marker_blocks": 2}, {"restart_marker_rows": 1}, {"optimize": True}, {"comment": "x" * 99}):
        data = jpeg(picture, "444", **more)
        case.holds(np.asarray(Image.open(io.BytesIO(data))), "jpeg", data)
    data = jpeg(picture[..., 1])
    case.holds(np.repeat(np.asarray(Image.open(io.BytesIO(data)))[..., None], 3, 2), "jpeg", data)
    big = photo(h + h % 2, w + w % 2, 1)
    for more in ({}, {"restart_marker_blocks": 3}):
        data = jpeg(big, "420", **more)
        case.holds(replicated(data)[:h, :w], "jpeg", data)


def test_jpeg_of_two_samplings_apart(case):
    """4:2:2, and 4:4:0 made of it: chroma that does not change along what is halved needs no smoothing."""
    h, w, _ = case.shape
    rng, (n, m) = np.random.default_rng(0), (-(-w // 8), -(-h // 16))
    ycc = rng.integers(60, 180, (2 * m * 8, 16 * n, 3)).astype(np.uint8)
    ycc[..., 1:] = rng.integers(90, 160, (len(ycc), 1, 2))
    data = jpeg(Image.fromarray(ycc, "YCbCr"), "422")
    case.holds(np.asarray(Image.open(io.BytesIO(data)))[:h, :w], "jpeg", data)
    ycc = ycc[: m * 8]
    ycc[..., 1:] = (140, 100)
    data = jpeg(Image.fromarray(ycc, "YCbCr"), "422")
    frame = data.index(b"\xff\xc0")
    turned = bytearray(data)
    turned[frame + 5 : frame + 9] = (16 * m).to_bytes(2, "big") + (8 * n).to_bytes(2, "big")
    turned[frame + 11] = 0x12
    image = Image.open(io.BytesIO(turned))
    assert image.size == (8 * n, 16 * m)
    case.holds(np.asarray(image)[:h, :w], "jpeg", bytes(turned))


def test_jpeg_reduced_and_cropped(case):
    h, w, _ = case.shape
    for reduce, row, column in ((1, 16, 32), (1, 5, 11), (2, 3, 0), (4, 0, 9), (8, 1, 2)):
        high, wide = (2 * reduce * (n // 2 + 2) for n in (h + row, w + column))
        big = photo(high, wide, reduce)
        where = np.s_[row : row + h, column : column + w]
        settings = {"REDUCE": reduce, "ROW": row, "COLUMN": column}
        data = jpeg(big, "420")
        case.holds(replicated(data, reduce)[where], "jpeg", data, **settings)
        data = jpeg(big, "444")
        full = planes(data)
        case.holds(to_rgb(*(mean(full[..., i], reduce) for i in range(3)))[where], "jpeg", data, **settings)


def test_bands_of_the_generator_suffice(case):
    """And one byte less is an error."""
    h, w, _ = case.shape
    sizes, picture = callbacks.callback_bytes(case.plan), photo(h, w)
    for sampling in ("444", "420", "422"):
        data, band = jpeg(picture, sampling), sizes[f"jpeg_{sampling}"] - callbacks.CONTEXT["jpeg"]
        assert case.run("jpeg", data, BAND=band)[2] == OK
        assert case.run("jpeg", data, BAND=band - 1)[2] == BAND


def test_a_row_that_is_gone_is_an_error(case):
    """The row above those that are kept, asked for once the picture is read."""
    h, w, _ = case.shape
    lines, file = raw565(photo(h, w))[0], jpeg(photo(h, w))
    tiles, _, error = case.run("lines", lines)
    bottom = max(y + tile.shape[0] for y, _, tile in tiles)
    assert error == OK and case.run("lines", lines, AGAIN=tiles[-1][0] - 1)[2] == PASSED
    kept = -(-bottom // 8) * 8 - callbacks.kept_rows(case.plan, 8)
    assert case.run("jpeg", file, AGAIN=kept)[2] == OK and case.run("jpeg", file, AGAIN=kept - 1)[2] == ORDER


def test_jpegs_that_are_refused(case):
    h, w, _ = case.shape
    picture = photo(h, w)
    data = jpeg(picture)
    cmyk, frame, scan = Image.fromarray(picture).convert("CMYK"), data.index(b"\xff\xc0"), data.index(b"\xff\xda")

    def patched(at, byte):
        return data[:at] + bytes([byte]) + data[at + 1 :]

    wrong = [
        (jpeg(picture, progressive=True), UNSUPPORTED),
        (jpeg(cmyk), UNSUPPORTED),
        (jpeg(picture, keep_rgb=True), UNSUPPORTED),
        (patched(frame + 1, 0xC9), UNSUPPORTED),  # arithmetic
        (patched(frame + 4, 12), UNSUPPORTED),  # bits
        (patched(frame + 11, 0x41), UNSUPPORTED),  # 4:1:1
        (patched(scan + 4, 1), CORRUPT),
        (jpeg(picture[: h - 1]), SIZE),
        (data[: scan + 30], END),
        (data[:40], END),
        (b"", END),
        (b"GIF89a" + data, CORRUPT),
        (data[: scan + 14] + b"\xff\xd9", CORRUPT),
    ]
    for i, (file, error) in enumerate(wrong):
        tiles, _, got = case.run("jpeg", file)
        assert got == error, i
        assert not any(tile.any() for *_, tile in tiles)


def damaged(rng, data: bytes) -> bytes:
    """Cut, or with bytes and bits changed, most of them in the header."""
    if rng.random() < 0.2:
        return data[: rng.integers(len(data))]
    broken = bytearray(data)
    for _ in range(rng.integers(1, 6)):
        at = int(rng.integers(len(data) if rng.random() < 0.5 else min(len(data), 700)))
        broken[at] = broken[at] ^ 1 << rng.integers(8) if rng.random() < 0.5 else rng.integers(256)
    return bytes(broken)


def fuzz(case, count: int, seed: int) -> np.ndarray:
    """Errors of so many damaged files; the sanitizers watch."""
    rng, (h, w, _) = np.random.default_rng(seed), case.shape
    whole = [jpeg(photo(h, w), s, 70, restart_marker_blocks=r) for s in SUBSAMPLING for r in (0, 3)] + [
        jpeg(photo(h, w)[..., 0])
    ]
    files = [damaged(rng, whole[i % len(whole)]) for i in range(count)]
    (case.folder / "files").write_bytes(b"".join(len(f).to_bytes(4, "little") + f for f in files))
    done = subprocess.run([case.folder / "host", "fuzz", "files"], cwd=case.folder, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()[-3000:]
    errors = np.frombuffer(done.stdout, np.int32)
    assert len(errors) == count
    return errors


def test_damaged_jpegs(case):
    assert {OK, END, CORRUPT, UNSUPPORTED} <= set(fuzz(case, 1500, 0).tolist())


def vww1(shared, folder):
    """mcunet-vww1 under its plan of the least SRAM: (plan, model, folder of its C)."""
    model = load_onnx(shared / "models/vww1/vww1_int8_qlinear.onnx")
    p = plan(model.graph, Schedule((6, 3), 14), halo="cache")
    return p, model, write_sources(p, model, folder)


def test_bytes_of_the_callbacks(shared, tmp_path):
    """callback_bytes says what the compiler of a 32-bit core reserves."""
    p, _, folder = vww1(shared, tmp_path)
    sizes = callbacks.callback_bytes(p)
    wanted = {"lines": "sizeof(mcu_lines)", "rgb565": "sizeof(mcu_frame_bytes)", "frame": "sizeof(mcu_frame)"}
    wanted |= {f"jpeg_{s}": f"sizeof(mcu_jpeg) + MCU_JPEG_BAND_{s.upper()}" for s in callbacks.HALVES}
    headers = "".join(f'#include "{name}.h"\n' for name in ("frame", "mcu_frames", "mcu_lines", "mcu_jpeg"))
    checks = "".join(f'_Static_assert({size} == {sizes[name]}, "{name}");\n' for name, size in wanted.items())
    (folder / "check.c").write_text(headers + checks)
    flags = [*toolchain.core_flags("cortex-m4"), "-I.", "-Ipictures", "-c", "check.c"]
    subprocess.run(["arm-none-eabi-gcc", *toolchain.WARNINGS, *flags], cwd=folder, check=True)
    assert sizes["lines"] == 52 + 22 * 80 * 2 and sizes["jpeg_420"] == 1400 + 32 * 80 * 3 // 2


def test_the_examples_of_the_documentation_compile(shared, tmp_path):
    """And its table has the figures of the plan that it names."""
    p, _, folder = vww1(shared, tmp_path)
    text = (ROOT / "docs/c.md").read_text()
    examples = [e for e in re.findall(r"```c\n(.*?)```", text, re.DOTALL) if "letterbox" not in e]
    assert len(examples) == 5
    flags = [*toolchain.core_flags("cortex-m7"), "-I.", "-Ipictures", f"-I{ROOT / 'tests/stubs'}", "-c"]
    for i, example in enumerate(examples):
        (folder / f"example{i}.c").write_text(example)
        subprocess.run(["arm-none-eabi-gcc", *toolchain.WARNINGS, *flags, f"example{i}.c"], cwd=folder, check=True)
    sizes = callbacks.callback_bytes(p)
    table = re.findall(r"^\| .* \| ([\d,]+) \|$", text, re.MULTILINE)
    order = ("frame", "rgb565", "lines", "jpeg_grey", "jpeg_420", "jpeg_422", "jpeg_440", "jpeg_444")
    assert table == [f"{sizes[name]:,}" for name in order]


def on_board(folder: Path, board, data: bytes, kind: str) -> tuple[dict, dict]:
    """(run, sizes) of vww1 on an emulated board that reads its picture by a ready callback."""
    (folder / "data").write_bytes(data)
    (folder / "data.S").write_text(
        '.section .picture, "a"\n.global data, data_end\ndata:\n.incbin "data"\ndata_end:\n'
        '.section .note.GNU-stack, "", %progbits\n'
    )
    sources = [
        *folder.glob("*.c"),
        *folder.glob("pictures/mcu_*.c"),
        folder / "data.S",
        ROOT / "tests/pictures_board.c",
    ]
    sources += [toolchain.RUNTIME / name for name in ("startup.c", "mps2.c")]
    sizes = {"FLASH_BYTES": board.flash, "SRAM_BYTES": board.sram, "STACK_BYTES": 2048}
    flags = [*toolchain.core_flags(board.core), *(f"-Wl,--defsym={name}={value}" for name, value in sizes.items())]
    flags += [
        *MACHINES[emulator.machine(board)].defines,
        *MACHINES[emulator.machine(board)].link,
        "-I.",
        "-Ipictures",
        f"-I{toolchain.RUNTIME}",
        f"-DSOURCE={kind}",
    ]
    elf = folder / f"{kind}.elf"
    command = ["arm-none-eabi-gcc", *toolchain.WARNINGS, *flags, *map(str, sources), "-o", str(elf)]
    subprocess.run(command, cwd=folder, check=True)
    return emulator.run_emulated(elf, board), elf_report(elf)


@pytest.mark.parametrize("kind", ["JPEG", "LINES"])
def test_vww1_from_a_jpeg_or_camera_in_32_kb(shared, tmp_path, kind):
    """Arena, stack, ring or band and all other data of a Cortex-M4 in 32 KiB, and the reference's output."""
    p, model, folder = vww1(shared, tmp_path)
    picture = photo(80, 80)
    data = {"JPEG": jpeg(picture, "420"), "LINES": raw565(picture)[0]}[kind]
    meaning = {"JPEG": lambda: replicated(data), "LINES": lambda: raw565(picture)[1]}[kind]()
    run, sizes = on_board(folder, get_board("F412"), data, kind)
    expected = reference.run(p, model, (meaning.astype(np.int16) - 128).astype(np.int8))
    assert np.array_equal(run["outputs"][0], expected[model.graph.outputs[0]].ravel())
    assert p.arena + run["stack_bytes"] + sizes["data_bytes"] <= 32 * 1024


@pytest.mark.slow
def test_many_damaged_jpegs(case):
    fuzz(case, 100_000, 1)


@pytest.mark.slow
def test_many_plans(tmp_path):
    for seed in range(100, 160):
        case = random_case(seed, tmp_path)
        h, w, _ = case.shape
        data, meaning = raw565(photo(h, w))
        case.holds(meaning, "lines", data)
        case.holds(meaning, "lines", data, AHEAD=2, FRAMES=100)
        data = jpeg(photo(h + h % 2, w + w % 2), "420")
        case.holds(replicated(data)[:h, :w], "jpeg", data)

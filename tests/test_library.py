"""The generated library in other people's firmware: C++, two models and one arena, any flags, no warnings."""

import re
import shutil
import subprocess
from dataclasses import replace

import numpy as np
import pytest
from cases import Case, detector
from conftest import ROOT
from nets import random_model
from test_names import equals_reference, patched

from nni_mcunet.core.boards import CORES, get_board
from nni_mcunet.core.errors import UserError
from nni_mcunet.core.ir.graph import Graph, Op, Tensor
from nni_mcunet.core.plan.plan import plan
from nni_mcunet.engine.codegen.sources import KERNELS, write_sources
from nni_mcunet.engine.library import write_library
from nni_mcunet.engine.run import emulator, firmware, toolchain
from nni_mcunet.engine.run.host import SANITIZERS, build_host

STRICT = ["-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Wsign-conversion", "-Wshadow", "-Werror"]
ARM = ["-mcpu=cortex-m4", "-mthumb", "-mfloat-abi=hard"]


def detectors() -> list[Case]:
    """A YOLOv3, a YOLOX and an S3FD whose maps are full of boxes."""
    found = {}
    for number in range(99):
        rng = np.random.default_rng(number)
        graph, meta = detector(rng)
        meta["detector"] |= {"score_thr": 0.0} | ({"conf_thr": 0.0} if "conf_thr" in meta["detector"] else {})
        image = graph.inputs[0]
        picture = rng.integers(0, 256, (image.h, image.w, 3)).astype(np.uint8)
        model = replace(random_model(rng, graph), meta=meta)
        found.setdefault(meta["detector"]["type"], Case(plan(graph), model, picture))
        if len(found) == 3:
            return [found[kind] for kind in ("yolov3", "yolox", "s3fd")]
    raise AssertionError("no detectors of all types")


@pytest.fixture(scope="module")
def each():
    return detectors()


@pytest.fixture(scope="module")
def pair(each):
    return each[:2]


# Two models, each on its own picture, by the ready callback of each; in C and in C++. The outputs go to stdout.
BOTH = """
#include "a_model.h"
#include "b_model.h"
#include "a_frame.h"
#include "b_frame.h"
#include <stdio.h>
#if defined(MCU_SHARED_ARENA)
int8_t MCU_SHARED_ARENA[A_ARENA_BYTES > B_ARENA_BYTES ? A_ARENA_BYTES : B_ARENA_BYTES];
extern char aligned[__alignof__(MCU_SHARED_ARENA) == 8 ? 1 : -1];
#endif
static const uint8_t first[] = {FIRST}, second[] = {SECOND};
static mcu_box boxes[A_MOST_BOXES + B_MOST_BOXES + 2];

#define RUN(p, P, pixels)                                                                         \\
    do {                                                                                          \\
        p##_frame frame = {pixels, P##_INPUT_W};                                                  \\
        p##_run(p##_read_frame, &frame);                                                          \\
        for (int i = 0; i < P##_OUTPUTS; i++)                                                     \\
            fwrite(p##_output(i), 1, (size_t)p##_output_bytes(i), stdout);                        \\
        if (p##_output(-1) || p##_output(P##_OUTPUTS) || p##_output_bytes(-1) || p##_output_bytes(P##_OUTPUTS)) \\
            return 1;                                                                             \\
        if (p##_detect(boxes + 1, 0) || p##_detect(boxes + 1, -1) || p##_detect(0, 0) || p##_detect(0, 9)) \\
            return 2;                                                                             \\
        if (p##_detect(boxes + 1, 1) != 1 || boxes[0].score || boxes[1].score < 1 || boxes[2].score) \\
            return 3;                                                                             \\
        mcu_boxes none = {boxes + 1, 0, 0, 0, 0};                                                 \\
        mcu_boxes_add(&none, boxes[1]);                                                           \\
        if (none.n || mcu_boxes_nms(boxes + 1, 1, 0, 0) || boxes[0].score)                        \\
            return 4;                                                                             \\
        boxes[1].score = 0;                                                                       \\
    } while (0)

int main(void) {
    for (int turn = 0; turn < 2; turn++) {
        RUN(a, A, first);
        RUN(b, B, second);
    }
    return a_class_names[0] == 0;
}
"""
SANITIZED = ["-O1", *SANITIZERS]


def outputs_of(cases: list[Case], folders, out, language: str, *more: str) -> bytes:
    """Return what BOTH says, compiled as C or C++, with the library as C."""
    a, b = folders
    values = (",".join(map(str, found.picture.ravel())) for found in cases)
    main = out / "main.c"
    main.write_text(BOTH.replace("{FIRST}", f"{{{next(values)}}}").replace("{SECOND}", f"{{{next(values)}}}"))
    include = [f"-I{path}" for folder in {a, b} for path in (folder, folder / "pictures")]
    library = [*a.glob("*.c"), b / "b_model.c", a / "pictures/a_frame.c", b / "pictures/b_frame.c"]
    library = [str(path) for path in dict.fromkeys(library)]
    subprocess.run(["gcc", *toolchain.WARNINGS, *SANITIZED, *more, *include, "-c", *library], cwd=out, check=True)
    compiler = ["g++", "-xc++"] if language.startswith("c++") else ["gcc"]
    command = [*compiler, f"-std={language}", "-Wall", "-Wextra", "-Werror", *SANITIZED, *more, *include, str(main)]
    subprocess.run([*command, "-xnone", *map(str, out.glob("*.o")), "-o", str(out / "both")], check=True)
    return subprocess.run([out / "both"], check=True, capture_output=True).stdout


@pytest.mark.parametrize(
    "where, language, more",
    [("one", "c11", ()), ("one", "c++11", ("-DMCU_SHARED_ARENA=shared",)), ("two", "c++17", ())],
    ids=["one folder", "one arena, C++", "two folders, C++"],
)
def test_two_models_in_one_program(pair, where, language, more, tmp_path):
    """Each gives its own reference's bytes, in turns; nothing is found where there is no room for it."""
    folders = [tmp_path / ("fw" if where == "one" else name) for name in ("a", "b")]
    for found, folder, prefix in zip(pair, folders, "ab", strict=True):
        write_sources(found.plan, found.model, folder, prefix)
    out = tmp_path / "out"
    out.mkdir()
    said = np.frombuffer(outputs_of(pair, folders, out, language, *more), np.int8)
    both = said.reshape(2, -1)
    assert np.array_equal(both[0], both[1])
    for found in pair:
        sizes = [found.plan.graph.tensors[name].size for name in found.plan.graph.outputs]
        own, said = np.split(said, [sum(sizes)])
        equals_reference(found.plan, found.model, found.picture, np.split(own, np.cumsum(sizes)[:-1]))
    symbols = subprocess.run(["nm", out / "both"], capture_output=True, text=True, check=True).stdout
    arenas = [name for name in ("a_arena", "b_arena", "shared") if f" {name}\n" in symbols]
    assert arenas == (["shared"] if more else ["a_arena", "b_arena"])


def test_a_third_model_leaves_the_others(pair, tmp_path):
    """The default one beside two of other prefixes; a run needs to know which."""
    for prefix in ("a", "mcu", "b"):
        write_sources(pair[0].plan, pair[0].model, tmp_path, prefix)
    assert all((tmp_path / f"{prefix}_model.c").is_file() for prefix in ("a", "b", "mcu"))
    with pytest.raises(UserError, match=r"--prefix A: .* holds a model 'a', which has the same macros"):
        write_sources(pair[0].plan, pair[0].model, tmp_path, "A")
    with pytest.raises(UserError, match="holds the models a, b, mcu; generate the one to run into a folder of its own"):
        build_host(tmp_path)


def test_a_model_of_another_prefix_runs_as_the_default_one(each, tmp_path):
    for found in each:
        folder = write_sources(found.plan, found.model, tmp_path / found.model.meta["detector"]["type"], "cam")
        host = build_host(folder)
        equals_reference(found.plan, found.model, found.picture, host.run(found.picture))
        assert len(host.detect())


def test_the_example_of_the_documentation_compiles(pair, tmp_path):
    (example,) = re.findall(r"```cpp\n(.*?)```", (ROOT / "docs/c.md").read_text(), re.DOTALL)
    for found, prefix in zip(pair, ("faces", "scene"), strict=True):
        write_sources(found.plan, found.model, tmp_path, prefix)
    command = f"arm-none-eabi-g++ -std=c++11 -O2 {' '.join(ARM)} -Wall -Wextra -Werror -DMCU_SHARED_ARENA=arena".split()
    command += ["-I.", "-Ipictures", "-c", "-xc++", "-", "-o", "example.o"]
    subprocess.run(command, input=example, text=True, cwd=tmp_path, check=True)
    symbols = toolchain.output("arm-none-eabi-readelf", "-sW", str(tmp_path / "example.o"))
    (arena,) = re.findall(r"(\d+) OBJECT +GLOBAL DEFAULT +\d+ arena$", symbols, re.MULTILINE)
    assert int(arena) == max(found.plan.arena for found in pair)


def test_headers_are_cpp(pair, tmp_path):
    """Each one by itself, in C++ as old as it may be; on the board's core as well."""
    write_library(tmp_path, pair[0].plan, pair[0].model, get_board("stm32f746"), project=True)
    headers = sorted(path for path in tmp_path.rglob("*.h"))
    assert all('extern "C"' in path.read_text() for path in headers if path.name != "config.h") and len(headers) > 20
    include = ["-I.", "-Ipictures", "-Iboard"]
    text = "".join(f'#include "{path.relative_to(tmp_path)}"\n' for path in headers if path.name != "mcu_weights.h")
    for command in (["g++", "-std=c++11"], ["g++", "-std=c++17"], ["arm-none-eabi-g++", "-std=c++11", "-O2", *ARM]):
        done = subprocess.run(
            [*command, "-Wall", "-Wextra", "-Wno-unused-function", "-Werror", *include, "-fsyntax-only", "-xc++", "-"],
            input=text, text=True, cwd=tmp_path, capture_output=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("compiler", ["gcc", "clang", "arm-none-eabi-gcc"])
def test_no_warnings(pair, compiler, tmp_path):
    write_library(tmp_path, pair[0].plan, pair[0].model, get_board("stm32f746"), project=True)
    cross, sources = "arm" in compiler, [*tmp_path.glob("*.c"), *tmp_path.glob("pictures/*.c")]
    more = ["-O2", *ARM, "-Iboard"] if cross else []
    sources += tmp_path.glob("board/*.c") if cross else []
    for standard in ("c11", "c17"):
        command = [compiler, f"-std={standard}", *STRICT, *more, "-I.", "-Ipictures", "-fsyntax-only"]
        done = subprocess.run([*command, *map(str, sources)], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


def test_unoptimised_code_says_so():
    command = ["arm-none-eabi-gcc", "-std=c11", *ARM, "-Werror", "-fsyntax-only", KERNELS / "mcu_conv.c"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode and "compiled at -O0" in done.stderr
    for more in ("-O1", "-Og", "-DMCU_UNOPTIMISED"):
        subprocess.run([*command, more], check=True)


def every_convolution() -> Case:
    """One network of all that has assembly: point-wise of odd sizes, dense, depth-wise of every size, residuals."""
    rng, image, ops = np.random.default_rng(0), Tensor("image", 19, 21, 3), []

    def add(name, cout, k=1, s=1, groups=1, residual=None):
        read = ops[-1].name if ops else "image"
        pad = (k // 2,) * 4
        ops.append(Op(name, "conv", (read,), cout, (k, k), (s, s), pad, groups, "relu6", residual, block=len(ops)))

    add("stem", 13, 3, 2)
    add("wide", 24)
    for k in (3, 5, 7):
        add(f"dw{k}", 24, k, 1, 24)
        add(f"pw{k}", 24, residual=f"dw{k}")
    add("dense", 9, 3)
    add("grow", 16)
    for k in (3, 5, 7):
        add(f"half{k}", 16, k, 2, 16)
    add("group", 20, 1, 1, 4)
    add("thin", 5)
    add("last", 3)
    graph = Graph("all", (image,), tuple(ops), ("last",)).verify()
    return Case(plan(graph), random_model(rng, graph), rng.integers(0, 256, (19, 21, 3)).astype(np.uint8))


FLAGS = {
    "frame pointer": "-O1 -fno-omit-frame-pointer", "r9": "-O2 -ffixed-r9", "pic": "-O2 -fPIC",
    "all kept": "-O2 -fno-omit-frame-pointer -ffixed-r9 -fPIC -fstack-protector-all -funroll-loops",
    "lto": "-O3 -flto -funroll-loops", "small": "-Os -fno-omit-frame-pointer", "plain": "-O2 -DMCU_NO_ASSEMBLY",
    "aligned": "-O2 -mno-unaligned-access", "debug": "-Og -fno-inline", "none": "-O0 -DMCU_UNOPTIMISED",
    "unrolled": "-O3 -funroll-all-loops -finline-limit=10000 -fno-omit-frame-pointer -ffixed-r9",
}  # fmt: skip
QUICK = [
    ("cortex-m4", "all kept"),
    ("cortex-m7", "lto"),
    ("cortex-m4", "plain"),
    ("cortex-m3", "debug"),
    ("cortex-m0plus", "small"),
]
# The flags call these, in place of a C library's.
GUARD = """#include <stdint.h>
uintptr_t __stack_chk_guard = 7;
void __stack_chk_fail(void);
void __stack_chk_fail(void) {}
"""


def exact_under(core: str, flags: str, folder, monkeypatch) -> None:
    found, board = every_convolution(), replace(get_board("F412"), core=core, qemu=None)
    floats = "hard" if CORES[core].fpu else "soft"
    write_sources(found.plan, found.model, folder)
    (folder / "guard.c").write_text(GUARD)

    def core_flags(name):
        cpu = [
            f"-mcpu={name}",
            "-mthumb",
            f"-mfloat-abi={floats}",
            *(["-DMCU_DUAL_ISSUE"] if CORES[core].pairs else []),
        ]
        return [*flags.split(), *cpu, "-nostartfiles", "-Wl,--gc-sections"]

    monkeypatch.setattr(firmware, "core_flags", core_flags)
    elf = firmware.build_firmware(folder, replace(board, flash=1 << 20), found.picture)
    equals_reference(found.plan, found.model, found.picture, emulator.run_emulated(elf, board)["outputs"])


@pytest.mark.parametrize("core, flags", QUICK)
def test_any_flags_give_the_same_bytes(core, flags, tmp_path, monkeypatch):
    exact_under(core, FLAGS[flags], tmp_path, monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("core", list(CORES))
@pytest.mark.parametrize("flags", FLAGS)
def test_all_flags_give_the_same_bytes(core, flags, tmp_path, monkeypatch):
    exact_under(core, FLAGS[flags], tmp_path, monkeypatch)


KEPT = "-fstack-protector-all -finstrument-functions -pg --coverage"


@pytest.mark.parametrize("flags", ["unrolled", "all kept", "frame pointer"])
def test_assembly_has_its_functions_to_itself(flags, tmp_path):
    """It compiles, only functions that restore a fixed r9 name it, and nothing stands before the assembly."""
    command = ["arm-none-eabi-gcc", "-std=c11", *ARM, *FLAGS[flags].split(), *KEPT.split(), "-S", "-o", "-"]
    for name in ("mcu_conv.c", "mcu_dw_dsp.c"):
        done = subprocess.run([*command, KERNELS / name], check=True, capture_output=True, text=True, cwd=tmp_path)
        text = done.stdout
        functions = [f.split(".size")[0] for f in text.split("@ args = ")[1:]]
        naked = [f for f, before in zip(functions, text.split("@ args = "), strict=False) if "Naked" in before[-200:]]
        first = [next(line for line in f.splitlines()[2:] if line[:1] == "\t" and line[1] not in ".@") for f in naked]
        assert naked and all(line.startswith("\tpush {r4-r") for line in first), first
        if "-ffixed-r9" in FLAGS[flags]:
            assert all("push {r4-r11, r14}" in f and "pop {r4-r11, pc}" in f for f in functions if "r9" in f)


def test_kernels_of_clang(tmp_path):
    """The assembly is clang's, too."""
    if not shutil.which("clang"):
        pytest.skip("clang is not installed: tools/install.sh does it")
    command = ["clang", "--target=arm-none-eabi", "-std=c11", "-O2", *ARM, *STRICT, "-isystem/usr/include/newlib"]
    for name in ("mcu_conv.c", "mcu_dw_dsp.c", "mcu_eltwise.c"):
        subprocess.run([*command, "-c", KERNELS / name, "-o", tmp_path / "x.o"], check=True)
        subprocess.run([*command, "-DMCU_DUAL_ISSUE", "-c", KERNELS / name, "-o", tmp_path / "x.o"], check=True)


def test_a_project_of_another_prefix(tmp_path):
    """It is built as it is and with -flto; whatever else lies in the folder stays out of it."""
    p, model, picture = patched(0, ["first"])
    write_library(tmp_path, p, model, get_board("stm32f746"), True, picture, "cam")
    (tmp_path / "my $(HOME) file.c").write_text("#error not of the model\n")
    write_library(tmp_path, p, model, get_board("stm32f746"), True, picture, "cam")
    assert "cam_model.h" in (tmp_path / "README.txt").read_text()
    subprocess.run(["make", "-s", "build/firmware.elf"], cwd=tmp_path, check=True)
    shutil.rmtree(tmp_path / "build")
    makefile = (tmp_path / "Makefile").read_text()
    (tmp_path / "Makefile").write_text(makefile.replace("FLAGS = -O2", "FLAGS = -O2 -flto"))
    subprocess.run(["make", "-s", "build/firmware.elf"], cwd=tmp_path, check=True)

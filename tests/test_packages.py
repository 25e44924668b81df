"""mcunet package: the library as Arduino, PlatformIO, Zephyr and CMSIS-Pack have it, compiled as these would."""

import re
import shutil
import subprocess
import zipfile
from pathlib import Path
from xml.etree import ElementTree

import kconfiglib
import numpy as np
import pytest
import yaml
from platformio.package.manifest.parser import ManifestParserFactory
from platformio.package.manifest.schema import ManifestSchema
from test_library import ARM, detectors

from nni_mcunet.cli.main import main
from nni_mcunet.core.boards import get_board
from nni_mcunet.core.errors import UserError
from nni_mcunet.engine.library import write_library
from nni_mcunet.engine.packages import LAYOUTS, package
from nni_mcunet.engine.run.host import build_host

NAMES = {"mcu": "mcunet", "faces": "mcunet_faces"}


@pytest.fixture(scope="module", params=sorted(NAMES))
def library(request, tmp_path_factory):
    """A detector as mcunet generate writes it: (folder, prefix, its outputs of a grey picture)."""
    case, folder = detectors()[0], tmp_path_factory.mktemp("library")
    write_library(folder, case.plan, case.model, get_board("stm32f412"), prefix=request.param)
    host = build_host(folder)
    grey = np.full_like(case.picture, 128)
    return folder, request.param, [output.tobytes() for output in host.run(grey)]


@pytest.fixture
def packed(library, tmp_path):
    """Makes a package of a kind and returns its folder."""
    folder, prefix, _ = library

    def make(kind):
        assert package(folder, kind, tmp_path / "lib") == NAMES[prefix]
        return tmp_path / "lib"

    return make


@pytest.mark.parametrize("kind", sorted(LAYOUTS))
def test_the_c_is_the_librarys(packed, library, kind):
    folder, out = library[0], packed(kind)
    sources = {path.name: path.read_bytes() for path in (out / "src").iterdir()}
    assert sources == {
        path.name: path.read_bytes() for path in [*folder.glob("*.[ch]"), *folder.glob("pictures/*.[ch]")]
    }
    texts = [path.read_text() for path in out.rglob("*") if path.is_file() and path.suffix not in (".c", ".h", ".pack")]
    assert not any("$" in text.replace("${CMAKE_CURRENT_SOURCE_DIR}", "").replace("$ENV", "") for text in texts)
    assert packed(kind) == out  # over its own


def test_arduino_compiles_it(packed, library, tmp_path):
    """As the Arduino builder does: each file of src/ by itself, the sketch as C++ behind Arduino.h."""
    out, prefix = packed("arduino"), library[1]
    (tmp_path / "Arduino.h").write_text(
        '#pragma once\n#include <stddef.h>\nextern "C" unsigned long millis(); extern "C" void delay(unsigned long);\n'
        "struct Port { void begin(long); template <class T> void print(T); template <class T> void println(T); };\n"
        "extern Port Serial;\n"
    )
    flags = ["-Os", "-ffunction-sections", "-fdata-sections", *ARM, f"-I{out / 'src'}", f"-I{tmp_path}", "-c"]
    for source in sorted((out / "src").glob("*.c")):
        subprocess.run(["arm-none-eabi-gcc", "-std=gnu11", "-w", *flags, source, "-o", tmp_path / "x.o"], check=True)
    sketch = out / "examples/run/run.ino"
    command = ["arm-none-eabi-g++", "-std=gnu++11", *flags, "-Wall", "-Werror", "-xc++", sketch, "-o", tmp_path / "x.o"]
    subprocess.run(command, check=True)
    assert f"{prefix}_run(read_picture" in sketch.read_text()


def test_platformio_takes_both_manifests(packed, library):
    out = packed("arduino")
    for name in ("library.json", "library.properties"):
        found = ManifestSchema().load_manifest(ManifestParserFactory.new_from_file(str(out / name)).as_dict())
        assert found["name"] == NAMES[library[1]] and found["version"] == "0.1.0"
        assert found["headers"] == [f"{library[1]}_model.h"]


# Zephyr's own CMake is a gigabyte. These are the four functions of it that the module calls, with their meaning.
ZEPHYR = """
project(Zephyr-Kernel C)
add_executable(app)
function(zephyr_library_named name)
  add_library(${name} STATIC)
  set(ZEPHYR_CURRENT_LIBRARY ${name} PARENT_SCOPE)
endfunction()
function(zephyr_library_sources)
  foreach(source ${ARGN})
    target_sources(${ZEPHYR_CURRENT_LIBRARY} PRIVATE ${CMAKE_CURRENT_SOURCE_DIR}/${source})
  endforeach()
  target_link_libraries(app PRIVATE ${ZEPHYR_CURRENT_LIBRARY})
endfunction()
function(zephyr_library_compile_options)
  target_compile_options(${ZEPHYR_CURRENT_LIBRARY} PRIVATE ${ARGN})
endfunction()
function(zephyr_include_directories)
  foreach(folder ${ARGN})
    include_directories(${CMAKE_CURRENT_SOURCE_DIR}/${folder})
    target_include_directories(app PRIVATE ${CMAKE_CURRENT_SOURCE_DIR}/${folder})
  endforeach()
endfunction()
file(STRINGS ${CMAKE_CURRENT_SOURCE_DIR}/prj.conf lines REGEX "^CONFIG_")
foreach(line ${lines})
  string(REGEX MATCH "^([A-Z0-9_a-z]+)=(.*)$" found ${line})
  set(${CMAKE_MATCH_1} ${CMAKE_MATCH_2})
endforeach()
foreach(module ${ZEPHYR_EXTRA_MODULES})
  get_filename_component(module ${module} REALPATH)
  add_subdirectory(${module} ${CMAKE_BINARY_DIR}/module)
endforeach()
"""


def test_zephyr_builds_the_sample(packed, library, tmp_path, monkeypatch):
    """module.yml, Kconfig and both CMakeLists.txt, with this machine's compiler: it prints the library's output."""
    out, name = packed("zephyr"), NAMES[library[1]]
    module = yaml.safe_load((out / "zephyr/module.yml").read_text())
    assert module == {"name": name, "build": {"cmake": ".", "kconfig": "zephyr/Kconfig"}}
    kconfig = kconfiglib.Kconfig(str(out / module["build"]["kconfig"]))
    sample = out / "samples/run"
    option = name.upper()
    assert f"CONFIG_{option}=y" in (sample / "prj.conf").read_text().splitlines() and option in kconfig.syms
    assert yaml.safe_load((sample / "sample.yaml").read_text())["sample"]["name"] == name
    for path, text in {
        "zephyr/cmake/ZephyrConfig.cmake": ZEPHYR,
        "include/zephyr/kernel.h": "#include <stdio.h>\n#define printk printf\n",
    }.items():
        (tmp_path / path).parent.mkdir(parents=True)
        (tmp_path / path).write_text(text)
    monkeypatch.setenv("ZEPHYR_BASE", str(tmp_path / "zephyr"))
    build = ["cmake", "-S", sample, "-B", tmp_path / "build", f"-DCMAKE_C_FLAGS=-I{tmp_path}/include"]
    subprocess.run(build, check=True, capture_output=True)
    subprocess.run(["cmake", "--build", tmp_path / "build"], check=True, capture_output=True)
    said = subprocess.run([tmp_path / "build/app"], check=True, capture_output=True, text=True).stdout
    expected = np.frombuffer(library[2][0], np.int8)[:10]
    assert [int(line) for line in said.split()] == expected.tolist()


def test_a_cmsis_pack_names_its_files(packed, library, tmp_path):
    out, name = packed("cmsis-pack"), NAMES[library[1]]
    root = ElementTree.parse(out / f"mcunet.{name}.pdsc").getroot()
    assert [root.find(tag).text for tag in ("vendor", "name")] == ["mcunet", name]
    version = root.find("releases/release").get("version")
    (component,) = root.findall("components/component")
    assert {key: component.get(key) for key in ("Csub", "Cversion")} == {"Csub": name, "Cversion": version}
    files = {entry.get("name"): entry.get("category") for entry in component.findall("files/file")}
    assert files.pop("src/") == "include"
    assert set(files) == {f"src/{path.name}" for path in (out / "src").iterdir()}
    assert {Path(path).suffix: kind for path, kind in files.items()} == {".c": "source", ".h": "header"}
    with zipfile.ZipFile(out / f"mcunet.{name}.{version}.pack") as archive:
        archive.extractall(tmp_path)
    assert (tmp_path / f"mcunet.{name}.pdsc").exists()
    for path in files:
        assert (tmp_path / path).read_bytes() == (out / path).read_bytes()


def test_wrong_words_are_one_line(library, tmp_path):
    folder, prefix, _ = library
    for name, version, message in (
        ("9 lives", "1.0.0", "--name is '9 lives'"),
        ("x", "1.0", "--version is '1.0'"),
        ("x", "1.0.0\n", "--version is '1.0.0\\n'"),
    ):
        with pytest.raises(UserError, match=re.escape(message)):
            package(folder, "zephyr", tmp_path / "out", name, version)
    assert not (tmp_path / "out").exists()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/notes.txt").write_text("mine")
    with pytest.raises(UserError, match="is not empty"):
        package(folder, "arduino", tmp_path / "mine")
    with pytest.raises(UserError, match=r"no mcu_model\.h"):
        package(tmp_path / "mine", "arduino", tmp_path / "out")
    shutil.copytree(folder, tmp_path / "project")
    case = detectors()[0]
    write_library(tmp_path / "project", case.plan, case.model, get_board("stm32f412"), project=True, prefix=prefix)
    with pytest.raises(UserError, match="without --project"):
        package(tmp_path / "project", "arduino", tmp_path / "out")


def test_the_command(library, tmp_path, capsys):
    main(["package", str(library[0]), "--as", "cmsis-pack", "-o", str(tmp_path / "x"), "--name", "mine"])
    assert "cpackget add" in capsys.readouterr().out and (tmp_path / "x/mcunet.mine.0.1.0.pack").exists()

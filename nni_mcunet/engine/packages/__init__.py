"""Lay a generated library out for other people's build systems: an Arduino library, which PlatformIO reads, too, a
Zephyr module, a CMSIS-Pack.

The C is the same in each, file for file, in src/. The other files that a build system asks for are templates here.
"""

import io
import re
import zipfile
from pathlib import Path
from string import Template
from xml.sax.saxutils import escape

from ...core.errors import UserError
from ...core.file_sets import Files, Seal, owned, write_set
from ...core.validate import short
from ..run.generated import header_text, prefix_of
from ..timing.plan_file import planned

HERE = Path(__file__).parent
# format -> the file in the package: its template. $sources is filled in by `layout`.
LAYOUTS = {
    "arduino": {
        "library.properties": "arduino/library.properties",
        "library.json": "arduino/library.json",
        "examples/run/run.ino": "arduino/run.ino",
    },
    "zephyr": {
        "zephyr/module.yml": "zephyr/module.yml",
        "zephyr/Kconfig": "zephyr/Kconfig",
        "CMakeLists.txt": "zephyr/CMakeLists.txt",
        "samples/run/CMakeLists.txt": "zephyr/app.cmake",
        "samples/run/prj.conf": "zephyr/prj.conf",
        "samples/run/sample.yaml": "zephyr/sample.yaml",
        "samples/run/src/main.c": "zephyr/main.c.in",
    },
    "cmsis-pack": {"mcunet.$name.pdsc": "cmsis/pack.pdsc"},
}
LONG_AGO = (1980, 1, 1, 0, 0, 0)  # of the files in a .pack, so that the same library gives the same bytes


def package(library: str | Path, kind: str, out: str | Path, name: str | None = None, version: str = "0.1.0") -> str:
    """Write the library of one model in `library` as a package of `kind`, a key of LAYOUTS, into the folder `out`, and
    return its name. name: of the package, letters, digits and _; default "mcunet", and behind it the model's prefix
    where it has one. Raises UserError for a folder without a library, with several or with a project around it, for a
    name or version that the build systems do not take, and what write_set raises."""
    folder = Path(library)
    prefix = prefix_of(folder)
    if any("board/config.h" in names for names in owned(folder).values()):
        raise UserError(f"{folder} is a firmware of its own: generate it again without --project")
    name = name or ("mcunet" if prefix == "mcu" else f"mcunet_{prefix}")
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]{0,62}", name):
        raise UserError(f"--name is {short(name)}: expected letters, digits and _, such as mcunet_faces")
    if not re.fullmatch(r"\d{1,4}\.\d{1,4}\.\d{1,4}", version):
        raise UserError(f"--version is {short(version)}: expected three numbers, such as 1.0.0")
    paths = [*sorted(folder.glob("*.[ch]")), *sorted(folder.glob("pictures/*.[ch]"))]
    files: Files = {f"src/{path.name}": path.read_bytes() for path in paths}
    files |= _around(kind, _words(folder, prefix, name, version), [path.name for path in paths])
    if kind == "cmsis-pack":
        files[f"mcunet.{name}.{version}.pack"] = _zipped(files)
    first = f"src/{prefix}_model.h"
    write_set(
        out, {kind: files}, Seal(first, f'#error "mcunet package was stopped while it wrote {first}: run it again"\n')
    )
    return name


def _words(folder: Path, prefix: str, name: str, version: str) -> dict[str, str]:
    """Return what templates name."""
    facts = planned(folder)
    found = re.match(r'/\* "((?:[^"\\]|\\.)*)"', header_text(folder, prefix))
    network = re.sub(r'["\\<>&$]|[^ -~]', "_", found[1]) if found else name
    summary = (
        f"Takes {facts['arena_bytes']} bytes of SRAM for its tensors, {facts['constant_bytes']} of flash for weights."
    )
    return {
        "prefix": prefix, "PREFIX": prefix.upper(), "name": name, "NAME": name.upper(), "version": version,
        "network": network, "xml_network": escape(network), "summary": summary,
    }  # fmt: skip


def _around(kind: str, words: dict[str, str], names: list[str]) -> Files:
    """Return the files around src/, whose files are `names`."""
    xml = '        <file category="{}" name="src/{}"/>'
    line = {"zephyr": "    src/{}", "cmsis-pack": xml.format("source", "{}"), "arduino": ""}[kind]
    sources = [line.format(name) for name in names if name.endswith(".c")]
    if kind == "cmsis-pack":
        sources += [xml.format("header", name) for name in names if name.endswith(".h")]
    words |= {"sources": "\n".join(sources)}
    return {
        Template(path).substitute(words): Template((HERE / template).read_text()).substitute(words)
        for path, template in LAYOUTS[kind].items()
    }


def _zipped(files: Files) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        for name in sorted(files):
            archive.writestr(zipfile.ZipInfo(name, LONG_AGO), files[name], zipfile.ZIP_DEFLATED)
    return data.getvalue()

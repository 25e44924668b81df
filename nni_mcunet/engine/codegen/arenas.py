"""Print the arena in C: one array, or one in each region of the board that the plan places buffers in.

An array has a section of its own, so that a linker script may put it where it belongs. A user without such a script
defines the macro of the region, MCU_REGION_DTCM, or gives one array for all, MCU_SHARED_ARENA.
"""

from ...core.plan.plan import Plan
from .names import DEFAULT, Names

# Several models may share one SRAM. An alignment that the header states holds for the array that its user defines, too.
SHARED = "extern int8_t MCU_SHARED_ARENA[] __attribute__((aligned(8))); /* yours, of {P}_ARENA_BYTES or more */\n"


def suffix(region: str) -> str:
    """Return what the names of a region's array and section end with."""
    return f"_{region.lower()}"


def section(prefix: str, region: str = "") -> str:
    """Return the name of the input section of a model's array, or of that in a region."""
    return f".bss.{DEFAULT}_arena{suffix(region) if region else ''}" + f".{prefix}" * (prefix != DEFAULT)


def sizes(plan: Plan, names: Names) -> list[str]:
    """Return the lines that define the sizes, in bytes."""
    macro = names.macro
    lines = [f"#define {macro}_ARENA_BYTES {plan.arena}" + " /* the sum of: */" * bool(plan.parts)]
    return lines + [f"#define {macro}_ARENA_{part.region}_BYTES {part.size}" for part in plan.parts]


def declared(plan: Plan, names: Names) -> str:
    """Return the declarations for the header."""
    p, macro = names.prefix, names.macro
    own = [(f"{p}_arena{suffix(part.region)}", f"{macro}_ARENA_{part.region}_BYTES") for part in plan.parts]
    own = own or [(f"{p}_arena", f"{macro}_ARENA_BYTES")]
    arrays = "".join(f"extern int8_t {name}[{size}];\n" for name, size in own)
    before: list[str] = []
    shared = ""
    for name, size in own:
        sum_ = " + ".join(["MCU_SHARED_ARENA", *before])
        shared += f"#define {name} {f'({sum_})' if before else sum_}\n"
        before.append(size)
    return f"#if !defined(MCU_SHARED_ARENA)\n{arrays}#else\n{shared}{SHARED.format(P=macro)}#endif\n"


def defined(plan: Plan, names: Names) -> str:
    """Return the definitions for the source."""
    p, macro = names.prefix, names.macro
    if not plan.parts:
        how = f'__attribute__((section("{section(p)}"), aligned(8)))'
        return f"#if !defined(MCU_SHARED_ARENA)\n{how} int8_t {p}_arena[{macro}_ARENA_BYTES];\n#endif\n\n"
    text = "#if !defined(MCU_SHARED_ARENA)\n"
    for part in plan.parts:
        where, name = f"MCU_REGION_{part.region}", f"{p}_arena{suffix(part.region)}"
        text += f"#if !defined({where})\n"
        text += f'#define {where} __attribute__((section("{section(p, part.region)}")))\n#endif\n'
        text += f"{where} __attribute__((aligned(8))) int8_t {name}[{macro}_ARENA_{part.region}_BYTES];\n"
    return f"{text}#endif\n\n"


def bases(plan: Plan, names: Names) -> str:
    """Return the lines of mcu_run that name the arrays for `pointer`."""
    parts = [suffix(part.region) for part in plan.parts] or [""]
    return "".join(f"    int8_t *const a{end} = {names.prefix}_arena{end};\n" for end in parts)


def pointer(plan: Plan, offset: int | None, base: str = "a") -> str:
    """Return the C for a byte of the arena: `offset` in the plan's numbering; 0 for None. base: of the names of the
    arrays."""
    if offset is None:
        return "0"
    part = next((part for part in plan.parts if part.at <= offset < part.at + part.size), None)
    return f"{base} + {offset}" if part is None else f"{base}{suffix(part.region)} + {offset - part.at}"


def table(plan: Plan, names: Names, offsets: list[int]) -> tuple[str, str]:
    """Return the C of a table of bytes of the arena, and of the pointer to the one of index i."""
    base = f"{names.prefix}_arena"
    if not plan.parts:
        return f"static const int32_t offset[] = {{{', '.join(map(str, offsets))}}};", f"{base} + offset[i]"
    places = ", ".join(pointer(plan, offset, base) for offset in offsets)
    return f"static const int8_t *const at[] = {{{places}}};", "at[i]"


def sections_ld(regions: dict[str, str]) -> str:
    """Return the part of a linker script's SECTIONS that puts the array of each region, by name, into the memory that
    the script calls so."""
    lines = ["/* The arena by regions: each array of it in the region of its name. */"]
    for region, memory in regions.items():
        own = f".bss.{DEFAULT}_arena{suffix(region)}"
        lines.append(f".arena{suffix(region)} (NOLOAD) : {{ *({own} {own}.*) }} > {memory}")
    return "\n".join(lines) + "\n"

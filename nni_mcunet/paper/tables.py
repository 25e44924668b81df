"""Recompute the paper's tables and figures that need no training.

Every cell has a value to compare with, as printed, its source, ours in as many digits, and a word on each difference.
Unpublished networks keep their rows. "The paper" is MCUNetV2 (arXiv 2110.15352). kB = 1024 bytes of int8, MB = 2^20
bytes of fp32, M = 1e6 multiply-accumulates. mcunet tables writes the cells; this module writes nothing.
"""

from collections.abc import Iterator
from functools import cache
from pathlib import Path

from ..core.ir.arch import ArchSpec, Schedule
from ..core.ir.build import build_graph
from ..core.ir.graph import Graph
from ..core.ir.published import mobilenet_v2
from ..core.plan.plan import Plan, plan
from ..core.types import FilePath
from .detection_tables import table_3, table_4, table_5, table_7
from .figure import AUTHORS, KB, MEASURED, PRINTED, RECOMPUTED, UNPUBLISHED, UNSOURCED, Cell
from .memory_rules import least_peak, paper_plan, tile

RANGE = tuple(range(1, 9))  # n and p of the sweep of Fig. 8


class Paper:
    """The tables over the architectures of a folder (configs/arch). Methods named after a table yield its cells. They
    raise ArchError or FileNotFoundError for an architecture that is not in the folder."""

    def __init__(self, folder: FilePath) -> None:
        self.folder = Path(folder)
        self.graph, self.sweep = cache(self._graph), cache(self._sweep)

    def _graph(self, name: str) -> Graph:
        return build_graph(self.spec(name))

    def spec(self, name: str) -> ArchSpec:
        """Return the architecture `name` of the folder."""
        return ArchSpec.load(self.folder / f"{name}.json")

    def run(self, name: str, p: int = 1, n: int = 0, halo: str = "clip") -> Plan:
        """Return the plan of a network with p x p patches over its first n blocks, by the paper's rule."""
        return paper_plan(self.graph(name), Schedule((p, p), n), halo)

    def cells(self) -> list[Cell]:
        """Return the cells of all tables, in the paper's order."""
        parts = (
            self.figure_1, self.table_1, self.figure_5, self.figure_6, self.figure_8, self.figure_9, self.figure_11,
            self.table_2, lambda: table_3(self.spec), table_4, lambda: table_5(self.graph), self.table_6, table_7,
            self.boards, self.zoo,
        )  # fmt: skip
        return [cell for part in parts for cell in part()]

    def figure_1(self) -> Iterator[Cell]:
        """Yield MobileNetV2 at 224: memory per block, layer by layer and with 4x4 patches over n = 5 blocks."""
        table = "Fig. 1: memory of MobileNetV2, kB"
        whole, patched = self.run("mobilenet_v2").block_peaks(), self.run("mobilenet_v2", 4, 5).block_peaks()
        yield Cell(table, "network", "peak per layer", "1372", f"{max(whole.values()) / KB:.0f}")
        yield Cell(table, "network", "peak per patch", "172", f"{max(patched.values()) / KB:.0f}")
        later = max(whole[b] for b in range(5, 18))
        stage_buffer = 28 * 28 * 32
        rows = [("first convolution", "bytes per layer", "551936", str(whole[0]))]
        for block, reference in enumerate(("539.0", "588.0", "1372.0", "517.6", "514.5")):
            rows.append((f"block {block}", "per layer", reference, f"{whole[block] / KB:.1f}"))
        rows.append(("blocks 5 to 17", "per layer, largest", "172.3", f"{later / KB:.1f}"))
        for block, reference in enumerate(("83.8", "81.9", "158.5", "72.1")):
            rows.append((f"block {block}", "per patch", reference, f"{patched[block] / KB:.1f}"))
        rest = f"{(patched[4] - stage_buffer) / KB:.1f}"
        rows.append(("block 4", "per patch, without the stage's output", "36.9", rest))
        spans = [f"[{s['image'].lo},{s['image'].hi})" for s in self.run("mobilenet_v2", 4, 5).segments[0].spans[0]]
        rows.append(("image", "rows of the patches", "[0,62) [43,118) [99,174) [155,224)", " ".join(spans)))
        for row in rows:
            yield Cell(table, *row, source=RECOMPUTED)

    def table_1(self) -> Iterator[Cell]:
        """Yield the cost of 4x4 patches, and how much less it is after redistribution of the receptive field."""
        table = "Table 1: cost of 4x4 patches"
        tens = "328.69M, +9.28 %, intervals clipped; the paper rounds to tens"
        drawn = "the drawn figure gives 297.89M whole, 306.28M patched (MobileNetV2 itself, unpatched, has 300.77M)"
        for name, n, printed, exact, note in (
            ("mobilenet_v2", 5, ("75x75", "130", "+42", "330", "+10", "1372", "172"),
             ("300.77", "91.28", "129.52", "+41.9", "328.69", "+9.28"), tens),
            ("mobilenet_v2_rd", 4, ("63x63", "73", "+18", "301", "+3", "1372", "172"),
             (None, "61.93", "73.25", "+18.3", "306.28", "+2.82"), drawn),
        ):  # fmt: skip
            full, ours, whole = self.run(name, 4, n, "full"), self.run(name, 4, n), self.run(name)
            own, interior = sum(ours.graph.op_macs(op) for op in ours.segments[0].ops), full.segments[0].macs()
            stage, network = 100 * (interior / own - 1), 100 * ours.overhead
            for what, reference, value in zip(
                ("patch of the image", "patch stage, every patch an interior one, M", "patch stage overhead, %",
                 "network, M", "network overhead, %", "peak per layer, kB", "peak per patch, kB"),
                printed,
                ("x".join(map(str, tile(full, "image"))), f"{interior / 1e6:.0f}", f"{stage:+.0f}",
                 f"{ours.macs / 1e6:.0f}", f"{network:+.0f}", f"{whole.peak / KB:.0f}", f"{ours.peak / KB:.0f}"),
                strict=True,
            ):  # fmt: skip
                yield Cell(table, name, what, reference, value, "" if value == reference else note)
            for what, recomputed, value in zip(
                ("network whole, M", "patch stage whole, M", "patch stage, every patch an interior one, M, exact",
                 "patch stage overhead, %, exact", "network clipped, M", "network overhead clipped, %"),
                exact,
                (f"{ours.graph.macs / 1e6:.2f}", f"{own / 1e6:.2f}", f"{interior / 1e6:.2f}", f"{stage:+.1f}",
                 f"{ours.macs / 1e6:.2f}", f"{network:+.2f}"),
                strict=True,
            ):  # fmt: skip
                unprinted = "" if recomputed else "the paper prints none"
                yield Cell(table, name, what, recomputed or UNSOURCED, value, unprinted, RECOMPUTED)

    def figure_5(self) -> Iterator[Cell]:
        """Yield the peak memory of known networks at 224 with 4x4 patches up to the 28x28 map."""
        table = "Fig. 5: known networks, 4x4 patches"
        for name, n, printed, exact in (
            ("mobilenet_v2", 5, ("8", "+10"), ("1372.0", "172.3", "7.96", "+9.3", "300.77")),
            ("mnasnet_b1", 6, ("3.7", "+17"), ("784.0", "214.4", "3.66", "+16.7", None)),
            ("fbnet_a", 4, (UNSOURCED, "+8"), ("784.0", "171.5", "4.57", "+7.6", "249.92")),
        ):
            whole, ours = self.run(name), self.run(name, 4, n)
            ratio, overhead = whole.peak / ours.peak, 100 * ours.overhead
            note = "" if printed[0] != UNSOURCED else "no figure for this network"
            yield Cell(table, name, "times less", printed[0], f"{ratio:.{'.' in printed[0]:d}f}", note)
            note = "" if f"{overhead:+.0f}" == printed[1] else "Table 1 says why"
            yield Cell(table, name, "overhead, %", printed[1], f"{overhead:+.0f}", note)
            for what, reference, value in zip(
                ("peak per layer, kB", f"peak per patch, kB (n = {n})", "times less, exact", "overhead clipped, %",
                 "MACs, M"),
                exact,
                (f"{whole.peak / KB:.1f}", f"{ours.peak / KB:.1f}", f"{ratio:.2f}", f"{overhead:+.1f}",
                 f"{ours.graph.macs / 1e6:.2f}"),
                strict=True,
            ):  # fmt: skip
                if reference:
                    yield Cell(table, name, what, reference, value, source=RECOMPUTED)
        yield Cell(table, "OFA-CPU", "every column", UNSOURCED, None, UNPUBLISHED)

    def figure_6(self) -> Iterator[Cell]:
        """Yield MobileNetV2 w0.5 at 144 on the STM32F746: the authors' measurement, the rule, and our kernels' plan."""
        table = "Fig. 6: analytic against measured, MobileNetV2 w0.5 at 144 on the F746, kB"
        graph = build_graph(mobilenet_v2(144, 0.5))
        for p, measured in ((1, "315"), (2, "113"), (3, "64")):
            schedule = Schedule((p, p), 5)
            row = f"{p}x{p} patches" if p > 1 else "layer by layer"
            note = "theirs is measured, with their engine's buffers; its n is not in our sources, ours is 5"
            yield Cell(
                table, row, "by the paper's rule", measured, f"{paper_plan(graph, schedule).peak / KB:.1f}", note
            )
            note = "arena of our kernels' plan, no stack, no image; a measurement on the board comes with the engine"
            yield Cell(table, row, "our plan", measured, f"{plan(graph, schedule).arena / KB:.1f}", note)

    def _sweep(self, name: str) -> dict[tuple[int, int], tuple[float, float]]:
        """(p, n) -> (peak in kB, overhead in %), patches clipped at the border."""
        runs = {(p, n): self.run(name, p, n) for p in RANGE for n in RANGE}
        return {key: (run.peak / KB, 100 * run.overhead) for key, run in runs.items()}

    def figure_8(self) -> Iterator[Cell]:
        """Yield the sweep over n and p. The paper prints curves, so the cells are its three statements."""
        table = "Fig. 8: the choice of n and p"
        v2, rd = self.sweep("mobilenet_v2"), self.sweep("mobilenet_v2_rd")
        peaks = [v2[4, n][0] for n in RANGE]
        low = peaks.index(min(peaks))
        falls = peaks[: low + 1] == sorted(peaks[: low + 1], reverse=True) and peaks[low:] == sorted(peaks[low:])
        yield Cell(table, "MobileNetV2, p = 4", "peak falls, then rises with n", "yes", "yes" if falls else "no")
        yield Cell(table, "MobileNetV2, p = 4", "n of the least peak", "5", str(RANGE[low]))
        at_5 = [v2[p, 5][0] for p in RANGE]
        yield Cell(table, "MobileNetV2, n = 5", "smallest p of the least peak", "4", str(RANGE[at_5.index(min(at_5))]))
        grows = all(s[p, n][1] <= s[p + 1, n][1] for s in (v2, rd) for p in RANGE[:-1] for n in RANGE)
        yield Cell(table, "both", "overhead grows with p", "yes", "yes" if grows else "no")
        below = all(rd[p, 4][1] < 0.4 * v2[p, 5][1] for p in RANGE[1:])
        note = "at the cut to the 28x28 map RD has less than 0.4 of MobileNetV2's overhead at every p"
        yield Cell(table, "both", "overhead of RD far below", "yes", "yes" if below else "no", note)

    def figure_9(self) -> Iterator[Cell]:
        """Yield the searched network. It is not public; its first segment is, and ours of this shape share it."""
        table = "Fig. 9: the searched network"
        yield Cell(table, "MCUNetV2", "block list", UNSOURCED, None, UNPUBLISHED)
        field = str(tile(self.run("mcu_w50_r128", 16, 4, "full"), "image")[0])
        yield Cell(table, "mcu_w50_r128 (same patch stage)", "receptive field at stride 8", "15", field)

    def figure_11(self) -> Iterator[Cell]:
        """Yield the savings of Appendix C. It says that patches save 3.5 to 6.1 times; bars show which how much."""
        table, note = "Fig. 11: known networks, patches", "least peak over p <= 4 and every n; theirs are bars"
        for name in ("mnasnet_b1", "fbnet_a", "mcunet_in3"):
            graph = self.graph(name)
            ratio = paper_plan(graph).peak / least_peak(graph).peak
            yield Cell(table, name, "times less", "3.5 to 6.1", f"{ratio:.1f}", note)

    def table_2(self) -> Iterator[Cell]:
        """Yield SRAM, flash and MACs of the searched classifiers."""
        for row, values in (
            ("MCUNetV2 on the F412 (64.9 %)", {"MACs": "119M", "SRAM": "196 kB", "flash": "1010 kB"}),
            ("MCUNetV2 on the H743 (71.8 %)", {"MACs": "256M", "SRAM": "465 kB", "flash": "2032 kB"}),
        ):
            for what, value in values.items():
                yield Cell("Table 2: ImageNet", row, what, value, None, UNPUBLISHED)

    def table_6(self) -> Iterator[Cell]:
        """Yield the baselines on boards: MACs and parameters as MCUNet's authors publish them."""
        table = "Table 6: baselines"
        for name in ("mbv2_w035", "proxyless_w03"):
            yield from self._published(table, name)
            ours = f"{plan(self.graph(name)).arena / KB:.0f}"
            measured = {"proxyless_w03": "259"}.get(name, UNSOURCED)
            note = "theirs is measured on the board; ours is the plan's arena"
            yield Cell(table, name, "SRAM, kB", measured, ours, note, MEASURED)

    def boards(self) -> Iterator[Cell]:
        """Yield what TinyEngine's authors measured on the STM32H743 (its README), and the plan of our kernels."""
        table = "Measured by TinyEngine on the H743"
        note = "theirs is measured on the board; ours is the plan: its arena; its weights and requantisation constants"
        for name, sram, flash, latency in (
            ("mcunet_in0", "49", "842", "25"), ("mcunet_in1", "96", "727", "56"), ("mcunet_in2", "215", "830", "280"),
            ("mcunet_in3", "260", "835", "336"), ("mcunet_in4", "416", "1825", "463"),
            ("proxyless_w03", "259", "779", "176"),
        ):  # fmt: skip
            ours = plan(self.graph(name))
            yield Cell(table, name, "SRAM, kB", sram, f"{ours.arena / KB:.0f}", note, MEASURED)
            yield Cell(table, name, "flash, kB", flash, f"{ours.flash / KB:.0f}", note, MEASURED)
            yield Cell(table, name, "latency, ms", latency, None, "needs the board", MEASURED)
        for name, values in (
            ("vww0", ("59", "453", "27")),
            ("vww1", ("92", "521", "51")),
            ("vww2", ("174", "741", "234")),
        ):
            for what, value in zip(("SRAM, kB", "flash, kB", "latency, ms"), values, strict=True):
                yield Cell(table, name, what, value, None, "its block list is " + UNSOURCED, MEASURED)

    def zoo(self) -> Iterator[Cell]:
        """Yield every network of the zoo with published figures (params: batch normalisation not folded)."""
        for path in sorted(self.folder.glob("*.json")):
            yield from self._published("The zoo", path.stem)

    def _published(self, table: str, name: str) -> Iterator[Cell]:
        graph = self.graph(name)
        ours = {
            "macs_M": graph.macs / 1e6,
            "params_M": graph.trained_params / 1e6,
            "peak_kB": paper_plan(graph).peak / KB,
        }
        for what, printed in self.spec(name).expected:
            value = f"{ours[what]:.{len(printed.partition('.')[2])}f}"
            note = "" if value == printed else f"the published block list gives {ours[what]:.3f}"
            yield Cell(table, name, what, printed, value, note, PRINTED if what == "peak_kB" else AUTHORS)

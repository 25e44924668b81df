"""One figure of the paper beside ours, as tables.py and detection_tables.py recompute them."""

from dataclasses import asdict, dataclass

KB, MB = 1024, 1 << 20
UNPUBLISHED = "not public to our knowledge; the row stays until it is"
UNSOURCED = "not in our sources"

# Where a value to compare with is from.
PRINTED = "paper"  # printed there
RECOMPUTED = "recomputed"  # under the paper's rule, independently of this code; the paper prints fewer digits or a bar
AUTHORS = "authors"  # those of the network, in their own publication
MEASURED = "measured"  # on a board, by TinyEngine's authors


@dataclass(frozen=True)
class Cell:
    """One figure: `paper` the value to compare with, from `source`; `ours`, None where we have none; `note`, a word on
    the difference."""

    table: str
    row: str
    what: str
    paper: str | None
    ours: str | None
    note: str = ""
    source: str = PRINTED

    @property
    def same(self) -> bool:
        return self.paper == self.ours

    def to_dict(self) -> dict:
        return {**asdict(self), "same": self.same}

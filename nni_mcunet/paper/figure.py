"""Hold one figure of the paper and ours, as tables.py and detection_tables.py recompute them. It computes nothing."""

from dataclasses import asdict, dataclass

KB, MB = 1024, 1 << 20
UNPUBLISHED = "not public to our knowledge; the row stays until it is"
UNSOURCED = "not in our sources"

# The source of a value to compare with.
PRINTED = "paper"  # printed in MCUNetV2
RECOMPUTED = "recomputed"  # under the paper's rule, independently of this code; the paper prints fewer digits or a bar
AUTHORS = "authors"  # printed by the authors of the network, in their own publication
MEASURED = "measured"  # measured on a board by TinyEngine's authors


@dataclass(frozen=True)
class Cell:
    """One figure, as text.

    table, row, what  where it stands
    paper             the value to compare with, from `source`; None where there is none
    ours              None where we have none
    note              a word on the difference
    """

    table: str
    row: str
    what: str
    paper: str | None
    ours: str | None
    note: str = ""
    source: str = PRINTED

    @property
    def same(self) -> bool:
        """Whether both are equal to the last digit."""
        return self.paper == self.ours

    def to_dict(self) -> dict[str, str | bool | None]:
        """Return the fields and `same`, for JSON."""
        return {**asdict(self), "same": self.same}

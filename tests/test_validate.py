"""The checks that settings of every kind share."""

import numpy as np
import pytest

from nni_mcunet.core.errors import BoardError, UserError
from nni_mcunet.core.validate import integer


def test_an_integer_within_its_bounds_is_returned():
    assert [integer(v, "n", 1, 3) for v in (1, 2, 3)] == [1, 2, 3]
    assert integer(-(10**30), "n", high=3) == -(10**30) and integer(10**30, "n", low=3) == 10**30


@pytest.mark.parametrize("value", [True, False, 1.0, "1", None, [1], np.int64(1), float("nan")])
def test_what_is_no_integer_is_refused(value):
    with pytest.raises(UserError, match=r"^n is .*: expected an integer$"):
        integer(value, "n")


@pytest.mark.parametrize(
    ("bounds", "said"),
    [((5, None), "from 5"), ((5, 2000), "from 5 to 2,000"), ((None, 3), "to 3")],
)
def test_the_message_has_the_bounds(bounds, said):
    with pytest.raises(BoardError, match=f"^n is 4: expected an integer {said}$"):
        integer(4, "n", *bounds, BoardError)

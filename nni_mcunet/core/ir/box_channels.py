"""Say which channels of a detector's maps are a box's numbers that may have a finer step than their map.

A map has one int8 scale, and YOLOv3's holds logits up to 8 beside logarithms of sizes up to 1: one step of the first is
3 % of a box's side. Channels that are scaled as one form a group. A group's values are stored as so many times
themselves (its gain) as the map's range holds, and decoding divides. That costs the board nothing: a convolution's
weights have a scale a channel, and decoding looks values up in tables. Another head says its groups here.
"""

import math

from ..types import Groups, Range

BOX_MAP: Groups = ((0, 1), (2, 3))  # of the box maps of S3FD and YOLOX: offsets; logarithms of sizes
# Beyond the range on the calibration pictures a size is cut off: a quarter more is for those of other pictures.
HEADROOM = 1.25
MOST = 64.0  # of a gain


def yolo(anchors: int, channels: int) -> Groups:
    """Return the one group of a map of YOLOv3: the logarithms of width and height, which have a table of their own.
    Each of the anchors has x, y, w, h, then its logits, whose table x and y share."""
    return (tuple(start + i for start in range(0, channels, channels // anchors) for i in (2, 3)),)


def gain(whole: Range, part: Range) -> float:
    """Return how many times larger the values of a group within `part` may be stored in a map whose range is `whole`: a
    multiple of 1/256 from 1 on; 1 for a group that has not been seen, (0, 0)."""
    rooms = [end / (own * HEADROOM) for end, own in zip(whole, part, strict=True) if own * end > 0]
    return math.floor(min(max(min(rooms, default=1.0), 1.0), MOST) * 256) / 256


def of_channels(count: int, groups: Groups, gains: list[float]) -> list[float]:
    """Return the gain of each of `count` channels: 1 outside the groups."""
    found = [1.0] * count
    for group, value in zip(groups, gains, strict=True):
        for channel in group:
            found[channel] = value
    return found

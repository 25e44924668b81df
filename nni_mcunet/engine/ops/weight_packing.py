"""Put a convolution's constants into the order in which the C kernels read them (see mcu.h).

Output channels go two by two within their group; an odd last one is paired with a channel of zeros.
"""

import numpy as np

PAIR = np.dtype([("bias", "<i4", 2), ("mult", "<i4", 2), ("right", "u1", 2), ("left", "u1", 2)])  # mcu_pair


RAW = 8  # bits by which the second channel of a pair is above the first, see mcu_conv_pw_raw in mcu.h


def pack_weights(weight: np.ndarray, groups: int, lie: str = "") -> np.ndarray:
    """Pack (cout, cin/groups, kh, kw) int8 as flat int8: [groups][pairs][taps / 4][2][2][2], where taps are
    (kh, kw, cin/groups), padded with zeros to a multiple of 4. Four taps 0..3 of the channels a and b become
    a0 b0 a2 b2, a1 b1 a3 b3, which SXTB16 splits into two taps of one channel. lie: "raw": each two bytes are the
    int16 256 * b + a; "rows", of one group: see `_pack_rows`."""
    rows = weight.transpose(0, 2, 3, 1).reshape(groups, len(weight) // groups, -1)
    rows = np.pad(rows, [(0, 0), (0, -rows.shape[1] % 2), (0, 0)])
    if lie == "rows":
        return np.concatenate([_pack_rows(rows[0, at : at + 4]) for at in range(0, rows.shape[1], 4)])
    rows = np.pad(rows, [(0, 0), (0, 0), (0, -rows.shape[2] % 4)])
    # group, pair, channel of it, quad, upper half, odd -> group, pair, quad, odd, upper half, channel
    parts = rows.reshape(groups, rows.shape[1] // 2, 2, rows.shape[2] // 4, 2, 2)
    if lie == "raw":
        parts[:, :, 1] -= parts[:, :, 0] < 0
    return parts.transpose(0, 1, 3, 5, 4, 2).ravel()


def _pack_rows(rows: np.ndarray) -> np.ndarray:
    """Pack four channels or two, (channels, taps), as mcu_conv_pw_rows reads them: the first of their taps, padded with
    zeros to a multiple of 4, then the others 16 of each channel in turn."""
    count, taps = rows.shape
    first = (taps - 1) % 16 + 1
    blocks = rows[:, first:].reshape(count, -1, 16).transpose(1, 0, 2)
    return np.concatenate([np.pad(rows[:, :first], [(0, 0), (0, -first % 4)]).ravel(), blocks.ravel()])


def pack_channels(
    bias: np.ndarray, mult: np.ndarray, left: np.ndarray, right: np.ndarray, groups: int, raw: bool = False
) -> np.ndarray:
    """Pack values per output channel, (cout,) each, as PAIR, [groups][pairs]; the right shifts less one. raw: the
    second channels' for sums that are 256 times as large, and hold those of the first until they are taken off."""
    count = len(bias) // groups
    pairs = np.zeros((groups, -(-count // 2)), PAIR)
    columns = {"bias": bias, "mult": mult, "right": np.asarray(right) - 1, "left": left}
    for name, values in columns.items():
        rows = np.asarray(values).reshape(groups, count)
        pairs[name] = np.pad(rows, ((0, 0), (0, count % 2))).reshape(groups, -1, 2)
    if raw:
        pairs["bias"][..., 1] = (pairs["bias"].astype(np.int64) @ [1, 1 << RAW]).astype(np.int32)
        pairs["right"][..., 1] += RAW - pairs["left"][..., 1]
        pairs["left"][..., 1] = 0
    return pairs.ravel()

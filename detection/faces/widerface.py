"""Evaluate by WIDER FACE's protocol, in numpy: ground truth, result files, matching, curves and AP.

In the official evaluation a detection belongs to the face it overlaps most, if by IoU >= .5 with widths counted as w +
1. On a face that the setting (easy, medium, hard) does not keep it is neither right nor wrong; on a kept face the best
scored one is right and the others are false. Scores are stretched to 0..1 over the whole set, the curve has 1000
thresholds, AP is the area below its monotone hull. A picture whose list of faces is empty is passed over; the data
set's own pictures without a face carry one row of zeros, which nothing keeps, so a detection there is false.

Which face a detection hits, and whether it is the first, does not depend on the setting: it is found once (`match`),
and a curve is two histograms over the thresholds. Not here: mmengine (widerface_metric.py), pictures, the test set.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.io import loadmat

from nni_mcunet.core.errors import UserError
from nni_mcunet.core.files import write_atomic
from nni_mcunet.core.types import FilePath, PlainDict
from nni_mcunet.core.validate import file_text

SETTINGS = ("easy", "medium", "hard")
THRESHOLDS = 1 - np.arange(1, 1001) / 1000  # falling, the last is 0
IOU = 0.5
FEW = 3  # the paper's "<= 3 faces", in our reading: pictures with at most 3 annotated faces, kept by a setting or not

Key = tuple[str, str]  # event ("0--Parade"), the picture's name without suffix


class Faces(NamedTuple):
    """Hold the annotated faces of a picture."""

    boxes: np.ndarray  # (n, 4) x, y, w, h in pixels
    kept: np.ndarray  # (3, n) bool: does a setting, in the order of SETTINGS, count this face


class Matches(NamedTuple):
    """Hold all there is to know of m detections and F faces in order to draw the curve of any setting and any
    pictures."""

    images: list[Key]
    face_image: np.ndarray  # (F,) index into images
    kept: np.ndarray  # (3, F) bool
    image: np.ndarray  # (m,) index into images
    step: np.ndarray  # (m,) the first threshold that lets the detection in
    face: np.ndarray  # (m,) the face it hits, or -1
    first: np.ndarray  # (m,) bool: no detection with a better score hits that face


class Curve(NamedTuple):
    """Hold precision over recall at the 1000 thresholds."""

    recall: np.ndarray  # (1000,) at each threshold
    precision: np.ndarray  # (1000,)
    faces: int  # kept ones

    @property
    def ap(self) -> float:
        """Return the area below the monotone hull; nan where no face is kept."""
        if not self.faces:
            return float("nan")
        recall = np.concatenate([[0.0], self.recall])
        hull = np.maximum.accumulate(self.precision[::-1])[::-1]
        return float(np.sum(np.diff(recall) * hull))


def read_truth(folder: FilePath) -> dict[Key, Faces]:
    """Read the validation set's faces from wider_{easy,medium,hard}_val.mat in `folder` or its ground_truth/. Raises
    UserError."""
    where = [p for p in (Path(folder), Path(folder) / "ground_truth") if (p / "wider_easy_val.mat").is_file()]
    names = [f"wider_{setting}_val.mat" for setting in SETTINGS]
    if not where:
        state = "is there, but" if Path(folder).is_dir() else "is no folder:"
        raise UserError(
            f"{folder} {state} no wider_easy_val.mat in it or in its ground_truth/; expected the ground truth of the "
            f"official evaluation tools: {', '.join(names)}"
        )
    easy, medium, hard = (_read_mat(where[0] / name) for name in names)
    if not easy.keys() == medium.keys() == hard.keys():
        raise UserError(f"{where[0]}: {', '.join(names)} do not list the same pictures")
    truth = {}
    for key, (boxes, _) in easy.items():
        kept = np.zeros((len(SETTINGS), len(boxes)), bool)
        for row, setting in zip(kept, (easy, medium, hard), strict=True):
            numbers = setting[key][1]  # Matlab counts from 1
            if len(numbers) and not 1 <= numbers.min() <= numbers.max() <= len(boxes):
                raise UserError(f"{where[0]}: of {'/'.join(key)} it keeps a face that it does not list")
            row[numbers - 1] = True
        truth[key] = Faces(boxes, kept)
    return truth


def _read_mat(path: Path) -> dict[Key, tuple[np.ndarray, np.ndarray]]:
    """Map each key to boxes (n, 4) and the numbers of the kept ones."""
    if not path.is_file():
        raise UserError(f"{path} is missing: it belongs beside wider_easy_val.mat")
    fields = ("event_list", "file_list", "face_bbx_list", "gt_list")
    try:
        content = loadmat(path, variable_names=fields)
        events, files, boxes, kept = (content[field][:, 0] for field in fields)
        found = {}
        for event, names, event_boxes, event_kept in zip(events, files, boxes, kept, strict=True):
            for name, b, k in zip(names[:, 0], event_boxes[:, 0], event_kept[:, 0], strict=True):
                found[str(event[0]), str(name[0])] = b.astype(float).reshape(-1, 4), k.astype(int).ravel()
    except Exception as error:  # a damaged .mat can raise anything
        raise UserError(f"{path} is no ground truth of WIDER FACE's evaluation tools ({error})") from None
    return found


def read_results(folder: FilePath, images: Iterable[Key]) -> dict[Key, np.ndarray]:
    """Read the detections (m, 5) x, y, w, h, score of each of `images` (keys) from FOLDER/EVENT/NAME.txt. Raises
    UserError."""
    if not Path(folder).is_dir():
        raise UserError(f"{folder} is no folder: expected one text file per picture there, EVENT/NAME.txt")
    images = list(images)
    paths = [Path(folder) / event / f"{name}.txt" for event, name in images]
    missing = [p for p in paths if not p.is_file()]
    if missing:
        raise UserError(
            f"{folder}: {len(missing)} of {len(images)} result files are missing; expected EVENT/NAME.txt, the first "
            f"one is {missing[0]}; a picture without detections has a file with the count 0"
        )
    return {key: _read_result(path) for key, path in zip(images, paths, strict=True)}


def _read_result(path: Path) -> np.ndarray:
    try:
        lines = file_text(path).splitlines()
        count = int(float(lines[1]))
        found = np.array(" ".join(lines[2:]).split(), float).reshape(-1, 5)
        if len(found) != count:
            raise ValueError(f"{len(found)} rows, the second line says {lines[1].strip()}")
        if not np.isfinite(found).all():
            raise ValueError("a number is not finite")
    except (ValueError, IndexError, OverflowError) as error:
        raise UserError(f"{path}: not NAME, count and rows of x y w h score ({str(error)[:200]})") from None
    return found


def write_results(folder: FilePath, results: dict[Key, np.ndarray]) -> None:
    """Write FOLDER/EVENT/NAME.txt for each picture; float32 comes back as it was written."""
    for (event, name), found in results.items():
        rows = [" ".join(f"{v:.9g}" for v in row) for row in found]
        text = "\n".join([name, str(len(rows)), *rows]) + "\n"
        write_atomic(Path(folder) / event / f"{name}.txt", text)


def overlaps(found: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Return the IoU (m, n) of boxes x, y, w, h with corners x + w, y + h that belong to the box: a box of w = 0 is 1
    wide. Negative sizes count as 0."""
    low_a, low_b = found[:, None, :2], faces[None, :, :2]
    size_a, size_b = np.maximum(found[:, None, 2:4], 0), np.maximum(faces[None, :, 2:4], 0)
    sides = np.minimum(low_a + size_a, low_b + size_b) - np.maximum(low_a, low_b) + 1
    common = np.maximum(sides, 0).prod(-1)
    return common / ((size_a + 1).prod(-1) + (size_b + 1).prod(-1) - common)


def match(truth: dict[Key, Faces], results: dict[Key, np.ndarray]) -> Matches:
    """Evaluate the pictures of `results`, (m, 5) x, y, w, h, score each. Raises UserError for an unknown picture."""
    unknown = [key for key in results if key not in truth]
    if unknown:
        raise UserError(f"{len(unknown)} pictures are not in the ground truth, the first is {'/'.join(unknown[0])}")
    images, scores, start = list(results), [np.empty(0)], 0
    of_image, of_face = [np.empty(0, int)], [np.empty(0, int)]
    for i, (key, found) in enumerate(results.items()):
        boxes = truth[key].boxes
        found = np.asarray(found, float).reshape(-1, 5)
        found = found[np.argsort(-found[:, 4], kind="stable")]
        scores.append(found[:, 4])
        of_image.append(np.full(len(found), i if len(boxes) else -1))
        of_face.append(_best(found, boxes, start))
        start += len(boxes)
    image, face = np.concatenate(of_image), np.concatenate(of_face)
    first = np.zeros(len(face), bool)
    first[np.unique(face, return_index=True)[1]] = True  # a picture's detections stand in falling order
    used = image >= 0  # pictures that are passed over still have a say in the scale of the scores
    counts = [len(truth[key].boxes) for key in images]
    kept = np.concatenate([np.zeros((len(SETTINGS), 0), bool), *(truth[key].kept for key in images)], axis=1)
    face_image = np.repeat(np.arange(len(images)), counts)
    step = _steps(np.concatenate(scores))
    return Matches(images, face_image, kept, image[used], step[used], face[used], (first & (face >= 0))[used])


def _best(found: np.ndarray, boxes: np.ndarray, start: int) -> np.ndarray:
    """Return (m,), the number of the face that each detection hits, counted from `start`, or -1."""
    if not len(found) or not len(boxes):
        return np.full(len(found), -1)
    iou = overlaps(found, boxes)
    return np.where(iou.max(1) >= IOU, iou.argmax(1) + start, -1)


def _steps(scores: np.ndarray) -> np.ndarray:
    """Return (m,), the first threshold that each score, stretched to 0..1 over the set, reaches."""
    if not len(scores):
        return np.empty(0, int)
    low = scores.min()
    stretched = (scores - low) / ((scores.max() - low) or 1)
    return np.searchsorted(-THRESHOLDS, -stretched, side="left")


def curve(matches: Matches, setting: str, images: np.ndarray | None = None) -> Curve:
    """Return the curve of a setting, over all pictures or those with True in `images` (one bool each)."""
    kept = matches.kept[SETTINGS.index(setting)]
    if images is None:
        images = np.ones(len(matches.images), bool)
    counted = np.concatenate([kept, [True]])[matches.face] & images[matches.image]  # face -1: the last
    all_of_them = _cumulative(matches.step[counted])
    right = _cumulative(matches.step[counted & matches.first])
    faces = int((kept & images[matches.face_image]).sum())
    return Curve(right / max(faces, 1), right / np.maximum(all_of_them, 1), faces)


def _cumulative(steps: np.ndarray) -> np.ndarray:
    return np.bincount(steps, minlength=len(THRESHOLDS)).cumsum()


def few_faces(matches: Matches) -> np.ndarray:
    """Return (pictures,) bool: at most FEW annotated faces."""
    return np.bincount(matches.face_image, minlength=len(matches.images)) <= FEW


def summary(matches: Matches) -> dict[str, float]:
    """Return the AP of easy, medium and hard over all pictures, and (with `_few`) over those of at most FEW faces."""
    few = few_faces(matches)
    whole = {setting: curve(matches, setting).ap for setting in SETTINGS}
    return whole | {f"{setting}_few": curve(matches, setting, few).ap for setting in SETTINGS}


def event_report(matches: Matches) -> list[PlainDict]:
    """List for each event its name, its pictures, and for each setting the AP and the kept faces. The scores keep the
    set's scale."""
    rows = []
    events = np.array([event for event, _ in matches.images], str)
    for event in dict.fromkeys(events.tolist()):
        here = events == event
        curves = {setting: curve(matches, setting, here) for setting in SETTINGS}
        row = {"event": event, "images": int(here.sum())}
        rows.append(row | {s: {"ap": None if np.isnan(c.ap) else c.ap, "faces": c.faces} for s, c in curves.items()})
    return rows

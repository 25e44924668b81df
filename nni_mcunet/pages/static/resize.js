// Turns a picture into the bytes that the network reads, in the integers of the libraries that Python uses for it:
// OpenCV's bilinear filter for a whole picture, Pillow's for a part of it. Pixels lie row by row, channels inside.
'use strict';

function clampByte(value) {
  return value < 0 ? 0 : value > 255 ? 255 : value;
}

function roundHalfEven(value) {
  const low = Math.floor(value), rest = value - low;
  return rest > 0.5 || (rest === 0.5 && low % 2 !== 0) ? low + 1 : low;
}

// OpenCV: between which two positions of the input each of the output lies, and their weights in 1/2048. Beyond the
// border a row counts twice, a column once.
function linearTaps(from, to, across) {
  const scale = 1 / (to / from), inside = (at) => Math.min(Math.max(at, 0), from - 1);
  return Array.from({ length: to }, (_, at) => {
    let place = Math.fround((at + 0.5) * scale - 0.5), first = Math.floor(place);
    place = Math.fround(place - first);
    if (across && first < 0) [first, place] = [0, 0];
    if (across && first >= from - 1) [first, place] = [from - 1, 0];
    const weights = [Math.fround(1 - place), place].map((share) => roundHalfEven(Math.fround(share * 2048)));
    return { first: inside(first), second: inside(first + 1), weights };
  });
}

function resizeWhole(pixels, [h, w], channels, [high, wide]) {
  const found = new Uint8Array(high * wide * channels);
  if (h === 2 * high && w === 2 * wide) return halved(pixels, w, channels, [high, wide], found);
  if (h === high && w === wide) return Uint8Array.from(pixels);
  const rows = linearTaps(h, high, false), columns = linearTaps(w, wide, true);
  let at = 0;
  for (const row of rows) {
    for (const column of columns) {
      for (let c = 0; c < channels; c++) {
        const across = (y) => column.weights[0] * pixels[(y * w + column.first) * channels + c]
          + column.weights[1] * pixels[(y * w + column.second) * channels + c];
        const upper = (row.weights[0] * (across(row.first) >> 4)) >> 16;
        const lower = (row.weights[1] * (across(row.second) >> 4)) >> 16;
        found[at++] = clampByte((upper + lower + 2) >> 2);
      }
    }
  }
  return found;
}

function halved(pixels, w, channels, [high, wide], found) {
  let at = 0;
  for (let y = 0; y < high; y++) {
    for (let x = 0; x < wide; x++) {
      for (let c = 0; c < channels; c++) {
        const first = (2 * y * w + 2 * x) * channels + c, below = first + w * channels;
        found[at++] = (pixels[first] + pixels[first + channels] + pixels[below] + pixels[below + channels] + 2) >> 2;
      }
    }
  }
  return found;
}

// Pillow: the input positions that each output position averages over, and their weights in 1/2^22.
function trianglePixels(from, low, high, to) {
  [low, high] = [Math.fround(low), Math.fround(high)];
  const scale = Math.fround(high - low) / to, wide = Math.max(scale, 1);
  return Array.from({ length: to }, (_, at) => {
    const centre = low + (at + 0.5) * scale;
    const first = Math.max(Math.trunc(centre - wide + 0.5), 0), end = Math.min(Math.trunc(centre + wide + 0.5), from);
    const raw = Array.from({ length: end - first }, (_, i) => {
      return Math.max(1 - Math.abs((i + first - centre + 0.5) * (1 / wide)), 0);
    });
    const sum = raw.reduce((a, b) => a + b, 0);
    return { first, weights: raw.map((v) => Math.trunc((sum ? v / sum : v) * 4194304 + (v < 0 ? -0.5 : 0.5))) };
  });
}

// Applies taps along one axis of [before][from][behind] values; what lies inside a position goes through as it is.
function averaged(pixels, taps, before, from, behind) {
  const found = new Uint8Array(before * taps.length * behind);
  for (let i = 0, at = 0; i < before; i++) {
    for (const { first, weights } of taps) {
      for (let j = 0; j < behind; j++) {
        let sum = 1 << 21, place = (i * from + first) * behind + j;
        for (const weight of weights) {
          sum += weight * pixels[place];
          place += behind;
        }
        found[at++] = clampByte(sum >> 22);
      }
    }
  }
  return found;
}

function resizePart(pixels, [h, w], channels, [high, wide], [x1, y1, x2, y2]) {
  const columns = trianglePixels(w, x1, x2, wide), rows = trianglePixels(h, y1, y2, high);
  if (h > high && h - high > 2 * (w - wide)) { // Pillow 13 takes the axis first that loses far more
    return averaged(averaged(pixels, rows, 1, h, w * channels), columns, high, w, channels);
  }
  return averaged(averaged(pixels, columns, h, w, channels), rows, 1, h, wide * channels);
}

// The luma of ITU-R BT.601, as Pillow has it.
function grey(pixels) {
  return Uint8Array.from({ length: pixels.length / 3 }, (_, i) => {
    return (19595 * pixels[3 * i] + 38470 * pixels[3 * i + 1] + 7471 * pixels[3 * i + 2] + 32768) >> 16;
  });
}

// What a network of [h, w, channels] sees of an RGB picture. view: {keep, pad}, see core/view.py. Returns the bytes and
// where in the picture they come from: image (x, y) is picture (x * across + left, y * down + top).
function seen(rgb, picture, [h, w, channels], view) {
  const pixels = channels === 1 ? grey(rgb) : rgb;
  if (view.keep !== null) {
    const scale = view.keep * Math.min(picture[0] / h, picture[1] / w);
    const left = Math.max(picture[1] - w * scale, 0) / 2, top = Math.max(picture[0] - h * scale, 0) / 2;
    const box = [left, top, Math.min(left + w * scale, picture[1]), Math.min(top + h * scale, picture[0])];
    return { bytes: resizePart(pixels, picture, channels, [h, w], box), left, top, across: scale, down: scale };
  }
  const [high, wide] = view.pad === null ? [h, w] : fitted(picture, [h, w]);
  const place = { left: 0, top: 0, across: picture[1] / wide, down: picture[0] / high };
  const inner = resizeWhole(pixels, picture, channels, [high, wide]);
  if (high === h && wide === w) return { bytes: inner, ...place };
  const bytes = new Uint8Array(h * w * channels).fill(view.pad);
  for (let y = 0; y < high; y++) {
    bytes.set(inner.subarray(y * wide * channels, (y + 1) * wide * channels), y * w * channels);
  }
  return { bytes, ...place };
}

// The size of a picture in its own shape, as large as it fits.
function fitted([h, w], [high, wide]) {
  if (h * wide < w * high) return [Math.max(1, Math.floor((2 * h * wide + w) / (2 * w))), wide];
  return [high, Math.max(1, Math.floor((2 * w * high + h) / (2 * h)))];
}

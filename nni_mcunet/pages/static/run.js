// Runs the network in the page: the generated C, compiled to WebAssembly, on a picture or on the webcam.
'use strict';

const NETWORK = DATA.network;
const COLOURS = ['#2f6fb2', '#e08a2e', '#5b8c5a', '#b2476b', '#7a6bb0', '#b8a13c', '#6d7b88', '#c0392b'];

const bytesOf = (base64) => Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));

async function loadModule() {
  const { instance } = await WebAssembly.instantiate(bytesOf(NETWORK.wasm), {});
  instance.exports._initialize();
  return instance.exports;
}

const loaded = loadModule();

// The answer to an image of bytes [h][w][channels]: outputs as int8, boxes in pixels of the image.
async function runNetwork(bytes) {
  const c = await loaded;
  new Uint8Array(c.memory.buffer, c.image(), bytes.length).set(bytes);
  const begin = performance.now();
  c.run();
  const outputs = NETWORK.outputs.map((_, i) => {
    return new Int8Array(c.memory.buffer, c.output(i), c.output_bytes(i)).slice();
  });
  const boxes = c.detect ? readBoxes(c, c.detect()) : [];
  return { outputs, boxes, milliseconds: performance.now() - begin };
}

// Says whether the module gives the bytes that the same C gave where the page was made.
async function check() {
  const size = NETWORK.input[0] * NETWORK.input[1] * NETWORK.input[2];
  const { outputs } = await runNetwork(Uint8Array.from({ length: size }, (_, i) => (31 * i + (i >> 8)) & 255));
  if (NETWORK.expected === null) return 'The page was made without a C compiler: its bytes were not compared.';
  if (crc32(outputs) === NETWORK.expected) return 'Compared: the same bytes as the C gave where this page was made.';
  throw new Error('other bytes than the same C gave where this page was made: make the page again');
}

function crc32(arrays) {
  let crc = 0xffffffff;
  for (const array of arrays) {
    for (const value of array) {
      crc ^= value & 255;
      for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (crc & 1 ? 0xedb88320 : 0);
    }
  }
  return (crc ^ 0xffffffff) >>> 0;
}

function readBoxes(c, count) {
  const fields = new Int16Array(c.memory.buffer, c.boxes(), 6 * count);
  return Array.from({ length: count }, (_, i) => {
    const [x1, y1, x2, y2, score, label] = fields.subarray(6 * i, 6 * i + 6);
    const box = [x1, y1, x2, y2].map((value) => value / 16);
    return { box, score: score / 32768, label, name: text(c, c.class_name(label)) };
  });
}

function text(c, address) {
  const bytes = new Uint8Array(c.memory.buffer, address);
  return new TextDecoder().decode(bytes.slice(0, bytes.indexOf(0)));
}

// The pixels of a picture file, a video's frame or a canvas: RGB bytes and [h, w].
async function pixelsOf(source) {
  const options = { colorSpaceConversion: 'none', premultiplyAlpha: 'none' };
  const bitmap = await createImageBitmap(source, options), size = [bitmap.height, bitmap.width];
  const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
  const context = canvas.getContext('2d', { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0);
  const rgba = context.getImageData(0, 0, bitmap.width, bitmap.height).data;
  const rgb = new Uint8Array(3 * size[0] * size[1]);
  for (let from = 0, to = 0; from < rgba.length; from += 4) {
    rgb[to++] = rgba[from];
    rgb[to++] = rgba[from + 1];
    rgb[to++] = rgba[from + 2];
  }
  return { rgb, size, bitmap };
}

async function answerTo(source) {
  const picture = await pixelsOf(source);
  const image = seen(picture.rgb, picture.size, NETWORK.input, NETWORK.view);
  return { picture, image, ...await runNetwork(image.bytes) };
}

// The likeliest classes of a classifier: one output of one position.
function likeliest(outputs) {
  const { scale, zero_point: zero, shape } = NETWORK.outputs[0];
  if (outputs.length !== 1 || shape[0] !== 1 || shape[1] !== 1) return [];
  const order = Array.from(outputs[0].keys()).sort((a, b) => outputs[0][b] - outputs[0][a] || a - b);
  return order.slice(0, 5).map((label) => {
    const name = NETWORK.classes ? NETWORK.classes[label] : `class ${label}`;
    return `${name}  ${(scale * (outputs[0][label] - zero)).toPrecision(4)}`;
  });
}

function show({ picture, image, outputs, boxes, milliseconds }) {
  const least = Number(document.getElementById('least').value);
  const shown = boxes.filter((box) => box.score >= least), canvas = document.getElementById('shown');
  const zoom = Math.min(1, 640 / Math.max(...picture.size)), context = canvas.getContext('2d');
  [canvas.height, canvas.width] = picture.size.map((side) => Math.max(1, Math.round(side * zoom)));
  context.drawImage(picture.bitmap, 0, 0, canvas.width, canvas.height);
  const own = (box) => box.map((v, at) => (at % 2 ? v * image.down + image.top : v * image.across + image.left));
  context.font = '13px system-ui, sans-serif';
  for (const { box, label, name, score } of shown) {
    const [x1, y1, x2, y2] = own(box).map((v) => zoom * v);
    context.strokeStyle = context.fillStyle = COLOURS[label % COLOURS.length];
    context.lineWidth = 2;
    context.strokeRect(x1, y1, x2 - x1, y2 - y1);
    context.fillText(`${name} ${score.toFixed(2)}`, Math.max(x1, 0) + 3, Math.max(y1, 0) + 13);
  }
  const lines = NETWORK.detector
    ? shown.map(({ box, name, score }) => `${name}  ${score.toFixed(3)}  at ${own(box).map((v) => v.toFixed(1)).join(', ')}`)
    : likeliest(outputs);
  const of = lines.length && NETWORK.detector ? `; boxes in pixels of the picture, ${picture.size[1]}x${picture.size[0]}` : '';
  document.getElementById('found').textContent = `${milliseconds.toFixed(0)} ms in this browser${of}\n${lines.join('\n')}`;
}

let last = null, camera = null;

async function take(source) {
  try {
    last = await answerTo(source);
    show(last);
  } catch (error) {
    document.getElementById('found').textContent = `This is no picture that the browser reads: ${error.message}`;
  }
}

async function toggleCamera(button) {
  if (camera) {
    camera.getTracks().forEach((track) => track.stop());
    camera = null;
    button.textContent = 'webcam';
    return;
  }
  const video = element('video', '', { muted: true, playsInline: true });
  try {
    camera = video.srcObject = await navigator.mediaDevices.getUserMedia({ video: true });
  } catch (error) {
    document.getElementById('found').textContent = `There is no webcam for this page: ${error.message}`;
    return;
  }
  button.textContent = 'stop';
  await video.play();
  while (camera) {
    await take(video);
    await new Promise(requestAnimationFrame);
  }
}

function drawNetwork() {
  const part = element('section', '', { id: 'run' });
  const file = element('input', '', { type: 'file', accept: 'image/*', id: 'file' });
  const button = element('button', 'webcam'), place = element('div', '', { id: 'drop' });
  const slider = element('input', '', { type: 'range', min: 0, max: 1, step: 0.01, value: 0.3, id: 'least' });
  const label = element('label', 'least score ', { hidden: !NETWORK.detector });
  label.append(slider);
  place.append(element('canvas', '', { id: 'shown', width: NETWORK.input[1], height: NETWORK.input[0] }));
  place.append(file, button, label);
  part.append(element('h2', 'Run it here'), element('p', 'The firmware\'s own C, compiled to WebAssembly, runs in this '
    + 'page and gives the bytes that it gives on the board. Drop a picture, or open the webcam: nothing leaves this '
    + 'page.'), place, element('p', '', { id: 'found' }),
  element('p', '', { id: 'checked' }));
  document.getElementById('sections').before(part);
  file.onchange = () => file.files.length && take(file.files[0]);
  button.onclick = () => toggleCamera(button);
  slider.oninput = () => last && show(last);
  for (const kind of ['dragenter', 'dragover', 'dragleave', 'drop']) {
    part.addEventListener(kind, (event) => {
      event.preventDefault();
      place.classList.toggle('over', kind === 'dragenter' || kind === 'dragover');
      if (kind === 'drop' && event.dataTransfer.files.length) take(event.dataTransfer.files[0]);
    });
  }
}

drawNetwork();
check().catch((error) => `Wrong: ${error.message}`).then((words) => {
  document.getElementById('checked').textContent = words;
});
if (NETWORK.picture) take(new Blob([bytesOf(NETWORK.picture)]));

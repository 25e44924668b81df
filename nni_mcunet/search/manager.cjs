// Preloaded into NNI's manager (NODE_OPTIONS=--require). It mends four things, without touching NNI's files:
//
// 1. The web server has no password and runs what it is sent. A listener that names no address listens only on
//    127.0.0.1; MCUNET_NNI_LISTEN names one more address, for trials on other machines.
// 2. A browser on this machine carries other people's pages to 127.0.0.1. A request that comes neither from NNI's own
//    page nor from a program (nnictl, the tuner, trials: no Origin) is refused with 403: a Host that is not this machine's, as
//    a rebound name has, a foreign Origin, and what another site's page sends without one.
// 3. Trials were handed parameters first come, first served, so with two at once the table, the export and the web page
//    showed each other's (microsoft/nni#5726). Each is given those it was submitted with.
// 4. The tuner had ten seconds to connect, less than a loaded machine needs to import NNI. It has two minutes, and as
//    long as its process lives.
const http = require('http');
const net = require('net');
const Module = require('module');

const listen = net.Server.prototype.listen;
net.Server.prototype.listen = function (...args) {
  if (typeof args[0] === 'number' && typeof args[1] !== 'string') {
    args.splice(1, 0, '127.0.0.1');
    const more = process.env.MCUNET_NNI_LISTEN;
    if (more && more !== '127.0.0.1') {
      const door = net.createServer((socket) => this.emit('connection', socket));
      this.once('listening', () => listen.call(door, this.address().port, more));
      this.once('close', () => door.close());
    }
  }
  return listen.apply(this, args);
};

// 'localhost', '127.0.0.1', '::1' and the address of MCUNET_NNI_LISTEN, with any port: ssh -L may have another one at the
// desk. 'localhost.' is not among them: it is looked up, and so can be rebound.
function isOurs(host) {
  const found = /^(?:\[([0-9a-f:.]+)\]|([^:@/?#\\\s[\]]+))(?::\d{1,5})?$/i.exec(host);
  const name = found && (found[1] || found[2]).toLowerCase();
  const more = (process.env.MCUNET_NNI_LISTEN || '').toLowerCase();
  return Boolean(name) && ['localhost', '127.0.0.1', '::1', more].includes(name);
}

function sameOrigin(origin, host) {
  try {
    const url = new URL(origin);
    return /^https?:$/.test(url.protocol) && url.host === new URL(`http://${host}`).host;
  } catch {
    return false; // 'null', of a file or a sandbox
  }
}

// Why a request is refused; undefined when it is not. `upgrade`: to a web socket, which no page but NNI's may open.
function refusal(request, upgrade) {
  const { host, origin, 'sec-fetch-site': site } = request.headers;
  const hosts = request.rawHeaders.filter((name, at) => at % 2 === 0 && name.toLowerCase() === 'host');
  if (hosts.length !== 1 || !isOurs(host)) {
    return 'the Host header does not name this machine: open http://127.0.0.1 with the port of NNI';
  }
  if (!request.url.startsWith('/')) {
    return 'this is no proxy';
  }
  if (origin !== undefined && !sameOrigin(origin, host)) {
    return 'it comes from a page of another origin';
  }
  if (site === undefined || site === 'same-origin' || site === 'none') {
    return undefined;
  }
  const { 'sec-fetch-mode': mode, 'sec-fetch-dest': dest } = request.headers;
  const link = !upgrade && ['GET', 'HEAD'].includes(request.method) && mode === 'navigate' && dest === 'document';
  return link ? undefined : 'it comes from a page of another site'; // a link to NNI's page may be followed
}

const emit = http.Server.prototype.emit;
http.Server.prototype.emit = function (event, request, answer, ...rest) {
  const asked = ['request', 'checkContinue', 'checkExpectation'].includes(event);
  const upgrade = ['upgrade', 'connect'].includes(event);
  const reason = asked || upgrade ? refusal(request, upgrade) : undefined;
  if (reason === undefined) {
    if (asked) {
      answer.setHeader('X-Frame-Options', 'SAMEORIGIN'); // no other page shows NNI's and has it clicked
    }
    return emit.call(this, event, request, answer, ...rest);
  }
  const text = `NNI refuses this request: ${reason}\n`;
  if (asked) {
    answer.writeHead(403, { 'Content-Type': 'text/plain', Connection: 'close' }).end(text);
  } else {
    answer.on('error', () => {}); // the other side has gone already
    answer.end(`HTTP/1.1 403 Forbidden\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\n${text}`);
  }
  return true;
};

// V3asV1 queues a trial's parameters before it starts the trial and hands the queue's head to whoever asks. Trials are
// submitted one after the other, so taking each one's out of the queue again leaves no other's there.
function ownParameters(V3asV1) {
  const submit = V3asV1.prototype.submitTrialJob;
  V3asV1.prototype.submitTrialJob = async function (form) {
    const trial = await submit.call(this, form);
    const at = this.parameters.indexOf(form.hyperParameters.value);
    if (at >= 0) { // else the trial has been quick and has them
      this.allocatedParameters.set(trial.id, this.parameters.splice(at, 1)[0]);
    }
    return trial;
  };
}

const PATIENCE = 120; // seconds
let tuner; // its process

function rememberTuner(utils) {
  const start = utils.getTunerProc;
  utils.getTunerProc = (...args) => (tuner = start(...args));
}

function waitForTuner(server) {
  Object.getPrototypeOf(server).init = function () {
    const fail = (why) => this.connect.settled || this.connect.reject(new Error(why));
    const ended = () => fail('The tuner ended before it had connected: see log/dispatcher.log');
    const late = () => fail(`The tuner did not connect in ${PATIENCE} seconds: see log/dispatcher.log`);
    setTimeout(late, PATIENCE * 1000).unref();
    if (tuner) {
      tuner.once('exit', ended);
      if (tuner.exitCode !== null) {
        ended();
      }
    }
    return this.connect.promise;
  };
}

const mended = new WeakSet();
const load = Module._load;
Module._load = function (request, ...rest) {
  const loaded = load.call(this, request, ...rest);
  if (loaded && loaded.V3asV1 && !mended.has(loaded)) {
    mended.add(loaded);
    ownParameters(loaded.V3asV1);
  }
  if (/(^|\/)common\/utils$/.test(request) && loaded.getTunerProc && !mended.has(loaded)) {
    mended.add(loaded);
    rememberTuner(loaded);
  }
  if (/(^|\/)tuner_command_channel$/.test(request) && !mended.has(loaded)) {
    mended.add(loaded);
    waitForTuner(loaded.getTunerServer());
  }
  return loaded;
};

// Preloaded into NNI's manager (NODE_OPTIONS=--require). It mends two things, without touching NNI's files:
//
// 1. The web server has no password and runs what it is sent. A listener that names no address listens on 127.0.0.1
//    alone; MCUNET_NNI_LISTEN names one more address, for trials on other machines.
// 2. Trials were handed parameters first come, first served, so with two at once the table, the export and the web page
//    showed each other's (microsoft/nni#5726). Each is given those it was submitted with.
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

const load = Module._load;
Module._load = function (request, ...rest) {
  const loaded = load.call(this, request, ...rest);
  if (loaded && loaded.V3asV1 && !loaded.V3asV1.mended) {
    loaded.V3asV1.mended = true;
    ownParameters(loaded.V3asV1);
  }
  return loaded;
};

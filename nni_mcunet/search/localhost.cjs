// Preloaded into NNI's manager (NODE_OPTIONS=--require): its web server has no password and runs what it is sent, so a
// listener that names no address listens on this machine alone.
const net = require('net');
const listen = net.Server.prototype.listen;
net.Server.prototype.listen = function (...args) {
  if (typeof args[0] === 'number' && typeof args[1] !== 'string') {
    args.splice(1, 0, '127.0.0.1');
  }
  return listen.apply(this, args);
};

// Loaded ahead of a test of Node's (`--require`): what the test asks for as `net` is
// completion-port/node/net. Modules of Node.js itself go on with their own.
const { registerHooks } = require('node:module');
const Module = require('node:module');
const net = require('node:net');
const path = require('node:path');
const { pathToFileURL } = require('node:url');

process.removeAllListeners('warning');
const { emitWarning } = process;
process.emitWarning = () => undefined;
const ours = require('../../dist/node-net.js');
process.emitWarning = emitWarning;

// What node:net has for others' internals, such as `_normalizeArgs`, is not this package's.
const substituted = { ...net, ...ours };
const load = Module._load;
Module._load = function (request, ...rest) {
  const isNet = request === 'net' || request === 'node:net';
  return isNet ? substituted : load.call(this, request, ...rest);
};

// An ES module that imports it.
const url = pathToFileURL(path.join(__dirname, '..', '..', 'dist', 'node-net.js')).href;
registerHooks?.({
  resolve(specifier, context, next) {
    const isNet = specifier === 'net' || specifier === 'node:net';
    if (!isNet || context.conditions?.includes('require')) return next(specifier, context);
    return { url, shortCircuit: true };
  },
});

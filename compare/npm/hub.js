#!/usr/bin/env node
'use strict';

// Runs the Node original, npm coalescent 0.5.2, in the roles of the comparison.
//
//   node hub.js hub --relay tattletale|smartrelay   relays the data of a peer to all others, as it comes from the socket
//   node hub.js answer                              answers each {"type":"ping"} line with a "pong" of the same body
//
// Both print {"listening":"127.0.0.1:PORT"} and run until stdin ends. The relay is the only middleware of the hub, so it
// parses nothing, whatever wire its peers use.

const USAGE = 'usage: node hub.js hub [--relay tattletale|smartrelay] | node hub.js answer';

function fail(status, why) {
  process.stderr.write(`hub.js: ${why}\n`);
  process.exit(status);
}

function parse([role, ...args]) {
  const options = { role, relay: 'tattletale' };
  while (args.length) {
    const name = args.shift();
    if (name !== '--relay' || role !== 'hub') fail(2, `unknown option ${name}; ${USAGE}`);
    options.relay = args.shift();
  }
  if (role !== 'hub' && role !== 'answer') fail(2, USAGE);
  if (!['tattletale', 'smartrelay'].includes(options.relay)) {
    fail(2, `--relay is tattletale or smartrelay; ${USAGE}`);
  }
  return options;
}

function load() {
  try {
    return require('coalescent');
  } catch (error) {
    const missing = error.code === 'MODULE_NOT_FOUND';
    const why = missing ? 'npm coalescent is not installed; run `npm ci` beside this file' : error.message;
    return fail(1, String(why).split('\n')[0]);
  }
}

const options = parse(process.argv.slice(2));
const coalescent = load();

const silent = () => {};
const app = coalescent({
  // No limit: the default is lower than the number of peers of the comparison.
  maxPeers: 100000,
  logger: { info: silent, warn: silent, error: silent },
});
if (options.role === 'hub') {
  app.use(coalescent[options.relay]());
} else {
  app.use(coalescent.courier());
  app.use(coalescent.router());
  app.route('ping', (socket, message) => socket.send('pong', message.body));
}

// The original tells peers apart by the local address of their sockets, which is the same for all peers of one port, so
// it would relay to the first of them only. With the remote address it does what its documentation says.
//
// A peer that disconnects with data unread resets the connection. Without a listener, that error would end the process.
app.server.prependListener('connection', (socket) => {
  const peer = { address: socket.remoteAddress, family: socket.remoteFamily, port: socket.remotePort };
  socket.address = () => peer;
  socket.on('error', silent);
});
app.on('error', silent);

// Unread output would stop the stream.
app.on('data', silent);

// The end of stdin ends the process.
process.stdin.on('end', () => process.exit(0));
process.stdin.on('error', () => process.exit(0));
process.stdin.resume();

app.server.on('error', (error) => fail(1, error.message));
app.listen(0, '127.0.0.1', () => {
  process.stdout.write(`${JSON.stringify({ listening: `127.0.0.1:${app.server.address().port}` })}\n`);
});

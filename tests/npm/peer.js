#!/usr/bin/env node
'use strict';

// Runs one peer of the Node original, so that a test or a person can talk to it.
//
//   node peer.js --listen 0 --use smartrelay,courier,router --route ping=pong
//
// It prints what it sees as JSON lines on stdout, takes commands as lines on stdin (see USAGE), and leaves
// when stdin ends, so that it does not outlive the test that started it.

const readline = require('readline');
const coalescent = require('coalescent');

const USAGE = `usage: node peer.js [options]
  --listen PORT         accept peers on PORT, 0 takes a free one
  --host ADDRESS        listen there [127.0.0.1]
  --seed HOST:PORT      stay connected to this seed (repeatable)
  --min-peers N         its minPeers option
  --max-peers N         its maxPeers option
  --use A,B,..          middleware in this order: tattletale, smartrelay, courier, router, and
                        tap (ours: reports what passes at its place, and passes it on)
  --route TYPE=REPLY    answer messages of TYPE with one of REPLY and the same body (repeatable)
  --route TYPE          report messages of TYPE, and answer nothing (repeatable); TYPE * is any
                        that no other route takes
  --courier JSON        options for the courier, for instance {"typeParam":"t"}
  --no-read             do not read the application stream
  --stay                do not leave when stdin ends
commands on stdin, one a line:
  broadcast TYPE [JSON] the courier's broadcast (the body is {} if left out)
  send N TYPE [JSON]    the courier's send to the Nth peer from 0, inbound ones first
  value TYPE JAVASCRIPT the courier's broadcast of what this expression is, as Buffer.from('a')
  write TEXT            write the text to the application stream, without a newline
  writeln TEXT          the same with a newline
  writehex HEX          the same for any bytes
  peers                 report how many peers are connected
  quit                  leave
`;

function fail(why) {
  process.stderr.write(`peer.js: ${why}\n${USAGE}`);
  process.exit(2);
}

function parse(argv) {
  const options = { host: '127.0.0.1', seeds: [], use: [], routes: [], read: true };
  const args = argv.slice();
  const value = (name) => (args.length ? args.shift() : fail(`${name} needs a value`));
  const number = (name) => {
    const text = value(name);
    return /^\d+$/.test(text) ? Number(text) : fail(`${name} needs a number, not ${text}`);
  };
  while (args.length) {
    const name = args.shift();
    switch (name) {
      case '--listen': options.listen = number(name); break;
      case '--host': options.host = value(name); break;
      case '--seed': options.seeds.push(value(name)); break;
      case '--min-peers': options.minPeers = number(name); break;
      case '--max-peers': options.maxPeers = number(name); break;
      case '--use': options.use.push(...value(name).split(',').filter(Boolean)); break;
      case '--route': options.routes.push(value(name).split('=')); break;
      case '--courier': options.courier = JSON.parse(value(name)); break;
      case '--no-read': options.read = false; break;
      case '--stay': options.stay = true; break;
      case '--help': process.stdout.write(USAGE); process.exit(0); break;
      default: fail(`unknown option ${name}`);
    }
  }
  return options;
}

// Errors don't survive JSON.stringify, and a broken stdout is no reason to crash.
function report(event, fields) {
  process.stdout.write(`${JSON.stringify(Object.assign({ event }, fields))}\n`);
}
process.stdout.on('error', () => process.exit(0));

// What a stream yielded: bytes, a string, or the courier's object.
function seen(chunk) {
  if (Buffer.isBuffer(chunk)) {
    return { kind: 'bytes', base64: chunk.toString('base64'), utf8: chunk.toString('utf8') };
  }
  if (typeof chunk === 'string') {
    return { kind: 'string', base64: Buffer.from(chunk).toString('base64'), utf8: chunk };
  }
  return { kind: 'object', object: chunk };
}

function describe(error) {
  return String((error && error.message) || error);
}

const options = parse(process.argv.slice(2));
const log = (level) => (...words) => report('log', { level, text: words.map(String).join(' ') });
const settings = {
  seeds: options.seeds,
  logger: { info: log('info'), warn: log('warn'), error: log('error') },
};
if (options.minPeers !== undefined) settings.minPeers = options.minPeers;
if (options.maxPeers !== undefined) settings.maxPeers = options.maxPeers;

const app = coalescent(settings);

// `app.peers()` counts inbound peers as one where this side's address is the same, so the sockets are taken
// from where it keeps them.
const peers = () => [...app.connections.inbound, ...app.connections.outbound];

// Middleware of our own, as the original's documentation describes one.
function tap() {
  const { Transform } = require('stream');
  return new Transform({
    objectMode: true,
    transform(chunk, _encoding, done) {
      report('tap', seen(chunk));
      done(null, chunk);
    },
  });
}

for (const name of options.use) {
  if (name === 'tap') app.use(tap);
  else if (name === 'courier') app.use(coalescent.courier(options.courier));
  else if (['tattletale', 'smartrelay', 'router'].includes(name)) app.use(coalescent[name]());
  else fail(`no middleware is called ${name}`);
}

for (const [type, reply] of options.routes) {
  if (typeof app.route !== 'function') fail('--route needs --use courier,router');
  app.route(type, (socket, message) => {
    report('routed', { route: type, message: { type: message.type, body: message.body } });
    if (reply !== undefined) socket.send(reply, message.body);
  });
}

// Its documentation says that these events carry the socket. What they do carry is the result of
// `socket.address()`: this side's end of the connection.
const where = (peer) => ({ local: peer && peer.port ? `${peer.address}:${peer.port}` : null });
app.on('peerConnected', (peer) => report('peerConnected', where(peer)));
app.on('peerDisconnected', (peer) => report('peerDisconnected', where(peer)));
app.on('error', (error) => report('error', { error: describe(error) }));
if (options.read) app.on('data', (chunk) => report('data', seen(chunk)));

// Reports what is about to end the process, and lets it.
process.on('uncaughtExceptionMonitor', (error) => report('crashed', { error: describe(error) }));

function body(words) {
  const text = words.join(' ').trim();
  return text === '' ? {} : JSON.parse(text);
}

function command(line) {
  const [verb, ...words] = line.split(' ');
  switch (verb) {
    case '': break;
    case 'broadcast': app.broadcast(words[0], body(words.slice(1))); break;
    case 'send': peers()[Number(words[0])].send(words[1], body(words.slice(2))); break;
    case 'value': app.broadcast(words[0], Function(`return (${words.slice(1).join(' ')})`)()); break;
    case 'write': app.write(words.join(' ')); break;
    case 'writeln': app.write(`${words.join(' ')}\n`); break;
    case 'writehex': app.write(Buffer.from(words.join(''), 'hex')); break;
    case 'peers': report('peers', { count: peers().length, distinct: app.peers().length }); break;
    case 'quit': process.exit(0); break;
    default: throw new Error(`no command is called ${verb}`);
  }
}

const input = readline.createInterface({ input: process.stdin });
input.on('line', (line) => {
  try {
    command(line);
  } catch (error) {
    report('refused', { command: line, error: describe(error) });
  }
});
if (!options.stay) input.on('close', () => process.exit(0));

if (options.listen === undefined) {
  // The original dials its seeds only once it listens, so a peer that only dials takes a free port too.
  options.listen = 0;
}
app.listen(options.listen, options.host, () => {
  report('listening', { host: options.host, port: app.server.address().port });
});

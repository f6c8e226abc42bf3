// The bounds of the JavaScript client, on a clock and a socket of this test's own: `node tests/javascript/bounds.mjs`.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";

// The clock.
let now = 1e12, timers = [];
Date.now = () => now;
globalThis.setTimeout = (act, after = 0) => {
  const timer = { act, at: now + after };
  timers.push(timer);
  return timer;
};
globalThis.clearTimeout = (timer) => { timers = timers.filter((other) => other !== timer); };
/** Runs the next timer, and returns after how many milliseconds it was due. */
function next() {
  timers.sort((one, other) => one.at - other.at);
  const timer = timers.shift(), after = timer.at - now;
  now = Math.max(now, timer.at);
  timer.act();
  return after;
}

// The socket.
let sockets = [];
globalThis.WebSocket = class {
  static OPEN = 1;
  readyState = 0;
  bufferedAmount = 0;
  sent = [];
  constructor(url) { this.url = String(url); sockets.push(this); }
  send(frame) { this.sent.push(frame); }
  close(code, reason) { this.readyState = 3; this.closed = { code, reason }; }
};
const frame = (kind, ...bytes) => {
  const length = bytes.length + 2;
  return Uint8Array.from([length >>> 24, (length >>> 16) & 255, (length >>> 8) & 255, length & 255, kind, 0, ...bytes]);
};
const hear = (socket, ...frames) => { for (const bytes of frames) socket.onmessage({ data: bytes.buffer }); };
const text = (value) => [...new TextEncoder().encode(value)];
// {"v": 1, "net": "", "max": 1000}
const HELLO = frame(16, 0x83, 0xa1, 0x76, 1, 0xa3, 0x6e, 0x65, 0x74, 0xa0, 0xa3, 0x6d, 0x61, 0x78, 0xcd, 3, 0xe8);
const DATA = 0, REQUEST = 2, REPLY = 3, CANCEL = 4, PING = 17, PONG = 18;
const kinds = (socket) => socket.sent.splice(0).map((bytes) => bytes[4]);
const settle = () => new Promise((resolve) => setImmediate(resolve));

const code = readFileSync(new URL("../../js/coalescent.js", import.meta.url));
const { connect } = await import(`data:text/javascript;base64,${code.toString("base64")}`);

let reasons, errors;
function start(options) {
  [timers, sockets, reasons, errors] = [[], [], [], []];
  return connect("ws://node/mesh", {
    onclose: (reason) => reasons.push(reason), onerror: (error) => errors.push(error.message), ...options,
  });
}
function open(socket) {
  socket.readyState = 1;
  socket.onopen({});
  hear(socket, HELLO);
  socket.sent = [];
}

// It comes back at random within a time that doubles, up to a minute, and starts again once it was connected for long.
Math.random = () => 1;
start();
const pauses = [];
for (let n = 0; n < 9; n++) {
  sockets.at(-1).onclose({ reason: "", code: 1006 });
  pauses.push(next());
}
assert.deepEqual(pauses, [500, 1000, 2000, 4000, 8000, 16000, 32000, 60000, 60000]);
Math.random = () => 0.25;
open(sockets.at(-1));
sockets.at(-1).onclose({ reason: "", code: 1006 });
assert.equal(next(), 15000);
open(sockets.at(-1));
now += 30001;
sockets.at(-1).onclose({ reason: "", code: 1006 });
assert.equal(next(), 125);

// Who does not open, or does not introduce itself, is left.
start();
assert.equal(next(), 15000);
assert.deepEqual([reasons, sockets[0].closed.code], [["it did not answer"], 4000]);
next();
sockets[1].readyState = 1;
sockets[1].onopen({});
assert.equal(next(), 15000);
assert.equal(reasons.length, 2);

// Silence is asked about, and then ends the connection, however late the timers are.
start();
open(sockets[0]);
assert.equal(next(), 30000);
assert.deepEqual(kinds(sockets[0]), [PING]);
hear(sockets[0], frame(PONG, ...new Array(8).fill(0)));
next();
assert.equal(next(), 10000);
assert.deepEqual(kinds(sockets[0]), [PING]);
assert.equal(next(), 20000);
assert.deepEqual(reasons, ["it fell silent"]);
start();
open(sockets[0]);
now += 600000;
next();
assert.deepEqual([kinds(sockets[0]), reasons], [[PING], []]);

// Too much that waits to be sent is an error, and pings do not add to it.
let peer = start();
assert.throws(() => peer.send("early"), /not connected/);
open(sockets[0]);
assert.throws(() => peer.send("large", "x".repeat(1000)), /the limit is 1000/);
sockets[0].bufferedAmount = (4 << 20) + 1;
assert.throws(() => peer.send("more"), /too much waits/);
await assert.rejects(peer.request("more"), /too much waits/);
hear(sockets[0], frame(PING, ...new Array(8).fill(0)));
assert.deepEqual(kinds(sockets[0]), []);
sockets[0].bufferedAmount = 0;
hear(sockets[0], frame(PING, ...new Array(8).fill(0)));
assert.deepEqual(kinds(sockets[0]), [PONG]);

// So are too many requests, and too many handlers. What waits is told when the connection is lost.
const waiting = Array.from({ length: 1024 }, () => peer.request("wait"));
await assert.rejects(peer.request("wait"), /too many requests/);
sockets[0].sent = [];
peer.on("slow", () => new Promise(() => {}));
const slow = frame(DATA, ...text('{"type":"slow"}'));
hear(sockets[0], ...new Array(1025).fill(slow));
await settle();
assert.deepEqual(errors, ["too many handlers run: a message is dropped"]);
hear(sockets[0], frame(REQUEST, 0, 0, 0, 9, ...text('{"type":"slow"}')));
await settle();
assert.deepEqual(kinds(sockets[0]), [REPLY]);
sockets[0].onclose({ reason: "gone", code: 1000 });
for (const request of waiting) {
  await assert.rejects(request, (error) => error.message === "the connection was lost: gone" && error.answered === false);
}

// A request that takes too long is cancelled, and its answer passed over.
peer = start();
open(sockets[0]);
const late = peer.request("late", {}, { timeout: 100 });
assert.equal(next(), 100);
await assert.rejects(late, /no answer to "late" in 100 ms/);
assert.deepEqual(kinds(sockets[0]), [REQUEST, CANCEL]);
hear(sockets[0], frame(REPLY, 0, 0, 0, 1, 0, ...text('{"type":"late"}')));
assert.equal(peer.connected, true);

// What a handler returns after its connection has ended goes to nobody.
let finish;
peer.on("later", () => new Promise((resolve) => { finish = resolve; }));
hear(sockets[0], frame(REQUEST, 0, 0, 0, 1, ...text('{"type":"later"}')));
sockets[0].onclose({ reason: "", code: 1006 });
next();
open(sockets[1]);
finish({ type: "done" });
await settle();
assert.deepEqual([kinds(sockets[1]), errors], [[], []]);

// Keys and values of an introduction that are odd change nothing: a limit is a number, and only lowers this end's.
for (const odd of [[0xc0], [0xa1, 0x78], [0x90], [0xcb, 0x7f, 0xf0, 0, 0, 0, 0, 0, 0], [0xcf, ...new Array(8).fill(0xff)]]) {
  peer = start({ maxFrame: 2000 });
  sockets[0].readyState = 1;
  sockets[0].onopen({});
  hear(sockets[0], frame(16, 0x85, 0xa1, 0x76, 1, 0xa3, 0x6e, 0x65, 0x74, 0xa0, 0xa3, 0x6d, 0x61, 0x78, ...odd,
    0xa9, ...text("__proto__"), 0x81, 0xa1, 0x61, 1, 0x93, 1, 2, 3, 0x80));
  assert.equal(peer.connected, true);
  peer.send("fits", "x".repeat(1900));
  assert.throws(() => peer.send("large", "x".repeat(2000)), /the limit is 2000/);
  assert.equal({}.a, undefined);
}

// Of a message of many frames, only what is left of it is kept; frames go on where they were cut.
peer = start();
open(sockets[0]);
let said = 0;
peer.on("n", (body) => { said += body; });
const many = Array.from({ length: 1000 }, () => [...frame(DATA, ...text('{"type":"n","body":1}'))]).flat();
for (let at = 0; at < many.length; at += 777) hear(sockets[0], Uint8Array.from(many.slice(at, at + 777)));
await settle();
assert.equal(said, 1000);

// An answer counts once, and its number is worth nothing after that.
const once = peer.request("once");
const answer = (body) => frame(REPLY, 0, 0, 0, 1, 0, ...text(`{"type":"once","body":${body}}`));
hear(sockets[0], answer(1), answer(2));
assert.equal((await once).body, 1);
hear(sockets[0], answer(3));
assert.deepEqual([peer.connected, errors], [true, []]);

// Callbacks that fail harm nothing.
console.error = () => {};
peer = start({ onopen() { throw new Error("of the page"); }, onerror() { throw new Error("of the page"); } });
open(sockets[0]);
hear(sockets[0], frame(DATA, ...text("{")));
await settle();
assert.equal(peer.connected, true);
peer.close();
assert.deepEqual([timers, sockets[0].closed.code], [[], 1000]);

console.log("ok");

// A peer in a browser: the native wire of coalescent in the binary messages of a WebSocket, with messages in JSON.
// The other end is a node with `Courier::json()`, without an identity. No build step, no dependencies.
//
//   import { connect } from "/coalescent.js";
//   const peer = connect("/mesh");
//   peer.on("chat", (body) => show(body.text));
//   peer.broadcast("chat", { text: "hello" });                  // to everyone in the mesh
//   const { body } = await peer.request("time");                 // from the node at the other end

const DATA = 0, BROADCAST = 1, REQUEST = 2, REPLY = 3, CANCEL = 4, HELLO = 16, PING = 17, PONG = 18, BYE = 19;
const OK = 0, NO_ANSWER = 1, FAILED = 2; // of a REPLY
const TTL = 32; // relays that a broadcast passes at most
const HEAD_MAX = 14, HELLO_MAX = 1024; // bytes of a frame before its payload, and before the other end's HELLO
const OPEN_WITHIN = 15000, ANSWER_WITHIN = 20000, PING_EVERY = 30000, UP = 30000; // milliseconds
const MAX_REQUESTS = 1024; // own requests that wait for their answers, and messages whose handlers run
const MAX_BUFFERED = 4 << 20; // bytes that wait to be sent
const EMPTY = new Uint8Array(0), text = new TextEncoder(), decoder = new TextDecoder("utf-8", { fatal: true });

/** @typedef {{ type: string, body?: any, headers?: object }} Message what handlers get, and may return for an answer */
/**
 * @typedef {object} Options
 * @property {string} [network] the name of the mesh's network (default "")
 * @property {string} [agent] the name of this program, for humans (default "browser")
 * @property {number} [maxFrame] the largest message in bytes, both ways (default 1 MiB)
 * @property {number} [retryMin] milliseconds before the first attempt to reconnect, at most (default 500)
 * @property {number} [retryMax] milliseconds between attempts, at most (default 60000)
 * @property {() => void} [onopen] is called whenever the node is connected
 * @property {(reason: string) => void} [onclose] is called whenever it is connected no more, or an attempt has failed
 * @property {(error: Error) => void} [onerror] is called with what goes wrong without an end (default: console.warn)
 * @property {(message: Message) => any} [onmessage] gets messages of types that have no handler
 */

/**
 * Stays connected to the node at a URL (`ws:`, `wss:`, `http:`, `https:`, or relative to the page) until `close()`.
 * @param {string | URL} url
 * @param {Options} [options]
 */
export const connect = (url, options) => new Peer(url, options);

class Peer {
  #url; #options; #socket = null; #timer = null; #retry; #opened = 0; #closed = false;
  #handlers = new Map(); #requests = new Map(); #nextId = 0; #waiting = [];
  #buffer = EMPTY; #length = 0; #running = 0; #remote = null; #heard = 0;

  constructor(url, options = {}) {
    this.#url = new URL(url, globalThis.location?.href);
    this.#url.protocol = this.#url.protocol.replace("http", "ws");
    this.#options = { network: "", agent: "browser", maxFrame: 1 << 20, retryMin: 500, retryMax: 60000, ...options };
    hello(this.#options); // Throws if the names are too long.
    this.#retry = this.#options.retryMin;
    this.#dial();
  }

  /** Whether the node is connected. */
  get connected() { return this.#remote !== null; }

  /** What the node says of itself, such as its `agent`: a Map, or null while it is not connected. */
  get remote() { return this.#remote; }

  /** Resolves when the node is connected; rejects once `close()` was called. */
  async opened() {
    if (this.#closed) throw new Error("the peer is closed");
    if (!this.connected) await new Promise((resolve, reject) => this.#waiting.push({ resolve, reject }));
  }

  /**
   * Calls `handler(body, message)` with each message of this type, in place of an earlier handler. What it returns, or
   * resolves to, is sent back as the answer if it is a message: an object with a `type`.
   * @param {((body: any, message: Message) => any) | null} handler null removes it
   */
  on(type, handler) { this.#handlers.set(type, handler); return this; }

  /** Sends a message to the node alone. Throws if it is not connected, the message is too large, or too much waits. */
  send(type, body, headers) { this.#write(DATA, 0, [], encode({ type, body, headers })); }

  /** Sends a message to the node and, through it, to everyone in the mesh. Throws as `send` does. */
  broadcast(type, body, headers) { this.#write(BROADCAST, TTL, random(8), encode({ type, body, headers })); }

  /**
   * Asks the node. Resolves to its answer; rejects if the node says that it failed, has no answer within `timeout`
   * milliseconds (30,000), or is lost. What it rejects with has `answered`: false if the node may not have heard it.
   * @param {{ timeout?: number, headers?: object }} [options]
   * @returns {Promise<Message>}
   */
  async request(type, body, { timeout = 30000, headers } = {}) {
    if (this.#requests.size >= MAX_REQUESTS) throw new Error("too many requests wait for their answers");
    const id = this.#nextId = (this.#nextId + 1) >>> 0, field = u32(id);
    this.#write(REQUEST, 0, field, encode({ type, body, headers }));
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        reject(failure(`no answer to ${JSON.stringify(type)} in ${timeout} ms`, false));
        if (this.connected) this.#frame(CANCEL, 0, field, []);
      }, timeout);
      this.#requests.set(id, { resolve, reject, timer });
    }).finally(() => { clearTimeout(this.#requests.get(id).timer); this.#requests.delete(id); });
  }

  /** Disconnects for good. */
  close() {
    this.#closed = true;
    clearTimeout(this.#timer);
    if (this.#remote) this.#frame(BYE, 0, [], text.encode("closed"));
    this.#end("closed here", 1000);
    for (const { reject } of this.#waiting.splice(0)) reject(new Error("the peer is closed"));
  }

  #dial() {
    const socket = this.#socket = Object.assign(new WebSocket(this.#url), { binaryType: "arraybuffer" });
    [this.#buffer, this.#length] = [EMPTY, 0];
    this.#timer = setTimeout(() => this.#end("it did not answer"), OPEN_WITHIN);
    const current = (act) => (event) => { if (this.#socket === socket) act(event); };
    socket.onopen = current(() => this.#frame(HELLO, 0, [], hello(this.#options)));
    socket.onmessage = current(({ data }) => this.#hear(data));
    socket.onclose = current(({ reason, code }) => this.#end(reason || `the connection ended (${code})`));
  }

  /** Ends the connection, and plans another one unless it is for good. */
  #end(reason, code = 4000) {
    const socket = this.#socket;
    if (!socket) return;
    if (this.#opened && Date.now() - this.#opened > UP) this.#retry = this.#options.retryMin;
    [this.#socket, this.#remote, this.#opened] = [null, null, 0];
    clearTimeout(this.#timer);
    try { socket.close(code, reason.slice(0, 40).replace(/[^ -~]/g, "?")); } catch (error) { this.#report(error); }
    for (const { reject } of this.#requests.values()) reject(failure(`the connection was lost: ${reason}`, false));
    if (!this.#closed) {
      // At random within the time, so that not all come back at once when a node returns.
      this.#timer = setTimeout(() => this.#dial(), Math.random() * this.#retry);
      this.#retry = Math.min(this.#retry * 2, this.#options.retryMax);
    }
    this.#call(this.#options.onclose, reason);
  }

  /** Asks whether the node is there, if it has said nothing for long. Timers may be late: what counts is the asking. */
  #watch(asked = false) {
    const silent = Date.now() - this.#heard, asks = silent >= PING_EVERY;
    if (asks && asked) return this.#end("it fell silent");
    if (asks) this.#frame(PING, 0, [], new Uint8Array(8));
    this.#timer = setTimeout(() => this.#watch(asks), asks ? ANSWER_WITHIN : PING_EVERY - silent);
  }

  #write(kind, ttl, fields, payload) {
    if (!this.connected) throw new Error("not connected: wait for opened()");
    const max = Math.min(...[this.#options.maxFrame, this.#remote.get("max")].filter(Number.isFinite));
    if (payload.length > max) throw new Error(`a message of ${payload.length} bytes is too large: the limit is ${max}`);
    if (this.#isFull()) throw new Error("too much waits to be sent: try again later");
    this.#frame(kind, ttl, fields, payload);
  }

  #isFull() { return this.#socket.bufferedAmount > MAX_BUFFERED; }
  #frame(kind, ttl, fields, payload) {
    const head = [...u32(2 + fields.length + payload.length), kind, ttl, ...fields];
    const frame = new Uint8Array(head.length + payload.length);
    frame.set(head); frame.set(payload, head.length);
    if (this.#socket.readyState === WebSocket.OPEN) this.#socket.send(frame);
  }

  /** Takes frames out of what has come: a message is a piece of a stream, of any length. */
  #hear(data) {
    if (!(data instanceof ArrayBuffer)) return this.#end("it sends text: is its wire native?");
    const socket = this.#socket, before = this.#buffer, length = this.#length + data.byteLength;
    this.#heard = Date.now();
    if (length > before.length) {
      this.#buffer = new Uint8Array(Math.max(length, 2 * before.length));
      this.#buffer.set(before);
    }
    this.#buffer.set(new Uint8Array(data), this.#length);
    this.#length = length;
    try {
      let at = 0;
      while (length >= at + 4) {
        const size = number(this.#buffer, at), end = at + 4 + size;
        if (size < 2) throw new Error("a frame is too short");
        const max = this.#remote ? this.#options.maxFrame + HEAD_MAX - 4 : HELLO_MAX + 2;
        if (size > max) throw new Error(`a frame of ${size} bytes is too large`);
        if (end > length) break;
        this.#take(this.#buffer[at + 4], this.#buffer.subarray(at + 6, end));
        if (this.#socket !== socket) return;
        at = end;
      }
      // What was large is not kept for the sake of the little that is left of it.
      if (at) [this.#buffer, this.#length] = [this.#buffer.slice(at, length), length - at];
    } catch (error) {
      this.#end(`it does not speak the native wire: ${error.message}`);
    }
  }

  /** Acts on a frame. Throws if the other end breaks the rules of the wire. */
  #take(kind, rest) {
    const fields = { [BROADCAST]: 8, [REQUEST]: 4, [REPLY]: 5, [CANCEL]: 4, [PING]: 8 }[kind] ?? 0;
    if (rest.length < fields) throw new Error("a frame is shorter than its fields");
    const payload = rest.subarray(fields);
    if (kind === BYE) return this.#end(`it said: ${words(payload)}`);
    if ((kind === HELLO) !== (this.#remote === null)) throw new Error("it does not introduce itself once, and first");
    if (kind === HELLO) return this.#introduced(unpack(rest));
    if (kind === DATA || kind === BROADCAST) this.#handle(payload, null);
    else if (kind === REQUEST) this.#handle(payload, rest.slice(0, 4));
    else if (kind === REPLY) this.#answered(this.#requests.get(number(rest, 0)), rest[4], payload);
    else if (kind === PING && !this.#isFull()) this.#frame(PONG, 0, [], rest.subarray(0, 8));
  }

  #introduced(remote) {
    if (!(remote instanceof Map) || remote.get("v") !== 1) throw new Error("it speaks another version");
    if (remote.get("net") !== this.#options.network) throw new Error("it belongs to another network");
    [this.#remote, this.#opened] = [remote, Date.now()];
    clearTimeout(this.#timer);
    this.#watch();
    for (const { resolve } of this.#waiting.splice(0)) resolve();
    this.#call(this.#options.onopen);
  }

  #answered(request, status, payload) {
    const fail = (why) => request?.reject(failure(why, true));
    if (status !== OK) return fail(status === NO_ANSWER ? "the node gave no answer" : words(payload));
    try { request?.resolve(parse(payload)); } catch (error) { fail(`the answer is no message: ${error.message}`); }
  }

  /** Gives a message to its handler, and what that returns to the node. `id` is that of a request. */
  async #handle(payload, id) {
    const socket = this.#socket;
    let status = NO_ANSWER, answer = [];
    try {
      if (++this.#running > MAX_REQUESTS) throw new Error("too many handlers run: a message is dropped");
      const message = parse(payload);
      const handler = this.#handlers.get(message.type) ?? ((_, message) => this.#options.onmessage?.(message));
      const result = await handler(message.body, message);
      if (typeof result?.type === "string") [status, answer] = [OK, encode(result)];
    } catch (error) {
      [status, answer] = [FAILED, text.encode(String(error?.message ?? error).slice(0, 80))];
      this.#report(error);
    }
    this.#running--;
    if (this.#socket !== socket) return; // A connection that came after it has heard no request.
    if (id) this.#call(() => this.#write(REPLY, 0, [...id, status], answer));
    else if (status === OK) this.#call(() => this.#write(DATA, 0, [], answer));
  }

  #call(callback, ...args) { try { callback?.(...args); } catch (error) { this.#report(error); } }
  #report(error) { try { (this.#options.onerror ?? console.warn)(error); } catch (other) { console.error(other); } }
}

const failure = (message, answered) => Object.assign(new Error(message), { answered });
const random = (length) => crypto.getRandomValues(new Uint8Array(length));
const words = (bytes) => new TextDecoder().decode(bytes.subarray(0, 1024));
const u32 = (value) => [value >>> 24, (value >>> 16) & 255, (value >>> 8) & 255, value & 255];
const number = (bytes, at) => ((bytes[at] << 24) | (bytes[at + 1] << 16) | (bytes[at + 2] << 8) | bytes[at + 3]) >>> 0;

function encode({ type, body, headers }) {
  if (typeof type !== "string") throw new TypeError("the type of a message is a string");
  return text.encode(JSON.stringify({ type, body, headers }));
}

function parse(payload) {
  const message = JSON.parse(decoder.decode(payload));
  if (typeof message?.type !== "string") throw new Error("a message has no type");
  return { type: message.type, body: "body" in message ? message.body : {}, headers: message.headers ?? {} };
}

/** The payload of this end's HELLO, in MessagePack. */
function hello({ network, agent, maxFrame }) {
  const string = (value) => {
    const bytes = text.encode(value);
    if (bytes.length > 128) throw new Error("the names of the network and the agent have at most 128 bytes");
    return [0xd9, bytes.length, ...bytes];
  };
  const max = [0xce, ...u32(maxFrame)], node = [0xc4, 16, ...random(16)];
  const fields = { v: [1], node, net: string(network), agent: string(agent), max };
  return Uint8Array.from([0x85, ...Object.entries(fields).flatMap(([key, value]) => [...string(key), ...value])]);
}

/** Decodes MessagePack; what no known key has is null. An element takes a byte at least: all that count are there. */
function unpack(bytes) {
  let at = 0;
  const take = (length) => {
    if (length > bytes.length - at) throw new Error("its introduction is cut off");
    return bytes.subarray(at, (at += length));
  };
  const uint = (length) => take(length).reduce((value, byte) => value * 256 + byte, 0);
  const string = (length) => decoder.decode(take(length));
  const list = (length, depth) => Array.from((function* () { while (length--) yield value(depth + 1); })());
  const map = (length, depth) => new Map((function* () { while (length--) yield [value(depth + 1), value(depth + 1)]; })());
  const value = (depth) => {
    if (depth > 16) throw new Error("its introduction is nested too deeply");
    const tag = uint(1), size = 1 << (tag & 3);
    if (tag < 0x80) return tag;
    if (tag < 0x90) return map(tag & 15, depth);
    if (tag < 0xa0) return list(tag & 15, depth);
    if (tag < 0xc0) return string(tag & 31);
    if (tag < 0xc4 || tag >= 0xe0) return null; // nil, booleans, negative numbers
    if (tag < 0xc7) return take(uint(size));
    if (tag < 0xca) return void take(1 + uint(1 << (tag - 0xc7))); // extensions
    if (tag < 0xcc || (tag >= 0xd0 && tag < 0xd4)) return void take(size); // floats and signed numbers
    if (tag < 0xd0) return uint(size);
    if (tag < 0xd9) return void take(1 + (1 << (tag - 0xd4))); // extensions
    if (tag < 0xdc) return string(uint(1 << (tag - 0xd9)));
    return (tag < 0xde ? list : map)(uint(tag & 1 ? 4 : 2), depth);
  };
  return value(0);
}

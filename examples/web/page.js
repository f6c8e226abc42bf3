"use strict";

// A peer in a browser: one JSON message in each text message of a WebSocket.
// Text of other users is inserted as text, never as markup.

const MAX_LINES = 500; // lines kept on the page
const MAX_TEXT = 2000; // characters shown per line
const MAX_HANDLE = 32; // characters shown per name
const PEERS_EVERY = 2000; // milliseconds
const RETRY_MIN = 500, RETRY_MAX = 30000; // milliseconds

const element = (id) => document.getElementById(id);
const [state, log, say, handle, line, peers] =
  ["state", "log", "say", "handle", "line", "peers"].map(element);

let socket = null;
let retry = RETRY_MIN;

function connect() {
  const url = new URL("/mesh", location);
  url.protocol = url.protocol.replace("http", "ws");
  socket = new WebSocket(url);
  socket.addEventListener("open", () => {
    retry = RETRY_MIN;
    show_state("connected");
    refresh_peers();
  });
  socket.addEventListener("message", (event) => hear(event.data));
  socket.addEventListener("close", (event) => {
    const why = event.reason ? `: ${event.reason}` : "";
    show_state(`disconnected${why}; trying again`);
    // Add jitter, so that not all clients reconnect at once when a server returns.
    setTimeout(connect, retry * (0.5 + Math.random() / 2));
    retry = Math.min(retry * 2, RETRY_MAX);
  });
}

function show_state(text) {
  state.textContent = text;
  state.dataset.connected = String(text === "connected");
}

function hear(data) {
  let message;
  try {
    message = JSON.parse(data);
  } catch {
    return;
  }
  const body = message?.body;
  if (message?.type === "chat" && typeof body?.text === "string") {
    show(String(body.handle ?? "someone"), body.text, false);
  }
}

function show(name, text, own) {
  const entry = document.createElement("li");
  const who = document.createElement("bdi");
  who.textContent = name.slice(0, MAX_HANDLE);
  const what = document.createElement("bdi");
  what.textContent = text.slice(0, MAX_TEXT);
  entry.append(who, ": ", what);
  entry.classList.toggle("own", own);
  const at_end = log.scrollTop + log.clientHeight >= log.scrollHeight - 20;
  log.append(entry);
  while (log.children.length > MAX_LINES) {
    log.firstElementChild.remove();
  }
  if (at_end || own) {
    log.scrollTop = log.scrollHeight;
  }
}

say.addEventListener("submit", (event) => {
  event.preventDefault();
  if (socket?.readyState !== WebSocket.OPEN) {
    return;
  }
  const body = { handle: handle.value, text: line.value };
  // On this wire messages are identified by their bytes. A unique number makes repeated lines
  // distinct.
  const headers = { id: Array.from(crypto.getRandomValues(new Uint32Array(2))).join("-") };
  socket.send(JSON.stringify({ type: "chat", body, headers }));
  show(body.handle, body.text, true);
  line.value = "";
  line.focus();
});

async function refresh_peers() {
  try {
    const response = await fetch("/peers");
    const entries = (await response.json()).map((peer) => {
      const entry = document.createElement("li");
      const name = document.createElement("bdi");
      name.textContent = peer.handle ?? "someone";
      const kind = document.createElement("small");
      kind.textContent = ` ${peer.kind}, ${peer.direction}`;
      entry.append(name, kind);
      return entry;
    });
    peers.replaceChildren(...entries);
  } catch {
    // The status line already shows that the server is unreachable.
  }
}

handle.value = `guest-${crypto.getRandomValues(new Uint16Array(1))[0]}`;
setInterval(refresh_peers, PEERS_EVERY);
connect();

// The chat page. Text of other users is inserted as text, never as markup.

import { connect } from "/coalescent.js";

const MAX_LINES = 500; // lines kept on the page
const MAX_TEXT = 2000; // characters shown per line
const MAX_HANDLE = 32; // characters shown per name
const PEERS_EVERY = 2000; // milliseconds

const element = (id) => document.getElementById(id);
const [state, log, say, handle, line, peers] =
  ["state", "log", "say", "handle", "line", "peers"].map(element);

const peer = connect("/mesh", {
  onopen() {
    show_state("connected");
    refresh_peers();
  },
  onclose: (reason) => show_state(`disconnected: ${reason}; trying again`),
});

peer.on("chat", (body) => {
  if (typeof body?.text === "string") {
    show(String(body.handle ?? "someone"), body.text, false);
  }
});

say.addEventListener("submit", (event) => {
  event.preventDefault();
  if (peer.connected) {
    const body = { handle: handle.value, text: line.value };
    peer.broadcast("chat", body);
    show(body.handle, body.text, true);
    line.value = "";
    line.focus();
  }
});

function show_state(text) {
  state.textContent = text;
  state.dataset.connected = String(peer?.connected);
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

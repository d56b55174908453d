// Owns one side's socket: hello, resume, outbox, reconnects. Does not know the page.
// Invariant: a text given to send() stays in localStorage until its ack or final refusal is on the screen.

const RETRY = new Set(["cid_gap", "overloaded", "unavailable", "rate_limited"]);
const UNACKED_MAX = 64;
const ANSWER_WITHIN_MS = 3000;
const random = (bytes) => [...crypto.getRandomValues(new Uint8Array(bytes))].map((b) => b.toString(16).padStart(2, "0")).join("");

// Two tabs must not count under one device. A tab takes the first device whose lock is free, so a reload or a later tab
// takes over what a closed one left unsent. Without locks (plain http on a LAN) sends go unnumbered: safe to make twice.
async function takeDevice(key) {
  const list = JSON.parse(localStorage.getItem(key + ".devices") || "[]");
  if (!navigator.locks) {
    const plain = list.find((d) => d.startsWith("u-")) || "u-" + random(8);
    if (!list.includes(plain)) localStorage.setItem(key + ".devices", JSON.stringify([...list, plain]));
    return plain;
  }
  const tryLock = (device) => new Promise((done) => {
    // The lock is held until the tab goes: its promise never settles.
    navigator.locks.request("everdesk." + key + device, { ifAvailable: true }, (lock) => {
      done(Boolean(lock));
      return lock ? new Promise(() => {}) : undefined;
    });
  });
  const unsent = (device) => Object.values(JSON.parse(localStorage.getItem(key + "." + device) || "{}").lanes || {}).some((l) => l.queue.length);
  const known = list.filter((device) => device.startsWith("d-")).sort((a, b) => unsent(b) - unsent(a));
  for (const device of known) if (await tryLock(device)) return device;
  const device = "d-" + random(8);
  await tryLock(device);
  const latest = JSON.parse(localStorage.getItem(key + ".devices") || "[]");
  localStorage.setItem(key + ".devices", JSON.stringify([...latest, device]));
  return device;
}

export class Link {
  // `on`: { state(text, ok), event(event), ends(event): true when our subscription of the session ends with it,
  //         unsent(entry), typing(t), cursor(c), presence(p), unauthorized() }
  constructor(key, token, nodes, on) {
    Object.assign(this, { key, token, nodes, on, node: 0, pause: 250, nextId: 1, asks: new Map(), follows: new Set(), over: false });
  }

  async start() {
    this.device = await takeDevice(this.key);
    this.numbered = this.device.startsWith("d-");
    // lanes: session -> { n: last number used, queue: [{ cid, text, n }], failed: [{ cid, text, failed: why }] }
    this.store = this.key + "." + this.device;
    const saved = JSON.parse(localStorage.getItem(this.store) || "{}");
    this.lanes = saved.lanes || {};
    this.cursors = {};
    for (const [session, lane] of Object.entries(this.lanes)) {
      for (const attempt of ["sent", "attempt"]) lane.queue.forEach((entry) => delete entry[attempt]);
      Object.assign(lane, { waits: false, strikes: 0 });
      for (const entry of [...lane.failed, ...lane.queue]) this.on.unsent({ ...entry, session });
    }
    this.connect();
    addEventListener("online", () => this.retryNow());
  }

  save() {
    localStorage.setItem(this.store, JSON.stringify({ lanes: this.lanes }));
  }

  lane(session) {
    return (this.lanes[session] ||= { n: 0, queue: [], failed: [] });
  }

  send(session, text) {
    const lane = this.lane(session);
    const entry = { cid: random(12), text, n: ++lane.n };
    lane.queue.push(entry);
    this.save();
    this.on.unsent({ ...entry, session });
    this.flush(session);
  }

  // Sends a finally refused text once more, as a new message.
  again(session, cid) {
    const lane = this.lane(session);
    const entry = lane.failed.find((each) => each.cid === cid);
    if (!entry) return;
    lane.failed.splice(lane.failed.indexOf(entry), 1);
    this.send(session, entry.text);
  }

  ask(verb, body) {
    if (!this.ready) return;
    this.write(verb, body);
  }

  stop() {
    this.over = true;
    clearTimeout(this.timer);
    clearInterval(this.pinging);
    this.socket?.close(1000);
  }

  connect() {
    if (this.over) return;
    const host = this.nodes[this.node % this.nodes.length];
    this.on.state("connecting to " + host, false);
    const socket = new WebSocket((location.protocol === "https:" ? "wss://" : "ws://") + host + "/v1/ws", "everdesk.v1.json");
    this.socket = socket;
    this.host = host;
    // A node that hangs accepts the socket and says nothing.
    const patience = setTimeout(() => this.lost(socket), 5000);
    socket.onopen = () => {
      this.write("hello", { token: this.token, device: this.device, resume: this.followed() });
    };
    socket.onmessage = ({ data }) => {
      if (socket !== this.socket) return;
      const frame = JSON.parse(data);
      if (frame.welcome) clearTimeout(patience);
      this.heard = Date.now();
      this.take(frame);
    };
    socket.onclose = () => { clearTimeout(patience); this.lost(socket); };
  }

  lost(socket, pause) {
    if (socket !== this.socket) return;
    this.socket = null;
    this.ready = false;
    clearInterval(this.pinging);
    socket.close();
    this.asks.clear();
    for (const lane of Object.values(this.lanes)) {
      Object.assign(lane, { waits: false, strikes: 0 });
      for (const entry of lane.queue) { delete entry.sent; delete entry.attempt; }
    }
    if (this.over) return;
    this.node++;
    const wait = pause ?? this.pause;
    this.pause = Math.min(this.pause * 2, 8000);
    this.on.state("reconnecting", false);
    this.timer = setTimeout(() => this.connect(), wait / 2 + Math.random() * wait / 2);
  }

  retryNow() {
    if (this.socket || this.over) return;
    clearTimeout(this.timer);
    this.connect();
  }

  write(verb, body, context) {
    const id = this.nextId++;
    this.asks.set(id, { id, verb, ...context });
    const socket = this.socket;
    const written = Date.now();
    socket.send(JSON.stringify({ id, [verb]: body }));
    // Packets may vanish without a word of the network: it is dead when nothing at all was heard for so long while an answer is due.
    const look = () => {
      if (socket !== this.socket || !this.asks.has(id)) return;
      const left = Math.max(this.heard, written) + ANSWER_WITHIN_MS - Date.now();
      if (left <= 0) this.lost(socket);
      else setTimeout(look, left);
    };
    setTimeout(look, ANSWER_WITHIN_MS);
  }

  flush(session) {
    const lane = this.lane(session);
    if (!this.ready || lane.waits) return;
    // After a refusal one send feels the way; its ack opens the window again.
    const limit = this.numbered && !lane.strikes ? UNACKED_MAX : 1;
    for (const entry of lane.queue.slice(0, limit)) {
      if (entry.sent) continue;
      entry.sent = true;
      const body = { session, cid: entry.cid, text: entry.text };
      if (this.numbered) body.n = entry.n;
      this.write("send", body, { session, entry });
      entry.attempt = this.nextId - 1;
    }
  }

  take(frame) {
    const ask = frame.id === undefined ? undefined : this.asks.get(frame.id);
    if (ask) this.asks.delete(frame.id);
    if (frame.welcome) this.welcome(frame.welcome);
    else if (frame.event) this.event(frame.event);
    else if (frame.ack && ask) this.ack(frame.ack, ask);
    else if (frame.error) this.error(frame.error, ask);
    else if (frame.pong) this.pong(frame.pong);
    else if (frame.typing) this.on.typing(frame.typing);
    else if (frame.presence) this.on.presence(frame.presence);
    else if (frame.cursor && !ask) this.on.cursor(frame.cursor);
    else if (frame.history) frame.history.events.forEach((event) => this.on.event(event));
    else if (frame.drain) this.lost(this.socket, frame.drain.retry_ms);
  }

  welcome(welcome) {
    this.ready = true;
    this.pause = 250;
    this.on.state("connected to " + welcome.node + " (" + this.host + ")", true);
    this.promised = {};
    this.follows = new Set(welcome.sessions.map(({ session }) => session));
    this.pinged = false;
    this.pinging = setInterval(() => {
      // What the node pushes does not say that it hears us: only a pong does.
      if (this.pinged) return this.lost(this.socket);
      this.pinged = true;
      this.write("ping", { heads: this.followed() });
    }, welcome.ping_s * 1000);
    for (const session of Object.keys(this.lanes)) this.flush(session);
    // A page that was just loaded shows what came before the open conversation, too.
    for (const { session } of welcome.sessions) {
      if (this.cursors[session] === undefined) this.write("history", { session, limit: 100 });
    }
  }

  followed() {
    const known = Object.entries(this.cursors).filter(([session]) => this.follows.has(session));
    return known.slice(0, 500).map(([session, seq]) => ({ session, seq }));
  }

  event(event) {
    const cursor = this.cursors[event.session];
    if (cursor !== undefined && event.seq <= cursor) return;
    this.cursors[event.session] = event.seq;
    if (this.on.ends(event)) this.follows.delete(event.session); else this.follows.add(event.session);
    // Our own message on a resumed socket is as good as the ack that was lost.
    const queue = event.cid ? this.lane(event.session).queue : [];
    const at = queue.findIndex((entry) => entry.cid === event.cid);
    this.on.event(event);
    if (at >= 0) {
      queue.splice(at, 1);
      this.lane(event.session).strikes = 0;
      this.save();
    }
    this.tellReceived(event.session);
  }

  // One cursor frame for a burst of events.
  tellReceived(session) {
    this.telling ||= {};
    this.telling[session] ||= setTimeout(() => {
      delete this.telling[session];
      this.ask("cursor", { session, received: this.cursors[session] });
    }, 200);
  }

  ack(ack, { session, entry }) {
    const lane = this.lane(session);
    const at = lane.queue.indexOf(entry);
    if (at < 0) return;
    lane.queue.splice(at, 1);
    lane.strikes = 0;
    // Between two subscriptions an ack is only an answer: the next one brings the message as an event.
    if (this.follows.has(session) && !(this.cursors[session] >= ack.seq)) this.cursors[session] = ack.seq;
    this.on.event({ session, seq: ack.seq, ts: ack.ts, kind: "message", mine: true, cid: entry.cid, text: entry.text });
    this.save();
    this.flush(session);
  }

  error(error, ask) {
    if (error.code === "unauthorized") {
      this.stop();
      return this.on.unauthorized();
    }
    if (ask?.verb === "hello") return this.lost(this.socket, error.retry_after_ms);
    if (!ask?.entry) return;
    const { session, entry } = ask;
    const lane = this.lane(session);
    if (entry.attempt !== ask.id || !lane.queue.includes(entry)) return;
    if (RETRY.has(error.code)) return this.goBack(session, lane, entry, error);
    // Refused for good: its number is used up, its text stays on the screen.
    lane.queue.splice(lane.queue.indexOf(entry), 1);
    lane.failed.push({ cid: entry.cid, text: entry.text, failed: error.message });
    this.save();
    this.on.unsent({ ...lane.failed.at(-1), session });
    this.flush(session);
  }

  goBack(session, lane, entry, error) {
    const from = error.code === "cid_gap" ? 0 : lane.queue.indexOf(entry);
    for (const later of lane.queue.slice(from)) { delete later.sent; delete later.attempt; }
    if (error.expected_n && error.expected_n < lane.queue[0].n) {
      lane.queue.forEach((each, i) => { each.n = error.expected_n + i; });
      lane.n = lane.queue.at(-1).n;
      this.save();
    }
    lane.strikes = (lane.strikes || 0) + 1;
    lane.waits = true;
    setTimeout(() => { lane.waits = false; this.flush(session); }, error.retry_after_ms ?? Math.min(20 * 2 ** lane.strikes, 2000));
  }

  pong({ heads }) {
    this.pinged = false;
    for (const { session, head } of heads) {
      const cursor = this.cursors[session];
      // The push of an earlier pong's head never came: a fresh socket brings it.
      if (cursor !== undefined && cursor < (this.promised[session] || 0)) return this.lost(this.socket, 0);
      this.promised[session] = head;
    }
  }
}

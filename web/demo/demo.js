// Owns the two panels of the demo page. Does not know sockets: link.js does.
// Invariant: what came from people reaches the page as text only.

import { Link } from "/demo/link.js";

const SITE = "demo";
const query = new URLSearchParams(location.search);
const named = (query.get("nodes") || "").split(",").map((n) => n.trim()).filter(Boolean);
const nodes = [...new Set([location.host, ...named])];
const view = ["visitor", "agent"].includes(query.get("as")) ? query.get("as") : "both";
const time = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });

// Keeps the other parameters when the view changes.
for (const link of document.querySelectorAll("[data-view]")) {
  const target = new URLSearchParams(query);
  if (link.dataset.view === "both") target.delete("as"); else target.set("as", link.dataset.view);
  link.href = "?" + target;
  if (link.dataset.view === view) link.setAttribute("aria-current", "page");
}

const parts = (id) => {
  const root = document.getElementById(id);
  const found = { root };
  for (const part of root.querySelectorAll("[data-part]")) found[part.dataset.part] = part;
  return found;
};

async function post(path, body) {
  const answer = await fetch(path, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) });
  const told = await answer.json();
  if (!answer.ok) throw Object.assign(new Error(told.error?.message || "status " + answer.status), { code: told.error?.code });
  return told;
}

function element(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

// One session's messages and ticks.
class Talk {
  constructor(session, isMine, again) {
    Object.assign(this, { isMine, again, events: new Map(), unsent: new Map(), read: 0, received: 0, head: 0, closed: false });
    this.seenKey = "everdesk.seen." + session;
    this.seen = Number(localStorage.getItem(this.seenKey) || 0);
  }
  get unread() {
    return [...this.events.values()].filter((event) => event.kind === "message" && !event.mine && event.seq > this.seen).length;
  }
  see() {
    this.seen = this.head;
    localStorage.setItem(this.seenKey, String(this.seen));
  }
  add(event) {
    const mine = event.mine || (event.kind === "message" && this.isMine(event.from));
    // The ack and, after a resume, the event are two copies of one message.
    if (event.cid && mine) this.unsent.delete(event.cid);
    if (this.events.has(event.seq)) return false;
    this.events.set(event.seq, { ...event, mine });
    // History may come after newer pushes: only the newest event says whether the conversation is open.
    if (event.seq > this.head) [this.head, this.closed] = [event.seq, event.kind === "closed"];
    return true;
  }
  render(log) {
    const nearEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 80;
    const rows = [...this.events.values()].sort((a, b) => a.seq - b.seq).map((event) => this.row(event));
    for (const entry of this.unsent.values()) {
      const row = element("li", entry.failed ? "mine failed" : "mine", entry.text);
      row.append(element("small", "", entry.failed ? "not sent: " + entry.failed : "sending\u2026"));
      if (entry.failed) {
        const retry = element("button", "", "Try again");
        retry.type = "button";
        retry.addEventListener("click", () => { this.unsent.delete(entry.cid); this.again(entry); });
        row.append(retry);
      }
      rows.push(row);
    }
    log.replaceChildren(...rows);
    if (nearEnd) log.scrollTop = log.scrollHeight;
  }
  row(event) {
    if (event.kind === "assigned") return element("li", "note", "Agent " + event.agent + " has joined");
    if (event.kind === "closed") return element("li", "note", "The conversation was closed");
    if (event.kind !== "message") return element("li", "note", "");
    const row = element("li", event.mine ? "mine" : "", event.text);
    for (const file of event.attachments || []) {
      const link = element("a", "", "[" + file.name + "]");
      [link.href, link.target, link.rel] = [file.url, "_blank", "noopener noreferrer"];
      row.append(" ", link);
    }
    const tick = !event.mine ? "" : event.seq <= this.read ? " \u2713\u2713 read" : event.seq <= this.received ? " \u2713\u2713" : " \u2713 sent";
    row.append(element("small", "", time.format(event.ts) + tick));
    return row;
  }
}

// What both panels share: the compose box with its saved draft, typing, cursors.
class Panel {
  constructor(id) {
    this.ui = parts(id);
    this.talks = new Map();
    this.draftKey = "everdesk.draft." + id;
    const { text, compose } = this.ui;
    text.value = localStorage.getItem(this.draftKey) || "";
    text.addEventListener("input", () => { localStorage.setItem(this.draftKey, text.value); this.typing(text.value !== ""); });
    text.addEventListener("keydown", (key) => {
      // While an input method composes (Chinese, Japanese), Enter picks a word.
      if (key.key === "Enter" && !key.shiftKey && !key.isComposing) { key.preventDefault(); compose.requestSubmit(); }
    });
    compose.addEventListener("submit", (submit) => { submit.preventDefault(); this.submit(); });
    document.addEventListener("visibilitychange", () => this.markRead());
    addEventListener("focus", () => this.markRead());
  }
  submit() {
    const { text, notice } = this.ui;
    const value = text.value.trim();
    if (!value || !this.link || !this.session) return;
    if (new TextEncoder().encode(value).length > 16384) { notice.textContent = "This message is too long (16 KiB at most)."; return; }
    notice.textContent = "";
    this.link.send(this.session, value);
    text.value = "";
    localStorage.removeItem(this.draftKey);
    this.typing(false);
  }
  typing(on) {
    if (!this.link || !this.session || (on && Date.now() - (this.typed || 0) < 3000)) return;
    if (!on && !this.typed) return;
    this.typed = on ? Date.now() : 0;
    this.link.ask("typing", { session: this.session, on });
  }
  talk(session) {
    if (!this.talks.has(session)) this.talks.set(session, new Talk(session, (from) => this.isMe(from), (entry) => this.link.again(session, entry.cid)));
    return this.talks.get(session);
  }
  markRead() {
    const talk = this.session && this.talks.get(this.session);
    if (!talk || document.hidden || !document.hasFocus() || !talk.unread) return;
    talk.see();
    this.link?.ask("cursor", { session: this.session, received: talk.head, read: talk.head });
    this.refresh();
  }
  refresh() {
    const talk = this.session && this.talks.get(this.session);
    if (talk) talk.render(this.ui.log); else this.ui.log.replaceChildren();
  }
  connect(key, token) {
    this.link = new Link(key, token, nodes, {
      state: (text, ok) => { this.ui.state.textContent = text; this.ui.state.dataset.ok = ok; },
      ends: (event) => this.ends(event),
      event: (event) => { this.talk(event.session).add(event); this.seen?.(event); this.markRead(); this.refresh(); },
      unsent: (entry) => { this.talk(entry.session).unsent.set(entry.cid, entry); this.refresh(); },
      typing: (notice) => this.showTyping(notice),
      cursor: (cursor) => {
        if (this.isMe(cursor.from)) return;
        const talk = this.talk(cursor.session);
        talk.read = Math.max(talk.read, cursor.read);
        talk.received = Math.max(talk.received, cursor.received);
        this.refresh();
      },
      presence: () => {},
      unauthorized: () => this.unauthorized(),
    });
    return this.link.start();
  }
  showTyping({ session, from, on }) {
    if (session !== this.session || this.isMe(from)) return;
    clearTimeout(this.lapse);
    this.ui.typing.textContent = on ? "typing\u2026" : "";
    if (on) this.lapse = setTimeout(() => { this.ui.typing.textContent = ""; }, 6000);
  }
}

class Visitor extends Panel {
  constructor() {
    super("visitor");
    this.ui.fresh.addEventListener("click", () => {
      if (!confirm("Leave this conversation and start as a new visitor?")) return;
      localStorage.removeItem("everdesk.visitor");
      location.reload();
    });
    this.enter();
  }
  isMe(from) { return from?.kind === "visitor"; }
  ends() { return false; }
  async enter() {
    let me = JSON.parse(localStorage.getItem("everdesk.visitor") || "null");
    // Two tabs opened at once must become one visitor.
    const make = async () => {
      me = JSON.parse(localStorage.getItem("everdesk.visitor") || "null") || await post("/v1/sites/" + SITE + "/visitors", {});
      localStorage.setItem("everdesk.visitor", JSON.stringify(me));
    };
    try {
      if (!me) await (navigator.locks ? navigator.locks.request("everdesk.visitor.new", make) : make());
    } catch (error) {
      this.ui.state.textContent = "no answer, trying again";
      setTimeout(() => this.enter(), error.code === "not_found" ? 10000 : 2000);
      return;
    }
    this.session = me.session;
    await this.connect("everdesk.v." + me.visitor.slice(0, 8), me.token);
  }
  unauthorized() {
    localStorage.removeItem("everdesk.visitor");
    this.ui.notice.textContent = "This visitor is no longer known. Reload to start anew; your draft is kept.";
  }
}

class Agent extends Panel {
  constructor() {
    super("agent");
    const { login, logout, close } = this.ui;
    login.addEventListener("submit", (submit) => { submit.preventDefault(); this.login(); });
    logout.addEventListener("click", () => { localStorage.removeItem("everdesk.agent"); this.link?.stop(); location.reload(); });
    close.addEventListener("click", () => { if (this.session) this.link?.ask("close", { session: this.session, seen: this.talk(this.session).head }); });
    const me = JSON.parse(localStorage.getItem("everdesk.agent") || "null");
    if (me) this.enter(me);
  }
  isMe(from) { return from?.kind === "agent" && from.id === this.me?.agent; }
  ends(event) { return event.kind === "closed" || (event.kind === "assigned" && event.agent !== this.me.agent); }
  async login() {
    const { name, password, notice, login } = this.ui;
    const button = login.querySelector("button");
    button.disabled = true;
    notice.textContent = "";
    try {
      const me = await post("/v1/agents/login", { site: SITE, name: name.value, password: password.value });
      password.value = "";
      localStorage.setItem("everdesk.agent", JSON.stringify(me));
      await this.enter(me);
    } catch (error) {
      notice.textContent = error.code === "unauthorized" ? "Wrong name or password." : "Could not log in: " + error.message;
    } finally {
      button.disabled = false;
    }
  }
  async enter(me) {
    this.me = me;
    this.ui.login.hidden = true;
    this.ui.desk.hidden = false;
    await this.connect("everdesk.a." + me.agent, me.token);
    this.refresh();
  }
  seen(event) {
    // The first conversation opens by itself; a later one only shows its count.
    if (!this.session) this.session = event.session;
  }
  refresh() {
    super.refresh();
    const rows = [...this.talks].map(([session, talk]) => {
      const button = element("button", "", session.slice(0, 8) + (talk.closed ? " (closed)" : ""));
      button.type = "button";
      button.setAttribute("aria-current", String(session === this.session));
      if (talk.unread) {
        const badge = element("span", "badge", String(talk.unread));
        badge.setAttribute("aria-label", talk.unread + " unread");
        button.append(badge);
      }
      button.addEventListener("click", () => { this.session = session; this.ui.typing.textContent = ""; this.markRead(); this.refresh(); });
      const row = element("li");
      row.append(button);
      return row;
    });
    this.ui.sessions.replaceChildren(...rows);
    this.ui.empty.hidden = rows.length > 0;
    const talk = this.talks.get(this.session);
    this.ui.close.disabled = !talk || talk.closed;
  }
  unauthorized() {
    localStorage.removeItem("everdesk.agent");
    this.ui.login.hidden = false;
    this.ui.desk.hidden = true;
    this.ui.notice.textContent = "Your login is no longer valid. Log in again; your draft is kept.";
  }
}

document.getElementById("visitor").hidden = view === "agent";
document.getElementById("agent").hidden = view === "visitor";
if (view !== "agent") new Visitor();
if (view !== "visitor") new Agent();

// Owns the time axis: which part of the run is seen, and what lies under the pointer. Draws no curve: it stretches what
// the page already shows. Without it the page still shows the whole run.
(() => {
  "use strict";
  const lines = document.getElementById("lines");
  if (!lines) return;
  const at = (id) => document.getElementById(id);
  const data = JSON.parse(at("data").textContent);
  const ticks = at("ticks"), grid = at("grid"), tip = at("tip"), hair = at("hair"), select = at("select");
  const END = data.end, SPAN_MIN = Math.min(END, Math.max(END / 400, 200000));
  const STEPS = [0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600, 7200, 14400];
  let from = 0, to = END;

  const pad = (number, places) => number.toFixed(places).padStart(places ? places + 3 : 2, "0");
  const moment = (us, places) => {
    const tenths = Math.round(us / 1e6 * 10 ** places) / 10 ** places;
    return pad(Math.floor(tenths / 60), 0) + ":" + pad(tenths % 60, places);
  };
  const length = (us) => us < 1e3 ? us + " µs" : us < 1e6 ? (us / 1e3).toPrecision(3) + " ms" : (us / 1e6).toFixed(2) + " s";

  function frame() {
    const box = ticks.parentElement.getBoundingClientRect();
    return { left: box.left, width: box.width, inner: box.left - lines.getBoundingClientRect().left - lines.clientLeft };
  }

  function show(a, b) {
    const span = Math.min(END, Math.max(b - a, SPAN_MIN));
    from = Math.min(Math.max(0, (a + b - span) / 2), END - span);
    to = from + span;
    lines.style.setProperty("--x", -from / span * 100 + "%");
    lines.style.setProperty("--w", END / span * 100 + "%");
    const whole = span >= END;
    at("range").textContent = whole ? "" : moment(from, 1) + " – " + moment(to, 1);
    const step = STEPS.find((step) => span / 1e6 / step <= frame().width / 80) || span / 8e6;
    const places = step < 0.1 ? 2 : step < 1 ? 1 : 0;
    let texts = "", rules = "";
    for (let tick = Math.ceil(from / 1e6 / step); tick * step * 1e6 <= to + 1; tick++) {
      const left = tick * step * 1e8 / END;
      texts += `<span style="left:${left}%">${moment(tick * step * 1e6, places)}</span>`;
      rules += `<i style="left:${left}%"></i>`;
    }
    ticks.innerHTML = texts;
    grid.innerHTML = rules;
    thin();
    hideCut();
  }

  // A list of nodes that is cut off would name other nodes.
  function hideCut() {
    const bars = [...lines.querySelectorAll(".lane b")];
    const cut = bars.map((bar) => bar.scrollWidth > bar.clientWidth);
    bars.forEach((bar, index) => bar.classList.toggle("tight", cut[index]));
  }

  // Of figures that would lie over each other the longer silence keeps its own; at the right edge they go to the left.
  function thin() {
    const labels = [...lines.querySelectorAll("s")], kept = [];
    const right = frame().left + frame().width;
    labels.forEach((label) => { label.hidden = false; label.classList.remove("flip"); });
    const past = labels.filter((label) => label.getBoundingClientRect().right > right && label.parentElement.getBoundingClientRect().left < right);
    past.forEach((label) => label.classList.add("flip"));
    const boxes = labels.map((label) => ({ label, box: label.getBoundingClientRect() })).sort((a, b) => a.box.top - b.box.top);
    for (const { label, box } of boxes) {
      const hit = (other) => box.left < other.right && other.left < box.right && box.top < other.bottom && other.top < box.bottom;
      if (kept.some(hit)) label.hidden = true;
      else kept.push(box);
    }
  }

  const move = (part) => show(from + (to - from) * part, to + (to - from) * part);
  const zoom = (factor) => { const middle = (from + to) / 2, half = (to - from) / 2 * factor; show(middle - half, middle + half); };
  const deeds = { left: () => move(-0.4), right: () => move(0.4), in: () => zoom(0.5), out: () => zoom(2), all: () => show(0, END) };
  const keys = { ArrowLeft: "left", ArrowRight: "right", "+": "in", "=": "in", "-": "out", "0": "all", Escape: "all" };

  at("tools").hidden = false;
  at("tools").addEventListener("click", (event) => { const deed = deeds[event.target.dataset.do]; if (deed) deed(); });
  lines.addEventListener("keydown", (event) => {
    const deed = keys[event.key];
    if (!deed || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    deeds[deed]();
  });
  document.addEventListener("click", (event) => {
    const button = event.target.closest && event.target.closest(".show");
    if (!button) return;
    const a = Number(button.dataset.from), b = Number(button.dataset.to), margin = Math.max((b - a) / 2, 3e6);
    show(a - margin, b + margin);
    lines.scrollIntoView({ block: "start" });
    lines.focus({ preventScroll: true });
  });

  function under(event, time) {
    const named = event.target.closest && event.target.closest("b");
    if (named && named.title) { named.dataset.tip = named.title; named.setAttribute("aria-label", named.title); named.removeAttribute("title"); }
    const index = Math.floor(time / data.width), said = [moment(time, 2)];
    if (named && named.dataset.tip) said.push(named.dataset.tip);
    else if (index < data.acked.length) {
      said.push(`${Math.round(data.acked[index] * 1e6 / data.width)} acks/s, ${data.unknown[index]} unknown, ${data.failed[index]} refused`);
      if (data.max[index]) said.push(`p50 ${length(data.p50[index])}, p99 ${length(data.p99[index])}, slowest ${length(data.max[index])}`);
      else said.push("nothing acknowledged");
    }
    return said.join("\n");
  }

  let drag = null;
  const timeAt = (x, box) => from + Math.min(1, Math.max(0, (x - box.left) / box.width)) * (to - from);
  lines.addEventListener("pointerdown", (event) => {
    const box = frame();
    if (event.button !== 0 || event.clientX < box.left || event.clientX > box.left + box.width) return;
    drag = { x: event.clientX, box, pans: event.shiftKey, from, to };
    if (event.shiftKey) event.preventDefault();
  });
  window.addEventListener("pointermove", (event) => {
    if (drag && drag.pans) {
      const by = (drag.x - event.clientX) / drag.box.width * (drag.to - drag.from);
      show(drag.from + by, drag.to + by);
    } else if (drag) {
      const a = Math.max(drag.box.left, Math.min(drag.x, event.clientX));
      const b = Math.min(drag.box.left + drag.box.width, Math.max(drag.x, event.clientX));
      select.hidden = b - a < 4;
      select.style.left = a - drag.box.left + drag.box.inner + "px";
      select.style.width = Math.max(0, b - a) + "px";
    }
  });
  window.addEventListener("pointerup", (event) => {
    if (drag && !drag.pans && Math.abs(event.clientX - drag.x) >= 6) {
      const a = timeAt(drag.x, drag.box), b = timeAt(event.clientX, drag.box);
      show(Math.min(a, b), Math.max(a, b));
    }
    drag = null;
    select.hidden = true;
  });
  window.addEventListener("pointercancel", () => { drag = null; select.hidden = true; tip.hidden = hair.hidden = true; });
  lines.addEventListener("dblclick", () => show(0, END));

  function point(event) {
    const box = frame();
    const outside = event.clientX < box.left || event.clientX > box.left + box.width;
    tip.hidden = hair.hidden = outside;
    if (outside) return;
    hair.style.left = event.clientX - box.left + box.inner + "px";
    tip.textContent = under(event, timeAt(event.clientX, box));
    const size = tip.getBoundingClientRect();
    const left = event.clientX + 16 + size.width < document.documentElement.clientWidth ? event.clientX + 16 : event.clientX - 16 - size.width;
    tip.style.left = Math.max(4, left) + "px";
    tip.style.top = Math.min(event.clientY + 18, window.innerHeight - size.height - 4) + "px";
  }
  lines.addEventListener("pointermove", point);
  lines.addEventListener("pointerdown", point);
  lines.addEventListener("pointerleave", () => { tip.hidden = hair.hidden = true; });
  window.addEventListener("resize", () => show(from, to));
  show(0, END);
})();

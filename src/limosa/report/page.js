"use strict";
// Draws the plots, moves the timeline's panes together, reads them under the pointer, and copies commands.
(() => {
  const root = document.documentElement;

  const specOf = (place) => JSON.parse(document.getElementById(`${place.dataset.plot}-spec`).textContent);

  const draw = async (place) => {
    const spec = specOf(place);
    // "ast" interprets expressions, so that the content policy need not permit eval.
    const options = { mode: "vega", renderer: "svg", ast: true, actions: false, tooltip: false, defaultStyle: false };
    const { view } = await vegaEmbed(place, spec, options);
    await fit(view, place);
    // Another width calls for another drawing; another height is what the last one made.
    let width = place.clientWidth;
    new ResizeObserver(() => {
      if (place.clientWidth === width) return;
      width = place.clientWidth;
      requestAnimationFrame(() => fit(view, place));
    }).observe(place);
    return view;
  };

  // The plots get what is left beside their axis labels; a printed page scales the drawing instead.
  const fit = async (view, place) => {
    const names = Object.keys(view.getState({ signals: (name) => /^(width|childWidth)$/.test(name) }).signals);
    const beside = place.dataset.beside ? Number(place.dataset.beside) : 0;
    for (let pass = 0; pass < 2; pass += 1) {
      const inner = Math.max(120, place.clientWidth - (pass ? Number(place.dataset.beside) : beside || 160));
      for (const name of names) view.signal(name, inner);
      await view.runAsync();
      if (place.dataset.beside) return;
      const svg = place.querySelector("svg");
      // Axis titles and the last label may reach a few px past the measured drawing. In a narrow window a pane's name
      // and key are wider than the pane itself: what they need must not be taken from it.
      const around = Number(svg.getAttribute("width")) - inner;
      place.dataset.beside = Math.ceil(Math.min(around, view.origin()[0] + 48));
    }
  };

  const plotArea = (place) => {
    const frames = [...place.querySelectorAll("g.mark-group.role-scope path.background")];
    const boxes = frames.map((frame) => frame.getBoundingClientRect()).filter((box) => box.width > 0);
    if (!boxes.length) return null;
    const base = place.parentElement.getBoundingClientRect();
    return {
      left: boxes[0].left, width: boxes[0].width, base,
      top: Math.min(...boxes.map((box) => box.top)), bottom: Math.max(...boxes.map((box) => box.bottom)),
    };
  };

  const nearest = (rows, time) => {
    let low = 0, high = rows.length - 1;
    while (high - low > 1) {
      const middle = (low + high) >> 1;
      if (rows[middle].t <= time) low = middle; else high = middle;
    }
    return time - rows[low].t < rows[high].t - time ? rows[low] : rows[high];
  };

  const shown = (value) => value >= 1000 ? Math.round(value).toLocaleString("en") : String(Number(value.toPrecision(3)));

  const describe = (readings, data, time, reach) => {
    const lines = [];
    for (const span of data.spans || []) {
      if (span.t <= time && time <= span.end) lines.push([span.kind, span.label]);
    }
    for (const one of data.decisions || []) if (Math.abs(one.t - time) <= reach) lines.push([one.words, one.why]);
    for (const phase of data.phases || []) if (phase.t <= time && time < phase.end) lines.push(["phase", phase.phase]);
    for (const [name, field, label, unit] of readings) {
      const rows = data[name];
      if (!rows || !rows.length) continue;
      const row = nearest(rows, time);
      if (Math.abs(row.t - time) > reach || row[field] == null) continue;
      if (field === "high" && row.middle === row.high) continue;
      lines.push([label, `${shown(row[field])} ${unit}`]);
    }
    return lines;
  };

  const element = (name, className, text) => {
    const made = document.createElement(name);
    if (className) made.className = className;
    if (text !== undefined) made.textContent = text;
    return made;
  };

  const linked = async (view, place) => {
    const figure = place.closest("figure");
    const cursor = figure.appendChild(element("div", "cursor"));
    const tip = figure.appendChild(element("div", "tip"));
    const buttons = [...figure.querySelectorAll("button[data-from]")];
    const data = {};
    const { readings } = specOf(place).usermeta; // what there is to read: dataset, field, label, unit
    for (const name of new Set(["spans", "phases", "decisions", ...readings.map(([dataset]) => dataset)])) {
      try { data[name] = view.data(name).slice().sort((a, b) => a.t - b.t); } catch { data[name] = null; }
    }
    const press = (button) => buttons.forEach((one) => one.setAttribute("aria-pressed", one === button));
    const go = (from, to) => { view.signal("zoom_t", [from, to]); return view.runAsync(); };
    for (const button of buttons) {
      button.addEventListener("click", () => { press(button); go(Number(button.dataset.from), Number(button.dataset.to)); });
    }
    press(buttons[0]);
    // A link can name the seconds to show: report.html#t=4.1,6.3
    const wanted = /^#t=([\d.]+),([\d.]+)$/.exec(location.hash);
    if (wanted) { press(null); await go(Number(wanted[1]), Number(wanted[2])); }
    view.addSignalListener("zoom_t", () => { if (document.activeElement?.dataset.from === undefined) press(null); });
    place.addEventListener("dblclick", () => { press(buttons[0]); });
    place.addEventListener("pointerdown", () => { document.activeElement?.blur(); hide(); });
    const hide = () => { cursor.style.display = tip.style.display = "none"; };
    place.addEventListener("pointerleave", hide);
    place.addEventListener("pointermove", (event) => {
      const area = plotArea(place);
      if (!area || event.buttons || event.clientX < area.left || event.clientX > area.left + area.width) return hide();
      const [from, to] = view.scale("x").domain();
      const time = from + ((event.clientX - area.left) / area.width) * (to - from);
      const x = event.clientX - area.base.left;
      Object.assign(cursor.style, {
        display: "block", left: `${x}px`, top: `${area.top - area.base.top}px`, height: `${area.bottom - area.top}px`,
      });
      const digits = Math.min(6, Math.max(2, Math.ceil(3 - Math.log10(to - from))));
      tip.replaceChildren(element("b", "", `${time.toFixed(digits)} s`));
      for (const [label, value] of describe(readings, data, time, Math.max((to - from) / 100, 0.02))) {
        const line = tip.appendChild(element("div"));
        line.append(element("span", "", label), element("span", "", value));
      }
      tip.style.display = "block";
      const right = x + 18 + tip.offsetWidth < area.base.width;
      tip.style.left = `${right ? x + 14 : Math.max(0, x - 14 - tip.offsetWidth)}px`;
      tip.style.top = `${Math.min(event.clientY - area.base.top + 12, area.base.height - tip.offsetHeight)}px`;
    });
  };

  const copy = async (button) => {
    const text = button.dataset.copy ?? button.parentElement.querySelector("pre").textContent;
    const label = button.textContent;
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      // Without the clipboard's permission an old way still works.
      const area = document.body.appendChild(element("textarea"));
      area.value = text;
      area.select();
      document.execCommand("copy");
      area.remove();
    }
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = label; }, 1200);
  };
  document.addEventListener("click", (event) => {
    const button = event.target.closest("button.copy");
    if (button) copy(button);
  });

  const start = async () => {
    for (const place of document.querySelectorAll("[data-plot]")) {
      const view = await draw(place);
      if (place.dataset.plot === "timeline") await linked(view, place);
    }
    root.dataset.status = "drawn";
  };
  start().catch((error) => {
    root.dataset.status = "failed";
    console.error(error);
  });
})();

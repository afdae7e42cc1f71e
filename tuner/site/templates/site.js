"use strict";
/* Tables sort, charts tell their values, two nights are compared. No library, no network. */
(() => {
  const data = JSON.parse(document.getElementById("data")?.textContent ?? "null");

  // --- tables -------------------------------------------------------------------------------------
  const keyOf = (cell) => {
    const text = cell.dataset.value ?? cell.textContent.trim();
    const number = parseFloat(text.replace("\u2212", "-"));
    return text === "" ? null : Number.isNaN(number) || /^\d{8}-/.test(text) ? text : number;
  };
  const compare = (a, b) => typeof a === typeof b
    ? (typeof a === "number" ? a - b : a.localeCompare(b)) : (typeof a === "number" ? -1 : 1);

  const sort = (header) => {
    const table = header.closest("table"), column = header.cellIndex, body = table.tBodies[0];
    const down = header.getAttribute("aria-sort") === "ascending";
    for (const other of header.parentNode.children) other.removeAttribute("aria-sort");
    header.setAttribute("aria-sort", down ? "descending" : "ascending");
    const rows = [...body.rows].map((row) => [keyOf(row.cells[column]), row]);
    rows.sort(([a], [b]) => {
      if (a === null || b === null) return (a === null) - (b === null); // rows without a value stay last
      return down ? compare(b, a) : compare(a, b);
    });
    body.append(...rows.map(([, row]) => row));
  };
  for (const button of document.querySelectorAll("table.sortable th button"))
    button.addEventListener("click", () => sort(button.closest("th")));

  // --- charts -------------------------------------------------------------------------------------
  const chart = (figure) => {
    const svg = figure.querySelector("svg"), readout = figure.querySelector(".readout");
    const cursor = svg.querySelector(".cursor"), { width, height } = svg.viewBox.baseVal;
    const left = Number(svg.dataset.left), right = Number(svg.dataset.right);
    const { lines } = data.charts[figure.dataset.chart], nights = data.nights.length;
    const step = (right - left) / nights;
    let at = nights - 1;
    const show = (index) => {
      at = Math.max(0, Math.min(nights - 1, index));
      const x = left + (at + 0.5) * step;
      cursor.setAttribute("d", `M${x} 8V${height - 20}`);
      readout.replaceChildren();
      const bold = document.createElement("b");
      bold.textContent = data.nights[at][0];
      readout.append(bold, ` ${data.nights[at][1]} ${data.outcomes[at]}`);
      for (const [name, values] of lines) if (values[at] !== null) readout.append(` \u00b7 ${name} ${values[at]}`);
    };
    svg.addEventListener("pointermove", (event) => {
      const box = svg.getBoundingClientRect();
      show(Math.floor(((event.clientX - box.left) / box.width * width - left) / step));
    });
    figure.addEventListener("focus", () => show(at));
    figure.addEventListener("keydown", (event) => {
      const moves = { ArrowLeft: at - 1, ArrowRight: at + 1, Home: 0, End: nights - 1 };
      if (event.key in moves) { event.preventDefault(); show(moves[event.key]); }
    });
  };
  if (data?.charts) for (const figure of document.querySelectorAll("figure.chart")) chart(figure);

  // --- two nights ---------------------------------------------------------------------------------
  const form = document.getElementById("pick");
  if (!form) return;
  const nights = new Map(), waiting = new Map();
  window.tunerNight = (id, night) => { nights.set(id, night); waiting.get(id)?.(); };
  const load = (id) => new Promise((resolve, reject) => {
    if (nights.has(id)) return resolve();
    waiting.set(id, resolve);
    const script = document.createElement("script");
    script.src = `data/nights/${encodeURIComponent(id)}.js`;
    script.onerror = () => reject(new Error(`night ${id} cannot be loaded`));
    document.head.append(script);
  });
  const own = (cell) => cell.seconds?.searched ?? cell.seconds?.rebuilt ?? cell.seconds?.reference;
  const time = (seconds) => seconds === undefined ? "" : `${(1e3 * seconds).toPrecision(3)} ms`;
  const value = (cell) => cell.log_ratios?.["searched/optimum"] === undefined ? time(own(cell))
    : `${(100 * Math.expm1(cell.log_ratios["searched/optimum"])).toFixed(1)} % over the optimum`;
  const percent = (log) => `${log < 0 ? "\u2212" : "+"}${Math.abs(100 * Math.expm1(log)).toFixed(2)} %`;
  const limitOf = (a, b, series) => b.thresholds?.[series] ?? a.thresholds?.[series];
  const changeOf = (a, b) => {
    const name = "searched/reference", space = "searched/optimum";
    if (a.log_ratios && b.log_ratios && space in a.log_ratios && space in b.log_ratios)
      return [b.log_ratios[space] - a.log_ratios[space], "the optimum", limitOf(a, b, space)];
    const ratio = (cell, night) => cell.reference === night ? 0 : cell.log_ratios?.[name];
    if (a.reference && a.reference === b.reference && a.seconds && b.seconds) {
      const [from, to] = [ratio(a, a.night), ratio(b, b.night)];
      if (from !== undefined && to !== undefined)
        return [to - from, `the reference of night ${a.reference}`, limitOf(a, b, name)];
    }
    const [from, to] = [own(a), own(b)];
    return from === undefined || to === undefined ? [undefined, ""]
      : [Math.log(to / from), "the clock alone", limitOf(a, b, "clock")];
  };
  const row = (id, a, b) => {
    const line = document.createElement("tr");
    const add = (label, text, value, kind) => {
      const cell = document.createElement("td");
      cell.dataset.label = label;
      if (value !== undefined) cell.dataset.value = value;
      if (kind) cell.className = kind;
      cell.append(text);
      line.append(cell);
    };
    const link = document.createElement("a");
    link.href = `cells/${id}.html`;
    link.textContent = (b ?? a).name;
    add("cell", link, link.textContent, "name");
    add("from", a ? a.outcome : "not there");
    add("to", b ? b.outcome : "not there");
    add("seconds, from", a ? value(a) : "", (a && own(a)) ?? "", "number");
    add("seconds, to", b ? value(b) : "", (b && own(b)) ?? "", "number");
    const [change, against, limit] = a && b ? changeOf(a, b) : [undefined, ""];
    add("change", change === undefined ? "" : percent(change), change ?? "", "number");
    const side = limit === undefined ? undefined : change < 0 ? -limit : limit;
    add("threshold", side === undefined ? "" : percent(side), limit ?? "", "number");
    add("against", against);
    return line;
  };
  const show = async () => {
    const [a, b] = [form.a.value, form.b.value], note = document.getElementById("changed");
    history.replaceState(null, "", `#${encodeURIComponent(a)}..${encodeURIComponent(b)}`);
    try {
      await Promise.all([load(a), load(b)]);
    } catch (error) {
      note.textContent = error.message;
      return;
    }
    const [from, to] = [nights.get(a), nights.get(b)];
    for (const night of [from, to]) for (const cell of Object.values(night.cells)) cell.night = night.night.id;
    const said = [`commit ${from.night.commit.slice(0, 12) || "unknown"} to ${to.night.commit.slice(0, 12) || "unknown"}`];
    for (const name of new Set([...Object.keys(from.night.versions), ...Object.keys(to.night.versions)]))
      if (from.night.versions[name] !== to.night.versions[name])
        said.push(`${name} ${from.night.versions[name] ?? "none"} to ${to.night.versions[name] ?? "none"}`);
    note.textContent = said.join("; ");
    const ids = new Set([...Object.keys(from.cells), ...Object.keys(to.cells)]);
    document.querySelector("#compared tbody").replaceChildren(...[...ids].map((id) => row(id, from.cells[id], to.cells[id])));
  };
  const choose = () => {
    const [a, b] = decodeURIComponent(location.hash.slice(1)).split("..");
    const known = [...form.a.options].map((option) => option.value);
    form.b.value = known.includes(b) ? b : known[0] ?? "";
    form.a.value = known.includes(a) ? a : known[1] ?? known[0] ?? "";
    if (known.length) show();
  };
  form.addEventListener("change", show);
  window.addEventListener("hashchange", choose);
  choose();
})();

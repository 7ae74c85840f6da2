// Everything is already on the page; this sorts, filters and points. All text goes in as text.
(() => {
  const body = document.querySelector(".cells tbody");
  const rows = all("tr", body);
  const heads = all(".cells thead th");
  const groupChoice = byId("group");
  const tip = byId("tip");
  const hidden = { engine: new Set(), family: new Set() };

  // Which rows the choices leave, and which of them is the fastest of its network.
  function chosen() {
    const words = byId("find").value.toLowerCase().split(/\s+/).filter(Boolean);
    const left = rows.filter((row) =>
      (!groupChoice || row.dataset.group === groupChoice.value) &&
      !hidden.engine.has(row.dataset.engine) && !hidden.family.has(row.dataset.family) &&
      words.every((word) => row.dataset.tip.toLowerCase().includes(word)));
    const best = new Map();
    for (const row of left) {
      const other = best.get(row.dataset.model);
      if (!other || Number(row.dataset.latency) < Number(other.dataset.latency)) best.set(row.dataset.model, row);
    }
    return { left: new Set(left), best };
  }

  function show() {
    const { left, best } = chosen();
    const fastest = new Set(best.values());
    const listed = byId("every").checked ? left : fastest;
    for (const row of rows) row.hidden = !listed.has(row);
    const total = rows.filter((row) => !groupChoice || row.dataset.group === groupChoice.value).length;
    byId("count").textContent = `${listed.size} of ${total} cells`;
    for (const section of all("section.group")) {
      section.hidden = Boolean(groupChoice) && section.dataset.group !== groupChoice.value;
    }
    for (const chart of all(".chart")) {
      const place = new Map();
      for (const point of all(".point", chart)) {
        const row = byId(point.dataset.row);
        point.classList.toggle("best", fastest.has(row));
        point.toggleAttribute("hidden", !left.has(row));
        point.style.display = left.has(row) ? "" : "none";
        const { e, f } = point.transform.baseVal.getItem(0).matrix;
        place.set(row, [e, f]);
      }
      for (const name of all(".name", chart)) {
        const home = byId(name.dataset.row);
        const now = best.get(home.dataset.model);
        name.style.display = now && place.has(now) ? "" : "none";
        if (!now || !place.has(now)) continue;
        const [from, to] = [place.get(home), place.get(now)];
        name.setAttribute("transform", `translate(${to[0] - from[0]} ${to[1] - from[1]})`);
      }
      const front = chart.querySelector(".front");
      if (front) front.setAttribute("d", staircase([...fastest].map((row) => place.get(row)).filter(Boolean)));
    }
  }

  // From the fastest on, each point that is more accurate than all before it.
  function staircase(points) {
    let path = "", top = Infinity;
    for (const [x, y] of points.sort((a, b) => a[0] - b[0] || a[1] - b[1])) {
      if (y >= top) continue;
      path += path ? `H${x}V${y}` : `M${x} ${y}`;
      top = y;
    }
    return path;
  }

  function sort(head) {
    const index = heads.indexOf(head);
    const compare = order(heads, head, true);
    rows.sort((a, b) => compare(a.children[index].dataset.v, b.children[index].dataset.v));
    body.append(...rows);
  }

  function point(row, x, y) {
    const facts = document.createElement("dl");
    heads.forEach((head, index) => {
      if (!head.classList.contains("number")) return;
      const [title, unit] = [head.firstElementChild.firstChild.textContent, head.querySelector("small").textContent];
      facts.append(make("dt", title), make("dd", `${row.children[index].textContent} ${unit}`));
    });
    facts.append(make("dt", "95 % interval"), make("dd", row.dataset.interval));
    const remarks = all(".note", row).map((note) => make("span", note.textContent, "note"));
    tell(x, y, make("b", row.dataset.tip), facts, ...remarks);
  }

  function light(row) {
    for (const lit of all(".lit")) lit.classList.remove("lit");
    if (!row) { tip.hidden = true; return; }
    row.classList.add("lit");
    for (const mark of all(".point")) if (mark.dataset.row === row.id) mark.classList.add("lit");
  }

  for (const chart of all(".chart")) {
    chart.addEventListener("pointermove", (event) => {
      const mark = event.target.closest(".point");
      light(mark && byId(mark.dataset.row));
      if (mark) point(byId(mark.dataset.row), event.clientX, event.clientY);
    });
    chart.addEventListener("pointerleave", () => light(null));
  }
  body.addEventListener("pointerover", (event) => light(event.target.closest("tr")));
  body.addEventListener("pointerleave", () => light(null));
  addEventListener("scroll", () => { tip.hidden = true; }, { passive: true });
  addEventListener("keydown", (event) => { if (event.key === "Escape") light(null); });
  for (const head of heads) head.querySelector("button")?.addEventListener("click", () => sort(head));
  for (const kind of ["engine", "family"]) {
    for (const button of all(`button[data-${kind}]`)) {
      button.addEventListener("click", () => {
        const name = button.dataset[kind];
        const off = !hidden[kind].delete(name);
        if (off) hidden[kind].add(name);
        button.setAttribute("aria-pressed", String(!off));
        show();
      });
    }
  }
  byId("find").addEventListener("input", show);
  byId("every").addEventListener("change", show);
  groupChoice?.addEventListener("change", show);
  document.body.classList.add("live");   // one setting at a time is shown, so the rows need not name it
  show();
})();
